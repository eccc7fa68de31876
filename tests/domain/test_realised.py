"""What is measured once labels have landed: the value is scikit-learn's, and harm is said only where it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, roc_auc_score

from shared.domain.durations import in_words
from shared.domain.pipelines import Gate
from shared.domain.realised import Realised, realised

ROWS = 1000


def binary(seed: int, turned: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a calibrated probability, of which the share ``turned`` is the other one."""
    random = np.random.default_rng(seed)
    chance = random.random(ROWS)
    positive = (random.random(ROWS) < chance) != (random.random(ROWS) < turned)
    return np.where(positive, "Yes", "No"), chance


def measure(labels: np.ndarray, chance: np.ndarray, gate: Gate, held_out: float, **more: Any) -> Realised | None:
    answers = np.where(chance > 0.5, "Yes", "No")
    given = {"held_out_rows": ROWS, "tolerance": 0.01, "positive": chance.tolist(), **more}
    late = [timedelta(hours=n) for n in range(len(labels))]
    return realised(labels.tolist(), answers.tolist(), late=late, gate=gate, held_out={gate.metric: held_out}, **given)


def test_the_metric_is_that_of_the_rows_and_lateness_their_median() -> None:
    labels, chance = binary(0)
    for positive, side, score in (("yes", "Yes", chance), ("no", "No", 1 - chance), (None, "Yes", chance)):
        given = (chance if side == "Yes" else 1 - chance).tolist()
        found = measure(labels, chance, Gate(metric="roc_auc", positive=positive), 0.8, positive=given)
        assert found is not None and found.value == pytest.approx(roc_auc_score(labels == side, score))
        assert (found.rows, found.late) == (ROWS, timedelta(hours=ROWS // 2))


def test_harm_is_found_where_labels_turned_and_seldom_where_they_did_not() -> None:
    gate = Gate(metric="roc_auc")
    before = float(np.mean([roc_auc_score(*reversed_(binary(seed))) for seed in range(20)]))
    hurt = [measure(*binary(seed), gate, before) for seed in range(20, 40)]
    assert sum(found is not None and found.hurt for found in hurt) <= 1
    turned = [measure(*binary(seed, 0.15), gate, before) for seed in range(20)]
    assert all(found is not None and found.hurt and "performance is hurt" in found.sentence() for found in turned)


def reversed_(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return pair[0] == "Yes", pair[1]


def test_the_interval_covers_a_gain_of_nothing_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    gate, covered = Gate(metric="accuracy"), 0
    for _ in range(40):
        right, held_out = random.random(200) < 0.8, (random.random(200) < 0.8).mean()
        labels = np.where(random.random(200) < 0.5, "Yes", "No")
        chance = np.where((labels == "Yes") == right, 0.9, 0.1)
        found = measure(labels, chance, gate, float(held_out), held_out_rows=200)
        covered += found is not None and found.low <= 0 <= found.high
    assert covered >= 37


def test_a_loss_is_hurt_when_it_grows_by_more_than_a_share_of_it() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(100, 20, ROWS)
    for factor, hurt in ((1.0, False), (1.3, True)):
        said = truth + random.normal(0, 5 * factor, ROWS)
        found = realised(
            truth.tolist(),
            said.tolist(),
            None,
            [timedelta(days=2)] * ROWS,
            Gate(metric="rmse"),
            {"rmse": 5.0},
            2000,
            0.05,
        )
        assert found is not None and found.value == pytest.approx(mean_squared_error(truth, said) ** 0.5)
        assert (found.hurt, found.tolerance) == (hurt, 0.25)
        assert (found.gain < 0) == (found.value > 5)


def test_a_metric_of_probabilities_gives_place_to_accuracy_where_there_are_none() -> None:
    labels, chance = binary(0)
    answers = np.where(chance > 0.5, "Yes", "No")
    late = [timedelta(hours=1)] * ROWS
    gate = Gate(metric="roc_auc")
    found = realised(
        labels.tolist(), answers.tolist(), None, late, gate, {"accuracy": 0.75, "roc_auc": 0.8}, ROWS, 0.01
    )
    assert found is not None and (found.metric, found.value) == ("accuracy", pytest.approx((labels == answers).mean()))


def test_what_cannot_be_measured_is_none() -> None:
    labels, chance = binary(0)
    assert measure(labels[:0], chance[:0], Gate(), 0.8) is None
    assert measure(np.full(ROWS, "No"), chance, Gate(metric="roc_auc"), 0.8) is None
    late = [timedelta(hours=1)] * ROWS
    assert (
        realised(labels.tolist(), labels.tolist(), None, late, Gate(metric="f1"), {"accuracy": 0.8}, ROWS, 0.01) is None
    )


@pytest.mark.parametrize(
    ("length", "words"), [({"days": 3}, "3 d"), ({"minutes": 90}, "1.5 h"), ({"seconds": 72}, "1.2 min"), ({}, "0 s")]
)
def test_lateness_is_said_in_the_unit_that_people_would_use(length: dict[str, float], words: str) -> None:
    assert in_words(timedelta(**length)) == words
