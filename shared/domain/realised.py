"""The performance of a model on what it predicted, once the labels have landed, beside that on its held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from shared.domain.durations import in_words
from shared.domain.performance import CONFIDENCE, TOLERANCE
from shared.domain.pipelines import Gate

RELATIVE = frozenset({"rmse", "mae", "log_loss"})
"""Metrics in the label's unit or without an upper end: of them the tolerance is a share of the held-out value."""


@dataclass(frozen=True, kw_only=True)
class Realised:
    """A metric of ``rows`` predictions whose labels landed, ``late`` after them (median), and on the held-out rows.

    ``gain`` is turned so that negative is worse, whatever the metric; ``low`` to ``high`` is its interval at
    :data:`~shared.domain.performance.CONFIDENCE`. A loss of less than ``tolerance``, in the metric's unit, is none.
    """

    metric: str
    value: float
    held_out: float
    gain: float
    low: float
    high: float
    rows: int
    late: timedelta
    tolerance: float = TOLERANCE

    @property
    def hurt(self) -> bool:
        """True when the model is worse than it was for certain, and by enough to matter."""
        return self.high < 0 and -self.gain >= self.tolerance

    def sentence(self) -> str:
        """The measurement in words."""
        verdict = "performance is hurt" if self.hurt else "performance is not hurt"
        return (
            f"{self.metric} was {self.value:.3f} on {self.rows:,} predictions whose labels landed"
            f" {in_words(self.late)} later, against {self.held_out:.3f} on the held-out rows"
            f" (gain {self.low:+.3f} to {self.high:+.3f}): {verdict}"
        )


def realised(
    labels: Sequence[Any],
    predictions: Sequence[Any],
    positive: Sequence[float] | None,
    late: Sequence[timedelta],
    gate: Gate,
    held_out: dict[str, float],
    held_out_rows: int,
    tolerance: float,
) -> Realised | None:
    """The gate's metric on ``labels`` and what was predicted of them, all (n,); None where it cannot be measured.

    ``positive`` are the probabilities of a binary classifier's positive class; without them a metric of
    probabilities gives place to accuracy. ``held_out`` has the metrics on the version's ``held_out_rows``.

    The interval is a percentile bootstrap of these rows (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
    ch. 13), widened by the square root of 1 + n / held-out rows: those, too, were a sample, with an error that falls
    with the root of its size.
    """
    import numpy as np

    from shared.domain.categories import encode, in_order
    from shared.domain.gate import Predictions, resample
    from shared.domain.metrics import LOSSES, PROBABILITIES

    if not labels:
        return None
    truth, answers = _array(labels), _array(predictions)
    probabilities, classes = None, None
    if gate.metric in PROBABILITIES:
        known = in_order({*encode(truth)[1], *encode(answers)[1]})
        if positive is None or len(known) != 2:
            gate = replace(gate, metric="accuracy")
        else:
            chance = np.array(positive, dtype=np.float64)
            classes, probabilities = known, np.column_stack([1 - chance, chance])
            if gate.positive is not None and known[0].lower() == gate.positive.lower():
                probabilities = probabilities[:, ::-1]
    measured = resample(truth, Predictions(answers, probabilities, classes), gate)
    before = held_out.get(gate.metric)
    if measured is None or before is None:
        return None
    value, drawn = measured
    sign = -1 if gate.metric in LOSSES else 1
    wider = (1 + len(labels) / max(held_out_rows, 1)) ** 0.5
    ends = np.quantile(sign * (drawn - value), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) * wider
    gain = sign * (value - before)
    return Realised(
        metric=gate.metric,
        value=value,
        held_out=before,
        gain=gain,
        low=gain + float(ends[0]),
        high=gain + float(ends[1]),
        rows=len(labels),
        late=sorted(late)[len(late) // 2],
        tolerance=tolerance * before if gate.metric in RELATIVE else tolerance,
    )


def _array(values: Sequence[Any]) -> Any:
    import numpy as np

    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
