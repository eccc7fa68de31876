"""The performance of a binary classifier without labels: estimated from the probabilities that it gave.

Confidence-based performance estimation (CBPE), as NannyML has it and Bialek et al. describe it (Estimating
Model Performance Under Covariate Shift Without Labels, arXiv 2401.08348, 2024): a calibrated probability
says how often a prediction like this one is right, so that the expected confusion matrix follows from the
probabilities alone. Calibration is by histogram binning (Zadrozny & Elkan, Obtaining calibrated
probability estimates from decision trees and naive Bayesian classifiers, ICML 2001): the share of
positives among the held-out rows of each bin. So an estimate needs counts by bin and nothing else.

It sees what other rows do to performance, and nothing of what becomes of the same rows: when labels
depend on the features otherwise than they did, it stays as it was. numpy is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.drift import ColumnCounts, ColumnProfile

if TYPE_CHECKING:
    import numpy as np

CALIBRATION = "(calibration)"
"""The column of a summary that counts probabilities in a calibration's bins."""
METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc")
BINS = 10
"""Bins of equal size among the rows on either side of the threshold."""
MIN_ROWS = 200
"""Held-out rows below which nothing is calibrated."""
DRAWS = 1000
CONFIDENCE = 0.99
TOLERANCE = 0.01
"""The loss that is tolerated unless the pipeline says another."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """``rows`` and ``positives`` of the held-out rows by bin of the positive class's probability.

    Bin i holds edges[i-1] <= p < edges[i]. ``threshold`` is one of the edges: from it on the model says positive.
    """

    threshold: float
    edges: tuple[float, ...]
    rows: tuple[int, ...]
    positives: tuple[int, ...]

    @property
    def column(self) -> ColumnProfile:
        """The bins as a profile's column, for summaries to count in."""
        return ColumnProfile(kind="numeric", edges=self.edges, reference=ColumnCounts(counts=self.rows))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric as estimated, and on the held-out rows; ``low`` to ``high`` is the difference's interval.

    A loss of less than ``tolerance`` is none, however certain.
    """

    metric: str
    value: float
    held_out: float
    low: float
    high: float
    tolerance: float = TOLERANCE

    @property
    def hurt(self) -> bool:
        """True when the metric fell for certain, and by enough to matter."""
        return self.high < 0 and self.held_out - self.value >= self.tolerance

    def sentence(self) -> str:
        """The estimate in words."""
        verdict = "performance is hurt" if self.hurt else "performance is not hurt"
        return (
            f"{self.metric} is estimated at {self.value:.3f} against {self.held_out:.3f} on the held-out rows"
            f" (difference {self.low:+.3f} to {self.high:+.3f}): {verdict}"
        )


def calibrate(positive: np.ndarray, predicted: np.ndarray, probability: np.ndarray) -> Calibration | None:
    """The calibration of held-out rows: whether each is and was predicted positive (n,), and its probability (n,).

    None when there are fewer than :data:`MIN_ROWS` or rows of one class alone, when a probability is no number,
    or when predictions do not follow from a threshold of the probability.
    """
    import numpy as np

    if len(positive) < MIN_ROWS or positive.all() or not positive.any() or not np.isfinite(probability).all():
        return None
    if predicted.all() or not predicted.any():
        return None
    threshold = float(probability[predicted].min())
    if probability[~predicted].max() >= threshold:
        return None
    quantiles = np.arange(1, BINS) / BINS
    sides = [np.quantile(probability[side], quantiles, method="inverted_cdf") for side in (predicted, ~predicted)]
    edges = np.unique([*sides[0], *sides[1], threshold])
    bins = np.searchsorted(edges, probability, side="right")
    rows, positives = (np.bincount(bins, weights=weights, minlength=len(edges) + 1) for weights in (None, positive))
    return Calibration(
        threshold=threshold,
        edges=tuple(edges.tolist()),
        rows=tuple(rows.tolist()),
        positives=tuple(int(count) for count in positives),
    )


def estimate(
    calibration: Calibration, counted: ColumnCounts, metric: str, tolerance: float = TOLERANCE
) -> Estimate | None:
    """The metric on rows that were ``counted`` in the bins of ``calibration``; None where it is undefined.

    ``metric`` is one of :data:`METRICS`; roc_auc is that of the binned probability. Precision, recall and f1
    speak of the positive class. The interval, at :data:`CONFIDENCE`, is of the difference from the same
    calibration's held-out rows: each bin's share of positives is drawn from its posterior (Jeffreys
    prior), the new rows from their own distribution; the same arguments give the same interval.

    Raises ValueError for another metric.
    """
    import numpy as np

    if metric not in METRICS:
        raise ValueError(f"{metric!r} cannot be estimated; known are {', '.join(METRICS)}")
    before, now = np.array(calibration.rows, dtype=np.float64), np.array(counted.counts, dtype=np.float64)
    total = int(now.sum())
    if not total:
        return None
    positives = np.array(calibration.positives, dtype=np.float64)
    # A bin without held-out rows is as likely positive as not.
    shares = np.where(before > 0, positives / np.maximum(before, 1), 0.5)
    cut = calibration.edges.index(calibration.threshold) + 1
    value, held_out = (float(_metric(metric, rows, shares, cut)) for rows in (now, before))
    random = np.random.default_rng(0)
    drawn = random.beta(positives + 0.5, before - positives + 0.5, (DRAWS, len(before)))
    resampled = random.multinomial(total, now / total, DRAWS).astype(np.float64)
    differences = _metric(metric, resampled, drawn, cut) - _metric(metric, before, drawn, cut)
    if np.isnan([value, held_out]).any() or np.isnan(differences).any():
        return None
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(
        metric=metric, value=value, held_out=held_out, low=float(low), high=float(high), tolerance=tolerance
    )


def _metric(metric: str, rows: np.ndarray, shares: np.ndarray, cut: int) -> np.ndarray:
    """The expected metric of ``rows`` (..., bins), of which ``shares`` are positive; positive is said from bin ``cut``.

    NaN where it is undefined.
    """
    import numpy as np

    positives, negatives = rows * shares, rows * (1 - shares)
    right, missed = positives[..., cut:].sum(axis=-1), positives[..., :cut].sum(axis=-1)
    wrong, passed = negatives[..., cut:].sum(axis=-1), negatives[..., :cut].sum(axis=-1)
    if metric == "roc_auc":
        below = negatives.cumsum(axis=-1) - negatives / 2
        part, whole = (positives * below).sum(axis=-1), positives.sum(axis=-1) * negatives.sum(axis=-1)
    else:
        part, whole = {
            "accuracy": (right + passed, right + missed + wrong + passed),
            "precision": (right, right + wrong),
            "recall": (right, right + missed),
            "f1": (2 * right, 2 * right + wrong + missed),
        }[metric]
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
