"""Performance without labels: exact where it was calibrated, right where only the rows changed, and sure of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from shared.domain.drift import ColumnCounts, Profile, summarise
from shared.domain.performance import CALIBRATION, METRICS, Calibration, Estimate, calibrate, estimate
from shared.domain.records import from_record, to_record

SKLEARN = {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score, "f1": f1_score}


def scored(seed: int, rows: int, difficulty: float = 1.0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities): the nearer to 0.5 the greater the difficulty; other than 1, sharpness miscalibrates."""
    random = np.random.default_rng(seed)
    logit = random.normal(-0.5, 2.5 / difficulty, rows)
    labels = random.random(rows) < 1 / (1 + np.exp(-logit))
    return labels, 1 / (1 + np.exp(-logit * sharpness))


def calibrated(labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
    found = calibrate(labels, probabilities > 0.5, probabilities)
    assert found is not None
    return found


def counted(calibration: Calibration, probabilities: np.ndarray) -> ColumnCounts:
    profile = Profile(rows=0, columns={CALIBRATION: calibration.column})
    return summarise(profile, {CALIBRATION: probabilities}).columns[CALIBRATION]


def estimated(calibration: Calibration, probabilities: np.ndarray, metric: str) -> Estimate:
    found = estimate(calibration, counted(calibration, probabilities), metric)
    assert found is not None
    return found


@pytest.mark.parametrize("metric", SKLEARN)
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_on_the_held_out_rows_an_estimate_is_what_was_measured(metric: str, sharpness: float) -> None:
    labels, probabilities = scored(1, 1500, sharpness=sharpness)
    found = estimated(calibrated(labels, probabilities), probabilities, metric)
    assert found.value == pytest.approx(SKLEARN[metric](labels, probabilities > 0.5), abs=1e-12)
    assert found.value == found.held_out and not found.hurt


def test_the_area_is_that_of_the_binned_probabilities() -> None:
    labels, probabilities = scored(1, 1500)
    calibration = calibrated(labels, probabilities)
    binned = np.searchsorted(np.array(calibration.edges), probabilities, side="right")
    found = estimated(calibration, probabilities, "roc_auc")
    assert found.value == pytest.approx(roc_auc_score(labels, binned), abs=1e-12)
    assert found.value == pytest.approx(roc_auc_score(labels, probabilities), abs=0.01)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("metric", METRICS)
def test_on_harder_rows_it_falls_as_the_true_one_does_however_the_model_is_calibrated(
    metric: str, sharpness: float
) -> None:
    calibration = calibrated(*scored(2, 5000, sharpness=sharpness))
    labels, probabilities = scored(3, 20_000, difficulty=2.0, sharpness=sharpness)
    found = estimated(calibration, probabilities, metric)
    true = roc_auc_score(labels, probabilities) if metric == "roc_auc" else SKLEARN[metric](labels, probabilities > 0.5)
    assert found.held_out - true > 0.03
    assert found.value == pytest.approx(true, abs=0.03)
    assert found.hurt and "performance is hurt" in found.sentence()


def test_on_easier_rows_performance_is_not_hurt() -> None:
    calibration = calibrated(*scored(2, 2000))
    found = estimated(calibration, scored(3, 2000, difficulty=0.5)[1], "accuracy")
    assert found.value > found.held_out and not found.hurt
    assert "is not hurt" in found.sentence()


def test_rows_like_the_held_out_ones_are_hardly_ever_said_to_hurt() -> None:
    calibration = calibrated(*scored(4, 1500))
    hurt = sum(estimated(calibration, scored(seed, 500)[1], "accuracy").hurt for seed in range(100, 180))
    assert hurt <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.sampled_from(METRICS))
def test_any_rows_have_a_finite_estimate_or_none(probabilities: list[float], metric: str) -> None:
    calibration = calibrated(*scored(5, 400))
    found = estimate(calibration, counted(calibration, np.array(probabilities)), metric)
    if found is not None:
        assert 0 <= found.value <= 1 and found.low <= found.high
        assert from_record(Estimate, json.loads(json.dumps(to_record(found), allow_nan=False))) == found


def test_a_calibration_is_stored_and_read() -> None:
    calibration = calibrated(*scored(5, 400))
    assert from_record(Calibration, json.loads(json.dumps(to_record(calibration)))) == calibration
    assert sum(calibration.rows) == 400 and calibration.threshold in calibration.edges


def test_nothing_is_calibrated_where_it_could_not_be_trusted() -> None:
    labels, probabilities = scored(6, 1000)
    predicted = probabilities > 0.5
    assert calibrate(labels[:199], predicted[:199], probabilities[:199]) is None
    assert calibrate(np.ones(1000, dtype=bool), predicted, probabilities) is None
    assert calibrate(labels, np.ones(1000, dtype=bool), probabilities) is None
    assert calibrate(labels, ~predicted, probabilities) is None
    assert calibrate(labels, predicted, np.where(labels, np.nan, probabilities)) is None


def test_nothing_is_said_of_no_rows_and_of_other_metrics() -> None:
    calibration = calibrated(*scored(6, 1000))
    assert estimate(calibration, counted(calibration, np.array([])), "accuracy") is None
    with pytest.raises(ValueError, match="'rmse' cannot be estimated; known are accuracy"):
        estimate(calibration, counted(calibration, np.array([0.5])), "rmse")
