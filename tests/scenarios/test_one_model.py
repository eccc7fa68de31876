"""The life of one model, in the order of the loop: each test goes on where the one before it stopped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shared import versions
from shared.domain.ledger import Batch, RolloutState
from shared.domain.signals import RetrainingDue
from tests.scenarios.living_loop import (
    BLIND_TRAIN,
    FRAGILE_TRAIN,
    NO_TRAIN,
    TINY_TRAIN,
    LivingLoop,
    Visitors,
    eventually,
    tiny_rows,
    tiny_yaml,
)

pytestmark = pytest.mark.xdist_group("one-model")

NAME = "one-model"
FILE = f"landing/{NAME}/day 1.csv"
ROWS = 600


def change(living: LivingLoop, *, train: str | None = None, **lines: str) -> None:
    """What a data scientist does between two runs."""
    folder = living.pipelines / NAME
    if train is not None:
        (folder / "train.py").write_text(train)
    (folder / "pipeline.yaml").write_text(tiny_yaml(NAME, **lines))


def test_a_copied_file_becomes_a_champion_that_takes_all_traffic(living: LivingLoop, tmp_path: Path) -> None:
    living.add_tiny(NAME, BLIND_TRAIN)
    source = tmp_path / "export.csv"
    source.write_text(tiny_rows(ROWS))
    subprocess.run(["cp", source, living.folder(NAME) / "day 1.csv"], check=True)

    run = living.pass_of(NAME, living.found(FILE))

    assert (run.id, run.status, run.version) == (f"{NAME}-b000001", "succeeded", "1"), run.reason
    assert list(dict.fromkeys(step.stage for step in run.steps)) == [
        "features", "training", "evaluation", "gate", "rollout",
    ]  # fmt: skip
    assert living.state(NAME).champion == "1"
    assert living.loop.ports.endpoints.traffic(NAME) == {"v1": 100}
    # A decision is written after what it tells of.
    eventually(lambda: "traffic is v1 100 %" in living.story(NAME))
    assert "smoke test passed" in living.story(NAME)


def test_what_was_prepared_is_pinned_and_told_by_a_manifest(living: LivingLoop) -> None:
    import pyarrow.parquet as pq
    from deltalake import DeltaTable

    (run,) = living.runs(NAME)
    lake, manifest = living.loop.ports.lake, living.manifest(run)
    table = DeltaTable(lake.uri(manifest.table), version=run.features_version)
    assert table.to_pyarrow_dataset().count_rows() == ROWS == manifest.train_rows + manifest.test_rows
    sides = [pq.read_table(lake.uri(side))["id"].to_pylist() for side in (manifest.train, manifest.test)]
    assert [len(side) for side in sides] == [manifest.train_rows, manifest.test_rows]
    assert not set(sides[0]) & set(sides[1])
    assert 0.1 < manifest.test_rows / ROWS < 0.3
    assert lake.stat(manifest.profile) is not None


def test_a_training_is_a_run_of_mlflow_and_its_output_is_the_log_of_the_run(living: LivingLoop) -> None:
    from mlflow import MlflowClient

    from shared.adapters.local import tracking

    client = MlflowClient(tracking.uri(living.home))
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    run = living.runs(NAME)[0]
    assert tracked.data.metrics["rows"] == living.manifest(run).train_rows
    assert tracked.data.tags["landfall.run"] == run.id
    job = living.loop.ports.training.status(f"{run.id}-train-1")
    assert job is not None and f"trained on {living.manifest(run).train_rows} rows" in job.log_tail[-1]


def test_of_a_storm_of_retrainings_the_budget_lets_one_through_and_a_tie_keeps_the_champion(
    living: LivingLoop,
) -> None:
    change(living, retraining='retraining: {schedule: "0 * * * * *", budget: 1 a week}')
    living.admin("timer_retraining")
    for n in range(6):
        living.loop.ports.queue.send(
            RetrainingDue(pipeline=NAME, cause="schedule", slot=f"storm{n}", reason=f"storm {n}")
        )
    run = living.ended(eventually(lambda: living.runs(NAME, "schedule"))[0])

    assert run.status == "kept", run.reason
    assert "keep version 1" in run.reason
    assert living.state(NAME).champion == "1"
    eventually(lambda: len([d for d in living.decisions(NAME) if "; no retraining: " in d.reason]) >= 6)
    refused = {d.reason.partition("; no retraining: ")[2] for d in living.decisions(NAME, "nothing")} - {""}
    assert refused <= {"the budget of 1 a week is used up", f"run {run.id} is already on its way to a new model"}
    assert living.runs(NAME, "schedule") == [run]
    change(living)


def test_unchanged_input_is_not_prepared_again(living: LivingLoop) -> None:
    first, again = living.runs(NAME)
    assert living.manifest(again).train == living.manifest(first).train
    assert again.features_version == first.features_version
    assert living.loop.ports.features.status(f"{first.id}-features") is not None
    assert living.loop.ports.features.status(f"{again.id}-features") is None


def test_a_challenger_that_fails_on_live_traffic_is_rolled_back_by_itself(living: LivingLoop) -> None:
    # Better on all that it knows, so it passes the gate; half of the visitors are of a kind that is new to it.
    change(
        living,
        train=FRAGILE_TRAIN,
        rollout="rollout: {steps: [50, 100], bake: 30m, rollback_when: {error_rate: 0.05, min_requests: 5, "
        "p95_ms: 20000, prediction_psi: 100}}",
    )
    bodies = [{"data": [[0.3, kind]]} for kind in ("a", "z")]
    with Visitors(living, NAME, bodies) as visitors:
        run = living.retrained(NAME, "fragile")

    assert run.status == "rolled_back", run.reason
    assert "requests failed" in run.reason
    assert visitors.splits[:3] == [{"v1": 100}, {"v3": 50, "v1": 50}, {"v1": 100}]
    assert visitors.shares({"v3": 50, "v1": 50})["v3"] > 0
    assert all("unknown categories" in text for text in visitors.refused) and visitors.refused
    assert living.version(NAME, "3").status == "rolled_back"
    assert living.state(NAME).champion == "1"
    assert list(living.loop.ports.endpoints.deployments(NAME)) == ["v1"]


def test_a_version_waits_for_its_approval_where_that_is_manual(living: LivingLoop) -> None:
    change(
        living,
        train=TINY_TRAIN,
        gate="gate: {metric: roc_auc, positive: yes, max_latency_ms: 20000, approval: manual}",
    )
    run = living.retrained(NAME, "whole")
    assert (run.stage, run.status, run.version) == ("gate", "waiting", "4"), run.reason
    assert "approval is manual" in run.reason
    assert living.loop.ports.endpoints.traffic(NAME) == {"v1": 100}

    wrong = living.handled(living.operate(NAME, "approve", version="2", by="ada"))
    assert wrong.status == "rejected"
    assert "waits for no approval" in wrong.reason

    right = living.handled(living.operate(NAME, "approve", version="4", by="ada"))
    assert right.status == "done", right.reason
    run = living.ended(run)
    assert run.status == "succeeded", run.reason
    assert living.state(NAME).champion == "4"
    assert any(d.by == "ada" and "approved by ada" in d.reason for d in living.decisions(NAME))


def test_a_worse_challenger_is_kept_out_in_words_and_numbers(living: LivingLoop) -> None:
    change(living, train=BLIND_TRAIN)
    run = living.retrained(NAME, "worse")
    assert run.status == "kept", run.reason
    assert living.state(NAME).champion == "4"
    assert living.loop.ports.endpoints.traffic(NAME) == {"v4": 100}
    version = living.version(NAME, "5")
    assert version.evaluation is not None and version.verdict is not None
    assert not version.verdict.promote
    assert version.evaluation.gain_high is not None and version.evaluation.gain_high < 0
    failed = {rule.name for rule in version.verdict.rules if not rule.passed}
    assert failed >= {"gain", "interval"}
    assert f"gain {version.evaluation.gain:.3f}" in run.reason


def test_one_request_brings_the_previous_version_back_once(living: LivingLoop) -> None:
    signal = living.operate(NAME, "rollback", request="r1", by="ada", reason="complaints")
    assert living.handled(signal).status == "done"
    eventually(lambda: living.state(NAME).champion == "1")
    assert living.loop.ports.endpoints.traffic(NAME) == {"v1": 100}
    assert living.operate(NAME, "rollback", request="r1") == signal
    eventually(lambda: any("duplicate" in d.reason for d in living.decisions(NAME) if d.what == "RollbackRequested"))
    assert living.state(NAME).champion == "1"


def test_a_pinned_version_serves_until_it_is_unpinned(living: LivingLoop) -> None:
    living.operate(NAME, "pin", version="4")
    eventually(lambda: living.state(NAME).champion == "4")
    assert living.state(NAME).pinned == "4"
    eventually(lambda: not living.state(NAME).rollout)
    assert living.handled(living.operate(NAME, "pin")).status == "done"
    assert living.state(NAME).pinned == ""
    assert living.call("POST", f"/api/pipelines/{NAME}/pin", {"verison": "4"}).status_code == 400
    assert living.call("POST", "/api/pipelines/nobody/pin", {"version": "4"}).status_code == 404


def test_a_freeze_holds_what_lands_until_the_thaw(living: LivingLoop) -> None:
    change(living, train=NO_TRAIN)
    living.handled(living.operate(NAME, "freeze"))
    before = living.runs(NAME)
    info = living.land(f"landing/{NAME}/day 2.csv", tiny_rows(80, start=5000))
    waits = eventually(lambda: [d for d in living.decisions(NAME) if "frozen: batch b000002 waits" in d.reason])
    assert "b000002" in waits[0].subjects
    refused = living.handled(living.operate(NAME, "retrain", request="cold"))
    assert f"{NAME} is frozen" in refused.reason
    assert living.runs(NAME) == before

    living.handled(living.operate(NAME, "freeze", frozen=False))
    run = living.pass_of(NAME, info)
    assert run.id == f"{NAME}-b000002"
    batch = living.loop.ports.ledger.read(Batch, NAME, "b000002")
    assert batch is not None and batch.status == "accepted"


def test_every_rollout_has_come_to_its_end(living: LivingLoop) -> None:
    phases = {rollout.id[-2:]: rollout.phase for rollout in living.loop.ports.ledger.list(RolloutState, NAME)}
    assert phases["v3"] == "rolled_back"
    assert set(phases.values()) <= {"rolled_back", "promoted", "done"}
    state = living.state(NAME)
    assert (state.preparing, state.training, state.rollout) == ("", "", "")
    champion = versions.read(living.loop, NAME, state.champion)
    assert champion.status == "champion"
