"""Runs of two pipelines never have one name, whatever the pipelines and a person's request are called."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from shared.domain.ledger import Run
from shared.domain.signals import FeaturesReady, RetrainingDue, TrainingFinished
from tests.reactions.world import PIPELINE, World


def test_a_retraining_by_hand_is_not_taken_for_a_batch_of_a_pipeline_whose_name_goes_on_like_it(tmp_path: Path) -> None:
    world = World(tmp_path / "world", PIPELINE, "churn-m2")
    world.to_champion()
    world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot="2-b000001", reason="try"))
    world.drain(timedelta(hours=3))
    world.land("landing/churn-m2/a.csv", b"y")
    world.drain(timedelta(hours=3))
    names = [run.id for pipeline in ("churn", "churn-m2") for run in world.ledger.list(Run, pipeline)]
    assert len(names) == 3
    assert len(set(names)) == 3
    (first,) = world.ledger.list(Run, "churn-m2")
    assert (first.id, first.status) == ("churn-m2-b000001", "succeeded")


def test_signals_about_runs_of_one_name_in_two_pipelines_are_two() -> None:
    ready = {FeaturesReady(pipeline=p, run="r").claim_key for p in ("churn", "iris")}
    finished = {TrainingFinished(pipeline=p, run="r", status="failed").claim_key for p in ("churn", "iris")}
    assert (len(ready), len(finished)) == (2, 2)
