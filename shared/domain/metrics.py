"""Metrics of predictions under many row weights at once.

Each metric is a function of the truth and the predictions that returns a :data:`Weighted`: it maps a
weight matrix of shape (resamples, rows) to one float64 value per resample, so that sorting and counting
are done once for a whole bootstrap. Values are those of scikit-learn's metrics of the same name with
``sample_weight``; where scikit-learn raises because the metric is undefined, the value is NaN.

Truth and labels are class codes 0 to K-1 (integers), or float64 for regression; probabilities are float64
of shape (rows, K).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Weighted = Callable[[np.ndarray], np.ndarray]
"""(resamples, rows) float64 weights to (resamples,) float64 values."""

LABELS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")
PROBABILITIES = ("roc_auc", "average_precision", "log_loss", "brier")
CLASSIFICATION = LABELS + PROBABILITIES
REGRESSION = ("rmse", "mae", "r2")
LOSSES = frozenset({"log_loss", "brier", "rmse", "mae"})
"""Metrics of which less is better."""


def scorer(
    metric: str,
    y: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray | None = None,
    *,
    classes: int = 0,
    positive: int | None = None,
) -> Weighted:
    """The metric called ``metric`` on these rows.

    ``positive`` is the code of the class that precision, recall, f1, roc_auc, average_precision and brier
    speak of; None gives averages weighted by class frequency (for brier the sum over the classes).
    Raises ValueError for an unknown metric, or when one of :data:`PROBABILITIES` gets none.
    """
    if metric in REGRESSION:
        return {"rmse": rmse, "mae": mae, "r2": r2}[metric](y, labels)
    if metric == "accuracy":
        return accuracy(y, labels)
    if metric == "balanced_accuracy":
        return balanced_accuracy(y, labels, classes)
    if metric in LABELS:
        return {"precision": precision, "recall": recall, "f1": f1}[metric](y, labels, classes, positive)
    if metric not in PROBABILITIES:
        raise ValueError(f"{metric!r} is no metric; known are {', '.join(CLASSIFICATION + REGRESSION)}")
    if probabilities is None:
        raise ValueError(f"{metric} needs probabilities")
    if metric == "log_loss":
        return log_loss(y, probabilities)
    if metric == "brier":
        return brier(y, probabilities, positive)
    ranking = {"roc_auc": roc_auc, "average_precision": average_precision}[metric]
    if positive is None:
        return one_versus_rest(ranking, y, probabilities)
    return ranking(y == positive, probabilities[:, positive])


def accuracy(y: np.ndarray, labels: np.ndarray) -> Weighted:
    """Share of right labels."""
    return _mean((y == labels).astype(np.float64))


def balanced_accuracy(y: np.ndarray, labels: np.ndarray, classes: int) -> Weighted:
    """Mean of the recalls of the classes that occur."""
    counts = _class_counts(y, labels, classes)

    def value(weights: np.ndarray) -> np.ndarray:
        actual, _, right = counts(weights)
        occurs = actual > 0
        return np.where(occurs, _ratio(right, actual), 0.0).sum(axis=1) / occurs.sum(axis=1)

    return value


def precision(y: np.ndarray, labels: np.ndarray, classes: int, positive: int | None) -> Weighted:
    """Share of right labels among those predicted; 0 for a class that is never predicted."""
    return _per_class(y, labels, classes, positive, lambda actual, predicted, right: _ratio(right, predicted))


def recall(y: np.ndarray, labels: np.ndarray, classes: int, positive: int | None) -> Weighted:
    """Share of a class's rows that were found; 0 for a class that does not occur."""
    return _per_class(y, labels, classes, positive, lambda actual, predicted, right: _ratio(right, actual))


def f1(y: np.ndarray, labels: np.ndarray, classes: int, positive: int | None) -> Weighted:
    """Harmonic mean of precision and recall; 0 for a class that neither occurs nor is predicted."""
    return _per_class(
        y, labels, classes, positive, lambda actual, predicted, right: _ratio(2 * right, actual + predicted)
    )


def roc_auc(positive: np.ndarray, score: np.ndarray) -> Weighted:
    """Probability that a positive row scores higher than a negative one, ties counting half.

    The Mann-Whitney form of the area (Hanley & McNeil 1982), with weights. NaN without both classes.
    """
    counts = _counts_by_score(positive, score)

    def value(weights: np.ndarray) -> np.ndarray:
        positives, negatives = counts(weights)
        below = np.cumsum(negatives, axis=1)
        total = positives.sum(axis=1) * below[:, -1]
        below -= negatives / 2
        return _defined(np.einsum("bg,bg->b", positives, below), total)

    return value


def average_precision(positive: np.ndarray, score: np.ndarray) -> Weighted:
    """Mean of the precisions at each threshold, weighted by the gain in recall. NaN without a positive row."""
    counts = _counts_by_score(positive, -score)

    def value(weights: np.ndarray) -> np.ndarray:
        positives, negatives = counts(weights)
        found = np.cumsum(positives, axis=1)
        taken = np.cumsum(negatives, axis=1) + found
        return _defined(np.einsum("bg,bg->b", positives, _ratio(found, taken)), found[:, -1])

    return value


def one_versus_rest(
    metric: Callable[[np.ndarray, np.ndarray], Weighted], y: np.ndarray, probabilities: np.ndarray
) -> Weighted:
    """``metric`` of each class against all others, weighted by class frequency; an absent class weighs nothing."""
    classes = probabilities.shape[1]
    parts = [metric(y == code, probabilities[:, code]) for code in range(classes)]
    members = _one_hot(y, classes)

    def value(weights: np.ndarray) -> np.ndarray:
        support = weights @ members
        values = np.stack([part(weights) for part in parts], axis=1)
        return (np.where(support > 0, values, 0.0) * support).sum(axis=1) / support.sum(axis=1)

    return value


def log_loss(y: np.ndarray, probabilities: np.ndarray) -> Weighted:
    """Mean of -ln of the probability given to the true class, clipped to [eps, 1 - eps] of float64."""
    eps = np.finfo(np.float64).eps
    given = probabilities[np.arange(len(y)), y]
    return _mean(-np.log(np.clip(given, eps, 1 - eps)))


def brier(y: np.ndarray, probabilities: np.ndarray, positive: int | None) -> Weighted:
    """Mean squared error of the positive class's probability; without one, summed over all classes (Brier 1950)."""
    if positive is None:
        return _mean(((probabilities - _one_hot(y, probabilities.shape[1])) ** 2).sum(axis=1))
    return _mean((probabilities[:, positive] - (y == positive)) ** 2)


def rmse(y: np.ndarray, labels: np.ndarray) -> Weighted:
    """Root of the mean squared error, in the label's unit."""
    squared = _mean((y - labels) ** 2)
    return lambda weights: np.sqrt(squared(weights))


def mae(y: np.ndarray, labels: np.ndarray) -> Weighted:
    """Mean absolute error, in the label's unit."""
    return _mean(np.abs(y - labels))


def r2(y: np.ndarray, labels: np.ndarray) -> Weighted:
    """Share of the label's variance that is explained. NaN when the label does not vary."""
    # Sums of squares about a nearby centre: about zero they would cancel for labels far from it.
    centred = y - y.mean() if len(y) else y
    squared, mean, error = _mean(centred**2), _mean(centred), _mean((y - labels) ** 2)

    def value(weights: np.ndarray) -> np.ndarray:
        variance = squared(weights) - mean(weights) ** 2
        return 1 - _defined(error(weights), np.where(variance > 1e-14 * squared(weights), variance, 0.0))

    return value


def _mean(values: np.ndarray) -> Weighted:
    return lambda weights: weights @ values / weights.sum(axis=1)


def _one_hot(codes: np.ndarray, classes: int) -> np.ndarray:
    return (codes[:, None] == np.arange(classes)).astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _defined(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _class_counts(
    y: np.ndarray, labels: np.ndarray, classes: int
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    actual, predicted = _one_hot(y, classes), _one_hot(labels, classes)
    right = actual * predicted

    def counts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return weights @ actual, weights @ predicted, weights @ right

    return counts


def _per_class(
    y: np.ndarray,
    labels: np.ndarray,
    classes: int,
    positive: int | None,
    value_of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Weighted:
    counts = _class_counts(y, labels, classes)

    def value(weights: np.ndarray) -> np.ndarray:
        actual, predicted, right = counts(weights)
        values = value_of(actual, predicted, right)
        if positive is not None:
            return values[:, positive]
        return (values * actual).sum(axis=1) / actual.sum(axis=1)

    return value


def _counts_by_score(positive: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Weights of the positive and of the negative rows at each distinct score, in rising order of score."""
    order = np.argsort(score, kind="stable")
    ranked, is_positive = score[order], positive[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(score) else np.empty(0, dtype=np.intp)
    tied = len(starts) < len(score)

    def counts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranked_weights = weights[:, order]
        positives = ranked_weights * is_positive
        if tied:
            positives = np.add.reduceat(positives, starts, axis=1)
            ranked_weights = np.add.reduceat(ranked_weights, starts, axis=1)
        return positives, ranked_weights - positives

    return counts
