from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from shared.domain.signals import (
    ApprovalGiven,
    BatchScoringRequested,
    FreezeRequested,
    PinRequested,
    ReconcileDue,
    RetrainingDue,
    RollbackRequested,
)
from shared.ports.jobs import JobStatus
from tests.reactions.world import PIPELINE, World

QUIET = timedelta(seconds=35)


def ask(world: World, kind: type, **fields: object) -> None:
    world.queue.send(
        kind(pipeline="churn", request=f"r{len(world.queue.messages)}{world.clock.now().isoformat()}", **fields)
    )
    world.drain(timedelta(seconds=10))


def test_the_first_version_takes_all_traffic_at_once(world: World) -> None:
    world.land()
    world.drain(timedelta(minutes=1))
    assert world.state.champion == "1"
    assert world.services.split == {"v1": 100}
    assert world.runs[0].status == "succeeded"
    assert world.services.aliases["churn", "champion"] == "1"


def test_a_better_challenger_is_rolled_out_in_steps(world: World) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    seen = []
    for _ in range(60):
        world.drain(timedelta(minutes=1))
        if not seen or seen[-1] != world.services.split:
            seen.append(dict(world.services.split))
    assert seen == [{"v2": 10, "v1": 90}, {"v2": 50, "v1": 50}, {"v2": 100}]
    assert (world.state.champion, world.state.previous) == ("2", "1")
    assert set(world.services.deployed) == {"v1", "v2"}
    world.drain(timedelta(hours=24))
    assert set(world.services.deployed) == {"v2"}


def test_a_challenger_that_is_not_better_is_kept_out_with_the_reason(world: World) -> None:
    world.to_champion()
    world.services.gain = 0.0
    world.to_champion("landing/churn/b.csv")
    assert world.state.champion == "1"
    assert world.runs[-1].status == "kept"
    assert world.versions["2"].status == "kept_out"
    assert world.versions["2"].verdict is not None
    assert not world.versions["2"].verdict.promote
    assert set(world.services.deployed) == {"v1"}


def test_a_failed_training_is_a_failed_run_with_the_end_of_its_log(world: World) -> None:
    world.services.training_state = "failed"
    world.to_champion()
    assert world.runs[0].status == "failed"
    assert "ValueError: boom" in world.runs[0].reason
    assert world.state.training == ""


def test_a_train_script_that_registers_nothing_is_a_failed_run(world: World) -> None:
    world.services.training_state = "completed"
    world.services.hold_training = True
    world.to_champion()
    world.services.finish("churn-b000001-train-1")
    world.services.training_state = "empty"
    world.drain(timedelta(minutes=1))
    assert world.runs[0].status == "failed"
    assert "train.py wrote no model" in world.runs[0].reason


def test_one_training_at_a_time_and_the_newest_of_those_that_wait(world: World) -> None:
    world.services.hold_training = True
    for name in "abc":
        world.land(f"landing/churn/{name}.csv")
        world.drain(QUIET)
    first, second, third = world.runs
    assert (first.stage, first.status) == ("training", "running")
    assert (second.status, third.status) == ("superseded", "waiting")
    assert third.id in second.reason
    world.services.hold_training = False
    world.services.finish("churn-b000001-train-1")
    world.drain(timedelta(hours=1))
    assert next(iter(world.services.jobs)) == "churn-b000001-train-1"
    assert "churn-b000003-train-1" in world.services.jobs
    assert "churn-b000002-train-1" not in world.services.jobs


def test_a_version_registered_by_hand_passes_the_same_gate(world: World) -> None:
    world.to_champion()
    world.services.register("churn", job="by-hand", output="x", tags={"landfall.run": ""})
    world.drain(timedelta(hours=1))
    assert world.state.champion == "2"


def test_a_model_of_no_pipeline_is_recorded(world: World) -> None:
    world.services.register("stranger", job="by-hand", output="x", tags={"landfall.run": ""})
    world.drain()
    assert "no pipeline has the model stranger" in world.reasons("nothing", "-")


def test_a_version_that_comes_during_a_rollout_is_measured_against_the_new_champion(world: World) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=5))
    assert world.state.rollout
    world.land("landing/churn/c.csv")
    world.drain(timedelta(minutes=2))
    assert world.versions["3"].status == "waiting"
    world.drain(timedelta(hours=2))
    assert world.state.champion == "3"
    assert "model:churn:2" in world.services.jobs[world.versions["3"].job].inputs.values()


def test_a_failing_smoke_test_never_gives_traffic(world: World) -> None:
    world.to_champion()
    world.services.wrong_answers = True
    world.to_champion("landing/churn/b.csv")
    assert world.services.split == {"v1": 100}
    assert set(world.services.deployed) == {"v1"}
    assert "smoke test failed" in world.runs[-1].reason


def test_errors_while_baking_put_the_traffic_back(world: World) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=5))
    assert world.services.split == {"v2": 10, "v1": 90}
    for number in range(40):
        world.loop.predictions.record(
            "churn", request_id=str(number), deployment="v2", version="2", at=world.clock.now(), milliseconds=1.0,
            columns=["tenure"], rows=[[1]], predictions=[], probability=None, error="boom",
        )  # fmt: skip
    world.loop.predictions.flush()
    world.drain(timedelta(hours=2))
    assert world.services.split == {"v1": 100}
    assert world.state.champion == "1"
    assert world.runs[-1].status == "rolled_back"
    assert "requests failed" in world.runs[-1].reason


def test_rollback_goes_back_to_the_previous_version_at_once(world: World) -> None:
    world.to_champion()
    world.to_champion("landing/churn/b.csv")
    ask(world, RollbackRequested, by="ada", reason="complaints")
    assert world.services.split == {"v1": 100}
    assert (world.state.champion, world.state.previous) == ("1", "2")
    assert world.versions["2"].status == "rolled_back"


def test_rollback_during_a_rollout_turns_it_round(world: World) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=15))
    assert world.services.split["v2"] == 50
    ask(world, RollbackRequested, by="ada")
    world.drain(timedelta(minutes=1))
    assert world.services.split == {"v1": 100}
    assert world.runs[-1].status == "rolled_back"
    world.drain(timedelta(hours=2))
    assert world.services.split == {"v1": 100}


def test_rollback_without_a_previous_version_is_refused(world: World) -> None:
    world.to_champion()
    ask(world, RollbackRequested)
    assert "no previous version" in world.reasons("rejected")


def test_a_pinned_version_stays_whatever_the_gate_says(world: World) -> None:
    world.to_champion()
    world.to_champion("landing/churn/b.csv")
    ask(world, PinRequested, version="1")
    assert world.services.split == {"v1": 100}
    world.to_champion("landing/churn/c.csv")
    assert world.state.champion == "1"
    assert world.versions["3"].status == "awaiting_approval"
    ask(world, PinRequested, version="")
    ask(world, ApprovalGiven, version="3")
    world.drain(timedelta(hours=2))
    assert world.state.champion == "3"


def test_a_frozen_pipeline_records_what_lands_and_takes_it_up_after_the_thaw(world: World) -> None:
    ask(world, FreezeRequested)
    world.land()
    world.drain(timedelta(hours=1))
    assert world.runs == []
    assert [batch.status for batch in world.batches] == ["closed"]
    ask(world, FreezeRequested, frozen=False)
    world.drain(timedelta(hours=1))
    assert world.state.champion == "1"


def test_a_freeze_holds_a_rollout_where_it_is(world: World) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=5))
    ask(world, FreezeRequested)
    world.drain(timedelta(minutes=30))
    assert world.services.split == {"v2": 10, "v1": 90}
    ask(world, FreezeRequested, frozen=False)
    world.drain(timedelta(hours=1))
    assert world.state.champion == "2"


def test_manual_approval_waits_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path / "w", PIPELINE + "gate: {approval: manual}\n")
    world.to_champion()
    assert world.versions["1"].status == "awaiting_approval"
    assert world.state.champion == ""
    ask(world, ApprovalGiven, version="1", by="ada")
    world.drain(timedelta(hours=1))
    assert world.state.champion == "1"
    world.to_champion("landing/churn/b.csv")
    ask(world, ApprovalGiven, version="2", approved=False, by="ada", reason="not today")
    assert world.runs[-1].status == "kept"
    assert "not today" in world.runs[-1].reason


def test_retraining_on_unchanged_data_reuses_the_prepared_features(world: World) -> None:
    world.to_champion()
    world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot="x", reason="try"))
    world.drain(timedelta(hours=2))
    assert list(world.services.features_jobs) == ["churn-b000001-features"]
    assert world.runs[-1].id == "churn-mx"
    assert world.runs[-1].version == "2"


def test_prepared_features_of_which_the_record_is_broken_are_prepared_anew(world: World) -> None:
    world.to_champion()
    (record,) = (file.path for file in world.lake.list("features/churn/by-input/"))
    world.lake.write(record, b'{"half": ')
    world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot="x", reason="try"))
    world.drain(timedelta(hours=2))
    assert list(world.services.features_jobs) == ["churn-b000001-features", "churn-mx-features"]
    assert world.runs[-1].version == "2"


def test_only_the_predecessor_of_the_champion_is_kept_however_soon_the_next_one_comes(world: World) -> None:
    for number in range(1, 6):
        world.to_champion(f"landing/churn/{number}.csv", str(number).encode())
        assert world.state.champion == str(number)
        deployed = set(world.loop.ports.endpoints.deployments("churn"))
        assert deployed == {f"v{version}" for version in (number - 1, number) if version}
    world.drain(timedelta(hours=30))
    assert set(world.loop.ports.endpoints.deployments("churn")) == {"v5"}
    assert world.state.active_rollouts == ()


def test_retraining_keeps_to_its_budget_and_says_so(world: World) -> None:
    world.to_champion()
    for week in range(4):
        world.queue.send(RetrainingDue(pipeline="churn", cause="schedule", slot=str(week), reason="weekly"))
        world.drain(timedelta(hours=2))
    assert len([run for run in world.runs if run.cause == "schedule"]) == 2
    assert "budget of 2 a week is used up" in world.reasons("nothing")


def test_retraining_stops_where_the_pipelines_runs_have_cost_what_they_may(tmp_path: Path) -> None:
    # The jobs of this world take microseconds: at this price a run costs about half of the budget.
    priced = "{budget: 9 a week, cost: 1 a week}\ntraining: {price: 250000000}"
    world = World(tmp_path, PIPELINE.replace("{budget: 2 a week}", priced))
    world.to_champion()
    (spent,) = world.state.spendings
    assert spent.run == "churn-b000001" and spent.training_hours > 0
    for week in range(9):
        world.queue.send(RetrainingDue(pipeline="churn", cause="schedule", slot=str(week), reason="weekly"))
        world.drain(timedelta(hours=2))
    assert "the cost budget of 1 a week is used up" in world.reasons("nothing")
    assert len([run for run in world.runs if run.cause == "schedule"]) < 9
    world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot="x", reason="now"))
    world.drain(timedelta(hours=2))
    assert world.runs[-1].id == "churn-mx"


def test_what_waits_longer_than_a_queue_can_delay_a_message_is_looked_at_on_the_way(tmp_path: Path) -> None:
    patient = "complete: {marker: _DONE, max_wait: 20d}"
    slow = PIPELINE.replace("complete: {quiet: 30s, max_wait: 10m}", patient).replace("24h", "30d")
    world = World(tmp_path, slow)
    world.land()
    world.drain(timedelta(days=19))
    assert [batch.status for batch in world.batches] == ["open"]
    world.drain(timedelta(days=2))
    assert world.state.champion == "1"
    world.land("landing/churn/b.csv")
    world.drain(timedelta(days=22))
    assert world.state.champion == "2"
    assert set(world.services.deployed) == {"v1", "v2"}
    world.drain(timedelta(days=30))
    assert set(world.services.deployed) == {"v2"}
    world.close()


@pytest.mark.parametrize("request_id", ["Ticket #12", "ticket-12!", "x" * 80, "Ticket-12"])
def test_a_request_of_any_name_makes_a_run_that_every_service_can_name(world: World, request_id: str) -> None:
    world.to_champion()
    for _ in range(2):
        world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot=request_id, reason="try"))
        world.drain(timedelta(hours=2))
    assert [run.cause for run in world.runs] == ["landing", "hand"]
    assert re.fullmatch(r"churn-m[a-z0-9_]+_[0-9a-f]{8}", world.runs[-1].id)


def test_retraining_without_data_is_nothing_with_a_reason(world: World) -> None:
    world.queue.send(RetrainingDue(pipeline="churn", cause="schedule", slot="1", reason="weekly"))
    world.drain()
    assert "no data has landed yet" in world.reasons("nothing")


def test_events_that_never_come_are_found_by_reconcile(world: World) -> None:
    world.services.lose_events = True
    world.clock.at = world.lake.write("landing/churn/a.csv", b"x").modified
    for _ in range(8):
        world.clock.at += timedelta(minutes=5)
        world.queue.send(ReconcileDue(slot=world.clock.at))
        world.drain(timedelta(minutes=1))
    assert world.state.champion == "1"


def test_traffic_moved_by_hand_is_an_alarm_once(world: World) -> None:
    world.to_champion()
    world.services.split = {}
    for _ in range(2):
        world.clock.at += timedelta(minutes=5)
        world.queue.send(ReconcileDue(slot=world.clock.at))
        world.drain()
    assert world.reasons("alarm").count("somebody moved it by hand") == 1


def test_batch_scoring_is_submitted_once_for_a_partition(world: World) -> None:
    world.to_champion()
    world.lake.write("in/a.csv", b"x")
    for _ in range(2):
        ask(world, BatchScoringRequested, input="in/a.csv", output="out/a.parquet", partition="2026-03-02")
    assert len(world.services.batch_jobs) == 1


def test_a_partition_whose_scoring_failed_may_be_asked_for_again(world: World) -> None:
    world.to_champion()
    world.lake.write("in/a.csv", b"x")
    for expected in (1, 2, 2):
        ask(world, BatchScoringRequested, input="in/a.csv", output="out/a.parquet", partition="2026-03-02")
        assert len(world.services.batch_jobs) == expected
        first = next(iter(world.services.batch_jobs))
        world.services.states[first] = JobStatus(name=first, state="failed", reason="the disk was full")
