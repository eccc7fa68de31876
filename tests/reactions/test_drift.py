"""A drift check says what changed, whether it hurts, and when to leave the model alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from shared.domain.drift import profile_of
from shared.domain.landing import LandedFile
from shared.domain.ledger import DriftCheck, Version
from shared.domain.performance import calibrate
from shared.domain.records import to_record
from shared.domain.signals import DriftCheckDue
from shared.predictions import landed_labels
from tests.reactions.world import PIPELINE, World

ROWS = 1000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Version 1 serves: customers leave early in their tenure, and at random for tenures about 30."""
    world = World(tmp_path)
    world.to_champion()
    world.clock.at += timedelta(days=3)
    random = np.random.default_rng(0)
    tenure = random.integers(0, 60, 2000)
    chance = probability(tenure)
    version = world.versions["1"]
    world.lake.write(f"{version.features}/profile.json", record(tenure=tenure))
    world.lake.write("models/churn/1/predictions.json", record(prediction=answers(chance), probability=chance))
    calibration = calibrate(random.random(2000) < chance, chance > 0.5, chance)
    assert version.evaluation is not None and calibration is not None
    measured = replace(version.evaluation, calibration=calibration)
    world.ledger.update(Version, "churn", "1", lambda present: replace(present or version, evaluation=measured))
    yield world
    world.close()


def probability(tenure: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp((tenure - 30.5) / 4))


def answers(chance: np.ndarray) -> np.ndarray:
    return np.where(chance > 0.5, "Yes", "No")


def record(**columns: np.ndarray) -> bytes:
    return json.dumps(to_record(profile_of(columns))).encode()


def ask(world: World, tenure: np.ndarray, version: str = "1") -> None:
    chance = probability(tenure)
    world.loop.predictions.record(
        "churn", request_id="r", deployment=f"v{version}", version=version, at=world.clock.now(), milliseconds=1.0,
        columns=["tenure"], rows=[[int(months)] for months in tenure], predictions=answers(chance).tolist(),
        probability=chance.tolist(),
    )  # fmt: skip
    world.loop.predictions.flush()


def check(world: World) -> DriftCheck:
    slot = world.clock.at + timedelta(minutes=1)
    world.queue.send(DriftCheckDue(pipeline="churn", slot=slot))
    world.drain()
    found = world.ledger.read(DriftCheck, "churn", f"{slot:%Y%m%dt%H%M%S}")
    assert found is not None
    return found


def edit_features(world: World) -> None:
    """The same rows by another query make another model."""
    (world.folder / "pipelines" / "churn" / "features.sql").write_text("select customer_id, churn from landed")


def labels(world: World, share_right: float, rows: int = ROWS, late: timedelta = timedelta(days=1)) -> None:
    """Rows that look as in training are asked, and a day later ``share_right`` of the answers turn out right."""
    random = np.random.default_rng(1)
    chance = probability(random.integers(0, 60, rows))
    said = answers(chance)
    other = np.where(said == "Yes", "No", "Yes")
    truth = np.where(random.random(rows) < share_right, said, other)
    keys = [f"c{n}" for n in range(rows)]
    world.loop.predictions.record(
        "churn", request_id="r", deployment="v1", version="1", at=world.clock.now(), milliseconds=1.0,
        columns=["tenure"], rows=[[1]] * rows, predictions=said.tolist(), probability=chance.tolist(), keys=keys,
    )  # fmt: skip
    world.loop.predictions.flush()
    world.clock.at += late
    file = LandedFile(path="landing/churn/late.csv", etag="1", size=1, at=world.clock.at)
    path = landed_labels.path("churn", "churn-b000009", [file])
    world.lake.write(path, landed_labels.dumps(zip(keys, truth.tolist(), strict=True)))


def test_drift_to_rows_that_the_model_knows_less_of_hurts_and_the_retraining_says_so(world: World) -> None:
    edit_features(world)
    ask(world, np.random.default_rng(1).integers(26, 36, ROWS))
    found = check(world)
    assert found.status == "drift" and "tenure" in found.drifted
    assert found.performance is not None and found.performance.hurt
    assert "performance is hurt" in found.reason
    world.drain(timedelta(minutes=1))
    (asked,) = (d.reason for d in world.decisions() if d.what == "retraining")
    assert "accuracy is estimated at" in asked and "performance is hurt" in asked and "begins" in asked


def test_drift_to_rows_that_are_easy_is_said_not_to_hurt(world: World) -> None:
    ask(world, np.random.default_rng(1).integers(48, 60, ROWS))
    found = check(world)
    assert found.status == "drift" and "performance is not hurt" in found.reason
    assert found.reason.endswith("the drift does no harm, retraining would not help")
    assert not found.retrain and [run.cause for run in world.runs] == ["landing"]


def test_drift_that_does_no_harm_leads_to_retraining_where_the_pipeline_says_so(world: World) -> None:
    edit_features(world)
    (world.folder / "pipelines" / "churn" / "pipeline.yaml").write_text(
        PIPELINE.replace("min_rows: 10", "min_rows: 10, retrain: drift")
    )
    ask(world, np.random.default_rng(1).integers(48, 60, ROWS))
    assert check(world).retrain
    world.drain(timedelta(minutes=1))
    assert [run.cause for run in world.runs] == ["landing", "drift"]


def test_harm_without_anything_new_to_learn_from_is_said_and_nothing_is_trained(world: World) -> None:
    ask(world, np.random.default_rng(1).integers(26, 36, ROWS))
    assert check(world).retrain
    assert "no new labelled data has landed since version 1 was trained" in world.reasons("nothing")
    assert [run.cause for run in world.runs] == ["landing"]
    published = [json.loads(line) for line in (world.folder / "home" / "events.jsonl").read_text().splitlines()]
    assert [e["data"]["retraining"] for e in published if "DriftDetected" in str(e)] == [False]


def test_harm_is_answered_though_the_features_of_a_later_version_were_removed(world: World) -> None:
    edit_features(world)
    version = world.versions["1"]
    world.ledger.insert(replace(version, version="2", features="features/churn/removed", status="kept"))
    ask(world, np.random.default_rng(1).integers(26, 36, ROWS))
    assert check(world).retrain
    world.drain(timedelta(minutes=1))
    assert [run.cause for run in world.runs] == ["landing", "drift"]


def test_labels_that_land_late_show_harm_that_no_feature_and_no_probability_shows(world: World) -> None:
    edit_features(world)
    labels(world, share_right=0.6)
    found = check(world)
    assert found.realised is not None and found.realised.hurt and found.realised.rows == ROWS
    assert found.realised.late == timedelta(days=1) and abs(found.realised.value - 0.6) < 0.05
    assert found.status == "hurt" and "whose labels landed 24 h later" in found.reason
    world.drain(timedelta(minutes=1))
    assert [run.cause for run in world.runs] == ["landing", "drift"]
    assert world.state.realised == found.realised


def test_labels_that_show_the_model_to_be_as_good_as_it_was_call_for_nothing(world: World) -> None:
    version = world.versions["1"]
    assert version.evaluation is not None
    labels(world, share_right=version.evaluation.challenger["accuracy"])
    found = check(world)
    assert found.realised is not None and not found.realised.hurt and not found.retrain


def test_labels_of_one_class_alone_judge_nothing_and_it_is_said(world: World) -> None:
    labels(world, share_right=0.5)
    file = LandedFile(path="landing/churn/later.csv", etag="1", size=1, at=world.clock.at + timedelta(seconds=1))
    rows = ((f"c{n}", "Yes") for n in range(ROWS))
    world.lake.write(landed_labels.path("churn", "churn-b000010", [file]), landed_labels.dumps(rows))
    found = check(world)
    assert found.realised is None and not found.retrain
    assert "cannot be measured on the 1,000 predictions whose labels have landed" in found.reason


def test_few_labels_are_counted_and_judge_nothing(world: World) -> None:
    labels(world, share_right=0.1, rows=9)
    found = check(world)
    assert found.realised is None and not found.retrain
    assert "9 predictions of the last 30 d whose labels have landed are too few to judge" in found.reason


def test_without_a_change_retraining_is_said_not_to_help(world: World) -> None:
    ask(world, np.random.default_rng(1).integers(0, 60, ROWS))
    found = check(world)
    assert found.status == "none" and "performance is not hurt" in found.reason
    assert found.reason.endswith("the data did not change, retraining would not help")
    assert set(found.columns) == {"tenure", "(prediction)", "(probability)"}
    assert not [run for run in world.runs if run.cause == "drift"]


def test_a_model_that_cannot_be_calibrated_is_checked_without_an_estimate(world: World) -> None:
    version = world.versions["1"]
    assert version.evaluation is not None
    plain = replace(version.evaluation, calibration=None)
    world.ledger.update(Version, "churn", "1", lambda present: replace(present or version, evaluation=plain))
    ask(world, np.random.default_rng(1).integers(26, 36, ROWS))
    found = check(world)
    assert found.status == "drift" and found.performance is None and "estimated" not in found.reason


def test_what_another_version_answered_is_not_the_champions_drift(world: World) -> None:
    ask(world, np.random.default_rng(1).integers(0, 60, ROWS))
    ask(world, np.random.default_rng(1).integers(26, 36, ROWS), version="2")
    found = check(world)
    assert (found.status, found.rows) == ("none", ROWS)


def test_a_reference_of_no_rows_is_none(world: World) -> None:
    version = world.versions["1"]
    world.lake.write(f"{version.features}/profile.json", record(tenure=np.array([], dtype=float)))
    world.lake.delete("models/churn/1/predictions.json")
    assert version.evaluation is not None
    plain = replace(version.evaluation, calibration=None)
    world.ledger.update(Version, "churn", "1", lambda present: replace(present or version, evaluation=plain))
    ask(world, np.arange(ROWS) % 60)
    assert check(world).status == "no_reference"
