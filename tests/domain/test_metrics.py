"""Metrics under many row weights at once have scikit-learn's values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk

from shared.domain import metrics

RNG = np.random.default_rng(7)
WEIGHTS = {
    "unweighted": lambda n: np.ones(n),
    "resampled": lambda n: np.bincount(RNG.integers(0, n, n), minlength=n).astype(float),
    "fractional": lambda n: RNG.random(n) * 3,
}


def classified(rows: int, classes: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = RNG.integers(0, classes, rows)
    raw = RNG.random((rows, classes)) + np.eye(classes)[y] * 0.4
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    if ties:
        probabilities = np.round(probabilities, 1) + 1e-3
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        probabilities = np.round(probabilities, 2)
        probabilities[:, -1] = 1 - probabilities[:, :-1].sum(axis=1)
    return y, probabilities.argmax(axis=1), probabilities


BINARY = {
    "accuracy": lambda y, labels, p, w: sk.accuracy_score(y, labels, sample_weight=w),
    "balanced_accuracy": lambda y, labels, p, w: sk.balanced_accuracy_score(y, labels, sample_weight=w),
    "precision": lambda y, labels, p, w: sk.precision_score(y, labels, sample_weight=w),
    "recall": lambda y, labels, p, w: sk.recall_score(y, labels, sample_weight=w),
    "f1": lambda y, labels, p, w: sk.f1_score(y, labels, sample_weight=w),
    "roc_auc": lambda y, labels, p, w: sk.roc_auc_score(y, p[:, 1], sample_weight=w),
    "average_precision": lambda y, labels, p, w: sk.average_precision_score(y, p[:, 1], sample_weight=w),
    "log_loss": lambda y, labels, p, w: sk.log_loss(y, p, sample_weight=w),
    "brier": lambda y, labels, p, w: sk.brier_score_loss(y, p[:, 1], sample_weight=w),
}
WEIGHTED = {
    "accuracy": BINARY["accuracy"],
    "balanced_accuracy": BINARY["balanced_accuracy"],
    "precision": lambda y, labels, p, w: sk.precision_score(
        y, labels, average="weighted", sample_weight=w, zero_division=0
    ),
    "recall": lambda y, labels, p, w: sk.recall_score(y, labels, average="weighted", sample_weight=w),
    "f1": lambda y, labels, p, w: sk.f1_score(y, labels, average="weighted", sample_weight=w),
    "roc_auc": lambda y, labels, p, w: sk.roc_auc_score(y, p, multi_class="ovr", average="weighted", sample_weight=w),
    "average_precision": lambda y, labels, p, w: sk.average_precision_score(y, p, average="weighted", sample_weight=w),
    "log_loss": BINARY["log_loss"],
    "brier": lambda y, labels, p, w: sk.brier_score_loss(y, p, sample_weight=w),
}
REGRESSION = {
    "rmse": lambda y, labels, w: sk.root_mean_squared_error(y, labels, sample_weight=w),
    "mae": lambda y, labels, w: sk.mean_absolute_error(y, labels, sample_weight=w),
    "r2": lambda y, labels, w: sk.r2_score(y, labels, sample_weight=w),
}


def test_every_metric_is_compared_with_scikit_learn() -> None:
    assert set(BINARY) == set(WEIGHTED) == set(metrics.CLASSIFICATION)
    assert set(REGRESSION) == set(metrics.REGRESSION)


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("metric", BINARY)
def test_binary_metrics_equal_scikit_learn(metric: str, ties: bool, weighting: str) -> None:
    y, labels, p = classified(300, 2, ties=ties)
    rows = np.stack([WEIGHTS[weighting](len(y)) for _ in range(4)])
    values = metrics.scorer(metric, y, labels, p, classes=2, positive=1)(rows)
    assert values == pytest.approx([BINARY[metric](y, labels, p, w) for w in rows], abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("metric", WEIGHTED)
def test_weighted_averages_over_classes_equal_scikit_learn(metric: str, ties: bool, weighting: str) -> None:
    y, labels, p = classified(300, 4, ties=ties)
    rows = np.stack([WEIGHTS[weighting](len(y)) for _ in range(4)])
    values = metrics.scorer(metric, y, labels, p, classes=4)(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [WEIGHTED[metric](y, labels, p, w) for w in rows]
    assert values == pytest.approx(expected, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("metric", REGRESSION)
def test_regression_metrics_equal_scikit_learn(metric: str, offset: float, weighting: str) -> None:
    y = RNG.normal(size=300) * 10 + offset
    labels = y + RNG.normal(size=300)
    rows = np.stack([WEIGHTS[weighting](len(y)) for _ in range(4)])
    values = metrics.scorer(metric, y, labels)(rows)
    assert values == pytest.approx([REGRESSION[metric](y, labels, w) for w in rows], abs=1e-12, rel=1e-12)


def test_an_integer_weight_is_the_same_as_repeating_the_row() -> None:
    y, labels, p = classified(50, 2, ties=True)
    times = RNG.integers(0, 4, 50)
    again = np.repeat(np.arange(50), times)
    for metric in metrics.CLASSIFICATION:
        weighted = metrics.scorer(metric, y, labels, p, classes=2, positive=1)(times[None, :].astype(float))
        repeated = metrics.scorer(metric, y[again], labels[again], p[again], classes=2, positive=1)(
            np.ones((1, len(again)))
        )
        assert weighted == pytest.approx(repeated, abs=1e-12), metric


def test_the_positive_class_can_be_the_first() -> None:
    y, labels, p = classified(200, 2)
    ones = np.ones((1, 200))
    assert metrics.scorer("recall", y, labels, p, classes=2, positive=0)(ones)[0] == pytest.approx(
        sk.recall_score(y, labels, pos_label=0)
    )
    assert metrics.scorer("average_precision", y, labels, p, classes=2, positive=0)(ones)[0] == pytest.approx(
        sk.average_precision_score(y, p[:, 0], pos_label=0)
    )


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    y, labels = np.array([0, 1, 1]), np.array([0, 0, 0])
    assert metrics.precision(y, labels, 2, 1)(np.ones((1, 3)))[0] == 0.0
    assert metrics.f1(y, labels, 2, 1)(np.ones((1, 3)))[0] == 0.0


def test_ranking_metrics_are_nan_on_resamples_without_both_classes() -> None:
    positive, score = np.array([True, False, False]), np.array([0.9, 0.2, 0.1])
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert np.isnan(metrics.roc_auc(positive, score)(weights)).tolist() == [False, True, True]
    assert np.isnan(metrics.average_precision(positive, score)(weights)).tolist() == [False, True, False]


def test_r2_of_a_constant_label_is_undefined() -> None:
    assert np.isnan(metrics.r2(np.full(4, 1e9), np.arange(4.0))(np.ones((1, 4)))[0])


def test_an_absent_class_weighs_nothing() -> None:
    y, labels, p = classified(200, 3)
    padded = np.c_[p, np.zeros(200)]
    for metric in metrics.CLASSIFICATION:
        without = metrics.scorer(metric, y, labels, p, classes=3)(np.ones((1, 200)))
        assert metrics.scorer(metric, y, labels, padded, classes=4)(np.ones((1, 200))) == pytest.approx(without), metric


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'gini' is no metric; known are accuracy"):
        metrics.scorer("gini", np.zeros(1, int), np.zeros(1, int))


def test_a_metric_of_probabilities_without_them_is_refused() -> None:
    with pytest.raises(ValueError, match="roc_auc needs probabilities"):
        metrics.scorer("roc_auc", np.zeros(1, int), np.zeros(1, int), classes=2, positive=1)
