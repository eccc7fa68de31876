"""The paired bootstrap: how much of a difference between two models could be the luck of the rows."""

from __future__ import annotations

import numpy as np

from shared.domain.metrics import Weighted

ROW_DRAWS = 50_000_000
"""Rows times resamples that :func:`affordable` allows."""
FEWEST_RESAMPLES = 200
"""Resamples that are made however many rows there are."""
CELLS = 2_000_000
"""Weights (float64) held at once: what bounds the memory."""


def affordable(resamples: int, rows: int) -> int:
    """How many of ``resamples`` to make of so many rows: all while :data:`ROW_DRAWS` allows, at least 200."""
    return min(resamples, max(FEWEST_RESAMPLES, ROW_DRAWS // rows))


def resampled_differences(
    first: Weighted, second: Weighted, counts: np.ndarray, *, resamples: int, seed: int
) -> np.ndarray:
    """``first`` minus ``second`` on ``resamples`` bootstrap samples of the same rows, float64 of shape (resamples,).

    ``counts`` (m,) says how many equal rows each of the m rows that the metrics were made of stands for.
    A sample on which a metric is undefined has NaN.
    """
    chunk = max(1, CELLS // len(counts))
    random = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for start in range(0, resamples, chunk):
        weights = _draw(counts, min(chunk, resamples - start), random)
        differences[start : start + chunk] = first(weights) - second(weights)
    return differences


def _draw(counts: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """How often each row is drawn when ``counts.sum()`` rows are drawn with replacement: multinomial, (size, m)."""
    rows, total = len(counts), int(counts.sum())
    if rows < total:
        return random.multinomial(total, counts / total, size=size).astype(np.float64)
    # For distinct rows, counting uniform draws gives the same distribution four times faster.
    weights = np.empty((size, rows))
    for sample in weights:
        sample[:] = np.bincount(random.integers(0, rows, rows), minlength=rows)
    return weights
