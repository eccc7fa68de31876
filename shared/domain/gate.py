"""The champion/challenger gate: predictions on the same held-out rows in, verdict in words and numbers out.

numpy is imported on first use: the ledger's entries, and with them every function, import this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shared.domain.compiled import Compiled
from shared.domain.performance import Calibration
from shared.domain.pipelines import Gate

if TYPE_CHECKING:
    import numpy as np

    from shared.domain.metrics import Weighted


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    """The gate's metric on the rows where ``column`` is ``value``.

    ``gain`` is positive when the challenger is better; ``gain_low`` to ``gain_high`` is its paired
    bootstrap interval over the slice's rows, measured where the challenger is worse, else None.
    """

    column: str
    value: str
    rows: int
    challenger: float
    champion: float
    gain: float
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Challenger and champion measured on the same held-out rows.

    ``challenger`` and ``champion`` map metric names to values (champion is empty when there is
    none). ``gain`` is the challenger's advantage in the gate's metric, turned so that positive is
    better, with its paired bootstrap interval; None without a champion. Latencies are the median of
    one-row calls in milliseconds, the challenger's in its compiled form if that will serve; ``size_mb``
    are the challenger's files in megabytes. ``problems`` are
    reasons why the numbers cannot be trusted (one class only, no rows, predictions not finite).
    ``compiled`` says whether the challenger's compiled form may answer in its place, ``calibration`` how
    often its probabilities are right; None when it is no binary classifier that could be calibrated.
    """

    rows: int
    challenger: dict[str, float]
    champion: dict[str, float] = field(default_factory=dict)
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    slices: tuple[SliceResult, ...] = ()
    latency_ms: float = 0.0
    champion_latency_ms: float | None = None
    size_mb: float = 0.0
    problems: tuple[str, ...] = ()
    compiled: Compiled | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Rule:
    """One rule of the gate, whether the challenger met it, and a sentence with the numbers."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``promote`` or keep the champion; ``summary`` is one sentence, ``rules`` tell why."""

    promote: bool
    summary: str
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Predictions:
    """What one model said of n rows.

    ``labels`` (n,) are predicted classes of any dtype, or numbers for regression. ``probabilities``
    (n, K) has one column per entry of ``classes``; both are None when the model gives none. Classes are
    compared as text (:func:`shared.domain.categories.text_of`), so 1, 1.0 and "1" are one class.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None = None
    classes: list[Any] | None = None


def compare(
    y: np.ndarray,
    challenger: Predictions,
    champion: Predictions | None,
    gate: Gate,
    slices: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Both models measured on the true labels ``y`` (n,) of the same rows; the caller adds latencies and size.

    Every metric that the predictions allow is measured for both; one that is undefined on these rows is
    left out. The gain in ``gate.metric`` gets a paired bootstrap percentile interval at
    ``gate.confidence`` (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): rows are
    drawn with replacement, the same draw for both models, and the interval runs between the quantiles of
    the gains on those draws, so identical predictions have a gain and an interval of exactly zero. Draws
    on which the metric is undefined (no positive row) are left out.

    ``slices`` maps a column to its values (n,) on these rows; each value with at least
    ``gate.min_slice_rows`` rows is compared in the same way, unless the metric is undefined there; an
    interval is made where the challenger is worse.

    Rows without a label are left out. Beyond 50,000 rows fewer than 1,000 resamples are made (see
    :mod:`shared.domain.resampling`); metrics of labels alone are resampled by distinct truth and
    predictions, which costs the same for any number of rows. The same arguments give the same result.
    Bad predictions raise nothing: they become ``problems``. Raises ValueError when ``gate.metric`` is no
    metric.
    """
    import numpy as np

    from shared.domain import metrics
    from shared.domain.resampling import affordable

    if gate.metric not in metrics.CLASSIFICATION + metrics.REGRESSION:
        raise ValueError(
            f"{gate.metric!r} is no metric; known are {', '.join(metrics.CLASSIFICATION + metrics.REGRESSION)}"
        )
    y = np.asarray(y)
    models = {"challenger": challenger} if champion is None else {"challenger": challenger, "champion": champion}
    problems = [f"{name}: {fault}" for name, model in models.items() for fault in _shape_faults(model, len(y))]
    if problems:
        return Evaluation(rows=len(y), challenger={}, problems=tuple(problems))
    rows, problems = (_as_numbers if gate.metric in metrics.REGRESSION else _as_classes)(y, models, gate)
    if problems:
        return Evaluation(rows=len(rows.y), challenger={}, problems=tuple(problems))

    values = {name: rows.values(name) for name in models}
    problems = [
        f"{name}: {gate.metric} {_why_unmeasured(gate.metric, models[name])}"
        for name in models
        if gate.metric not in values[name]
    ]
    evaluation = Evaluation(rows=len(rows.y), challenger=values["challenger"], champion=values.get("champion", {}))
    if champion is not None and not problems:
        resamples = affordable(resamples, len(rows.y))
        low, high = rows.interval(gate, resamples, seed)
        if low is None:
            problems.append(
                f"{gate.metric} is undefined on most resamples of the {len(rows.y)} rows, one class is too rare"
            )
        evaluation = replace(
            evaluation,
            gain=_gain(gate.metric, values["challenger"][gate.metric], values["champion"][gate.metric]),
            gain_low=low,
            gain_high=high,
            slices=tuple(_slice_results(rows, gate, slices, resamples, seed)),
        )
    return replace(evaluation, problems=tuple(problems))


def resample(
    y: np.ndarray, model: Predictions, gate: Gate, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, np.ndarray] | None:
    """``gate.metric`` of one model on rows with the true labels ``y`` (n,), and on bootstrap samples of them (m,).

    None where :func:`compare` would say why it cannot be measured. Draws on which it is undefined are left out.
    """
    import numpy as np

    from shared.domain import metrics
    from shared.domain.resampling import affordable, resampled_differences

    name = "challenger"
    rows, problems = (_as_numbers if gate.metric in metrics.REGRESSION else _as_classes)(
        np.asarray(y), {name: model}, gate
    )
    if problems or (gate.metric in metrics.PROBABILITIES and not rows.probabilities):
        return None
    size = len(rows.y)
    drawn = resampled_differences(
        rows.scorer(gate.metric, name),
        lambda weights: np.zeros(len(weights)),
        np.ones(size, dtype=np.int64),
        resamples=affordable(resamples, size),
        seed=seed,
    )
    value, defined = rows.value(gate.metric, name), drawn[np.isfinite(drawn)]
    return (value, defined) if np.isfinite(value) and len(defined) > len(drawn) / 2 else None


@dataclass(frozen=True)
class _Rows:
    """Labelled rows ready to be measured: class codes below ``classes`` (0 for regression), or floats.

    ``kept`` holds their positions among the rows given; ``positive`` and ``label_positive`` are what
    probability and label metrics take as the positive class, None for averages over the classes.
    """

    y: np.ndarray
    labels: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    kept: np.ndarray
    classes: int = 0
    positive: int | None = None
    label_positive: int | None = None

    def at(self, index: np.ndarray) -> _Rows:
        """The rows at these positions."""
        return replace(
            self,
            y=self.y[index],
            kept=self.kept[index],
            labels={name: labels[index] for name, labels in self.labels.items()},
            probabilities={name: given[index] for name, given in self.probabilities.items()},
        )

    def scorer(self, metric: str, model: str) -> Weighted:
        from shared.domain import metrics

        positive = self.positive if metric in metrics.PROBABILITIES else self.label_positive
        return metrics.scorer(
            metric, self.y, self.labels[model], self.probabilities.get(model), classes=self.classes, positive=positive
        )

    def value(self, metric: str, model: str) -> float:
        """The metric on these rows, NaN when it is undefined."""
        import numpy as np

        # Squares of finite numbers may exceed float64; the infinite metric is then reported as undefined.
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.scorer(metric, model)(np.ones((1, len(self.y))))[0])

    def values(self, model: str) -> dict[str, float]:
        """Every metric that is defined and that the model's predictions allow."""
        from shared.domain import metrics

        names: tuple[str, ...] = metrics.REGRESSION
        if self.classes:
            names = metrics.CLASSIFICATION if model in self.probabilities else metrics.LABELS
        found = {name: self.value(name, model) for name in names}
        return {name: value for name, value in found.items() if abs(value) < float("inf")}

    def interval(self, gate: Gate, resamples: int, seed: int) -> tuple[float, float] | tuple[None, None]:
        """The percentile interval of the challenger's gain; None when most resamples leave it undefined."""
        import numpy as np

        from shared.domain import metrics
        from shared.domain.resampling import resampled_differences

        rows, counts = self, np.ones(len(self.y), dtype=np.int64)
        if gate.metric in metrics.LABELS:
            cells = (self.y * self.classes + self.labels["challenger"]) * self.classes + self.labels["champion"]
            _, first, counts = np.unique(cells, return_index=True, return_counts=True)
            rows = self.at(first)
        differences = resampled_differences(
            rows.scorer(gate.metric, "challenger"),
            rows.scorer(gate.metric, "champion"),
            counts,
            resamples=resamples,
            seed=seed,
        )
        if np.isnan(differences).mean() > 0.5:
            return None, None
        tail = (1 - gate.confidence) / 2
        ends = np.nanquantile(differences, [tail, 1 - tail])
        low, high = -ends[::-1] if gate.metric in metrics.LOSSES else ends
        return float(low), float(high)


def _gain(metric: str, challenger: float, champion: float) -> float:
    from shared.domain.metrics import LOSSES

    return champion - challenger if metric in LOSSES else challenger - champion


def _slice_results(
    rows: _Rows, gate: Gate, slices: Mapping[str, np.ndarray], resamples: int, seed: int
) -> Iterator[SliceResult]:
    import numpy as np

    from shared.domain.categories import encode

    for column, column_values in slices.items():
        codes, texts = encode(np.asarray(column_values)[rows.kept])
        for code, text in enumerate([*texts, "null"]):
            index = np.flatnonzero(codes == (code if code < len(texts) else -1))
            if len(index) < max(1, gate.min_slice_rows):
                continue
            part = rows.at(index)
            challenger, champion = part.value(gate.metric, "challenger"), part.value(gate.metric, "champion")
            if not (np.isfinite(challenger) and np.isfinite(champion)):
                continue
            gain = _gain(gate.metric, challenger, champion)
            low, high = part.interval(gate, resamples, seed) if gain < 0 else (None, None)
            yield SliceResult(
                column=column,
                value=text,
                rows=len(index),
                challenger=challenger,
                champion=champion,
                gain=gain,
                gain_low=low,
                gain_high=high,
            )


def _shape_faults(model: Predictions, rows: int) -> Iterator[str]:
    import numpy as np

    labels = np.asarray(model.labels)
    if labels.shape != (rows,):
        yield f"gave predictions of shape {labels.shape} for {rows} rows"
    if model.probabilities is None:
        return
    shape = np.shape(model.probabilities)
    if model.classes is None or shape != (rows, len(model.classes)):
        named = "no classes" if model.classes is None else f"{len(model.classes)} classes"
        yield f"gave probabilities of shape {shape} for {rows} rows and {named}"


def _as_numbers(y: np.ndarray, models: dict[str, Predictions], gate: Gate) -> tuple[_Rows, list[str]]:
    import numpy as np

    problems: list[str] = []
    truth = _floats(y)
    if truth is None:
        problems.append(f"{gate.metric} needs numbers as labels, the held-out rows have others")
        truth = np.full(len(y), np.nan)
    kept = np.flatnonzero(~np.isnan(truth))
    labels = {}
    for name, model in models.items():
        numbers = _floats(np.asarray(model.labels))
        if numbers is None:
            problems.append(f"{name}: {gate.metric} needs numbers as predictions, it gave others")
            continue
        labels[name] = numbers[kept]
        problems += _not_finite(name, "predictions", labels[name])
    rows = _Rows(y=truth[kept], labels=labels, probabilities={}, kept=kept)
    problems += _not_finite("held-out rows", "labels", rows.y)
    if not problems and not len(kept):
        problems.append(f"there are no held-out rows with a label ({len(y)} without)")
    if gate.metric == "r2" and len(kept) and rows.y.min() == rows.y.max():
        problems.append(f"r2 is undefined, the label is {rows.y[0]:g} on all {len(kept)} held-out rows")
    return rows, problems


def _as_classes(y: np.ndarray, models: dict[str, Predictions], gate: Gate) -> tuple[_Rows, list[str]]:
    import numpy as np

    from shared.domain.categories import encode, in_order, text_of

    truth, truth_texts = encode(y)
    kept = np.flatnonzero(truth >= 0)
    predicted = {name: encode(np.asarray(model.labels)) for name, model in models.items()}
    named = {name: [text_of(value) or "null" for value in model.classes or ()] for name, model in models.items()}
    known = in_order(
        {*truth_texts, *(t for _, texts in predicted.values() for t in texts), *(t for n in named.values() for t in n)}
    )
    code_of = {text: code for code, text in enumerate(known)}

    problems: list[str] = []
    labels: dict[str, np.ndarray] = {}
    probabilities: dict[str, np.ndarray] = {}
    for name, model in models.items():
        codes, texts = predicted[name]
        labels[name] = _recode(codes, texts, code_of)[kept]
        missing = int((labels[name] < 0).sum())
        if missing:
            problems.append(f"{name}: {missing} of {len(kept)} predictions are missing")
        elif truth_texts and not set(truth_texts) & {*texts, *named[name]}:
            problems.append(
                f"{name}: it knows the classes {_listed(texts)}, the held-out rows have {_listed(truth_texts)}"
            )
        if model.probabilities is None:
            continue
        given = _floats(np.asarray(model.probabilities)[kept])
        if given is None:
            problems.append(f"{name}: probabilities are not numbers")
            continue
        faults = _not_finite(name, "probabilities", given)
        if not faults and len(given) and (given.min() < -1e-6 or given.max() > 1 + 1e-6):
            faults = [f"{name}: probabilities lie between {given.min():.3g} and {given.max():.3g}, not within 0 and 1"]
        problems += faults
        # A class that the model does not know has probability 0.
        probabilities[name] = np.zeros((len(kept), len(known)))
        probabilities[name][:, [code_of[text] for text in named[name]]] = given
    rows = _Rows(
        y=_recode(truth, truth_texts, code_of)[kept],
        labels=labels,
        probabilities=probabilities,
        kept=kept,
        classes=len(known),
    )
    if not len(kept):
        problems.append(f"there are no held-out rows with a label ({len(y)} without)")
    elif len(truth_texts) == 1:
        problems.append(
            f"all {len(kept)} held-out rows have the label {truth_texts[0]!r}, so nothing can be told apart"
        )
    if len(known) != 2:
        return rows, problems
    positive = _positive(gate, known)
    if positive is None:
        problems.append(f"gate.positive is {gate.positive!r}, the classes are {_listed(known)}")
    return replace(rows, positive=positive, label_positive=None if gate.average == "weighted" else positive), problems


def _positive(gate: Gate, known: list[str]) -> int | None:
    if gate.positive is None:
        return len(known) - 1
    return next((code for code, text in enumerate(known) if text.lower() == gate.positive.lower()), None)


def _recode(codes: np.ndarray, texts: list[str], code_of: dict[str, int]) -> np.ndarray:
    import numpy as np

    return np.array([*(code_of[text] for text in texts), -1], dtype=np.int64)[codes]


def _floats(values: np.ndarray) -> np.ndarray | None:
    """As float64, None and null as NaN; None when something is no number."""
    import numpy as np

    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _not_finite(name: str, what: str, values: np.ndarray) -> list[str]:
    import numpy as np

    bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum()) if len(values) else 0
    return [f"{name}: {bad} of {len(values)} {what} are not finite"] if bad else []


def _why_unmeasured(metric: str, model: Predictions) -> str:
    from shared.domain.metrics import PROBABILITIES

    if metric in PROBABILITIES and model.probabilities is None:
        return "needs probabilities, the model gives labels only"
    return "is undefined or not finite on these rows"


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def decide(evaluation: Evaluation, gate: Gate, *, challenger: str, champion: str | None) -> Verdict:
    """The gate's verdict on version ``challenger`` against version ``champion`` (None: no champion yet).

    The challenger is promoted when it meets every rule. trust: the evaluation has no problems. gain and
    interval: the gain is at least ``min_gain`` and its interval lies above zero, so a tie keeps the
    champion; neither applies without a champion. floor: no metric of ``floors`` is below its bound (a
    loss: above). slices: none lost more than ``slice_tolerance`` with an interval wholly below zero; a
    loss that the slice's own noise can explain does not count, because among many small slices one
    always looks bad. latency and size: within their limits.
    """
    rules = [*_rules(evaluation, gate, champion)]
    failed = [rule for rule in rules if not rule.passed]
    promote = not failed
    if champion is None:
        opening = f"promote version {challenger}" if promote else f"turn down version {challenger}"
    else:
        opening = f"promote version {challenger} over version {champion}" if promote else f"keep version {champion}"
    parts = [_measured(evaluation, gate, champion)] if not evaluation.problems else []
    # The first part shows the interval already; the gain that was asked for is news when that is not why.
    told = {"interval"} | ({"gain"} if any(rule.name == "interval" for rule in failed) else set())
    parts += [rule.text for rule in failed if rule.name not in told]
    return Verdict(promote=promote, summary=f"{opening}: {'; '.join(parts)}", rules=tuple(rules))


def _rules(evaluation: Evaluation, gate: Gate, champion: str | None) -> Iterator[Rule]:
    from shared.domain.metrics import LOSSES

    trusted = not evaluation.problems
    text = (
        "the measurement can be trusted"
        if trusted
        else f"the measurement cannot be trusted: {'; '.join(evaluation.problems)}"
    )
    yield Rule("trust", trusted, text)
    if not trusted:
        return
    if champion is not None:
        yield from _gain_rules(evaluation, gate, champion)
    for metric, bound in gate.floors.items():
        value = evaluation.challenger.get(metric)
        loss = metric in LOSSES
        if value is None:
            yield Rule(
                f"floor {metric}",
                False,
                f"{metric} was not measured, its {'ceiling' if loss else 'floor'} is {_number(bound)}",
            )
            continue
        passed = value <= bound if loss else value >= bound
        side = "within" if passed else "above" if loss else "below"
        if passed and not loss:
            side = "not below"
        yield Rule(f"floor {metric}", passed, f"{metric} {_number(value)} is {side} {_number(bound)}")
    if gate.slices and champion is not None:
        worse = [
            part
            for part in evaluation.slices
            if part.gain < -gate.slice_tolerance and (part.gain_high is None or part.gain_high < 0)
        ]
        for part in worse:
            yield Rule(f"slice {part.column}={part.value}", False, _slice_text(part, gate))
        if not worse:
            yield Rule(
                "slices",
                True,
                f"none of {len(evaluation.slices)} slices lost more than {_number(gate.slice_tolerance)}",
            )
    form = ", compiled as it will be served," if evaluation.compiled and evaluation.compiled.verified else ""
    yield _limit("latency", evaluation.latency_ms, gate.max_latency_ms, f"ms per row{form}")
    yield _limit("size", evaluation.size_mb, gate.max_size_mb, "MB")


def _gain_rules(evaluation: Evaluation, gate: Gate, champion: str) -> Iterator[Rule]:
    gain, low, high = evaluation.gain, evaluation.gain_low, evaluation.gain_high
    if gain is None or low is None or high is None:
        yield Rule("gain", False, f"the gain over version {champion} was not measured")
        return
    yield Rule(
        "gain",
        gain >= gate.min_gain,
        f"the gain in {gate.metric} is {_number(gain)}, at least {_number(gate.min_gain)} is asked for",
    )
    place = "lies above zero" if low > 0 else "does not lie above zero"
    yield Rule("interval", low > 0, f"the {_interval(gate, low, high)} of the gain {place}")


def _limit(name: str, value: float, limit: float, unit: str) -> Rule:
    passed = value <= limit
    return Rule(name, passed, f"{name} {_number(value)} {unit} is {'within' if passed else 'above'} {_number(limit)}")


def _slice_text(part: SliceResult, gate: Gate) -> str:
    return (
        f"on the {part.rows} rows with {part.column} {part.value} {gate.metric} is {_number(part.challenger)} "
        f"against {_number(part.champion)}, more than {_number(gate.slice_tolerance)} worse"
    )


def _measured(evaluation: Evaluation, gate: Gate, champion: str | None) -> str:
    value = evaluation.challenger.get(gate.metric)
    text = f"{gate.metric} {_number(value)}" if value is not None else f"{gate.metric} was not measured"
    if champion is None:
        return f"{text}, there is no champion yet"
    gain, low, high = evaluation.gain, evaluation.gain_low, evaluation.gain_high
    if gain is None or low is None or high is None:
        return text
    against = evaluation.champion.get(gate.metric, float("nan"))
    return f"{text} against {_number(against)}, gain {_number(gain)} ({_interval(gate, low, high)})"


def _interval(gate: Gate, low: float, high: float) -> str:
    return f"{100 * gate.confidence:.4g} % interval {_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Three decimals; more for what would be zero, none for thousands."""
    if value == 0:
        return "0"
    if abs(value) < 0.0005:
        return f"{value:.1g}"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
