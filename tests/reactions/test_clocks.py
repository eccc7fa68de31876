"""What was noted while a clock was far ahead does not hold the loop up once the clock is right again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.ledger import DriftCheck
from shared.domain.signals import DriftCheckDue, ReconcileDue, RetrainingDue
from shared.pipeline_states import set_fields
from shared.reactions import drift_check_due
from tests.reactions.world import World

YEAR = timedelta(days=365)
HOUR = timedelta(hours=1)


def reconcile(world: World, times: int = 1, within: timedelta = HOUR) -> None:
    for _ in range(times):
        world.queue.send(ReconcileDue(slot=world.clock.at))
        world.drain(within)


def test_a_rollout_that_baked_by_a_clock_a_year_ahead_goes_on(world: World) -> None:
    world.to_champion()
    right = world.clock.at
    world.clock.at += YEAR
    world.land("landing/churn/b.csv", b"y")
    world.drain(timedelta(minutes=3))
    assert world.rollouts[-1].phase == "baking"
    world.clock.at = right
    reconcile(world, 6)
    assert world.state.champion == "2"


def test_a_batch_that_was_opened_by_a_clock_a_year_ahead_is_closed(world: World) -> None:
    world.to_champion()
    right = world.clock.at
    world.clock.at += YEAR
    world.land("landing/churn/b.csv", b"y")
    world.drain(timedelta(seconds=5))
    world.clock.at = right
    reconcile(world)
    assert [batch.status for batch in world.batches] == ["accepted", "accepted"]


def test_the_alarm_for_missing_data_counts_from_when_the_clock_was_right_again(world: World) -> None:
    world.to_champion()
    set_fields(world.loop, "churn", last_landed_at=world.clock.at + YEAR)
    reconcile(world)
    assert world.state.missing_since is None
    world.clock.at += timedelta(days=8)
    reconcile(world)
    assert "nothing has landed" in world.reasons("alarm")


def test_what_lands_after_the_clock_was_right_again_is_the_newest_landing(world: World) -> None:
    world.to_champion()
    set_fields(world.loop, "churn", last_landed_at=world.clock.at + YEAR)
    world.land("landing/churn/b.csv", b"y")
    world.drain(HOUR)
    assert world.state.last_landed_at is not None
    assert world.state.last_landed_at < world.clock.at


def test_a_drift_check_a_year_ahead_does_not_silence_the_next_ones(world: World) -> None:
    world.to_champion()
    world.lake.write("features/churn/churn-b000001/profile.json", b'{"rows":0,"columns":{}}')
    set_fields(world.loop, "churn", drift_at=world.clock.at + YEAR, drift_status="drift")
    world.queue.send(DriftCheckDue(pipeline="churn", slot=world.clock.at))
    world.drain(timedelta(seconds=5))
    assert world.state.drift_at is not None
    assert world.state.drift_at <= world.clock.at


def test_a_retraining_for_drift_a_year_ahead_is_no_reason_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.to_champion()
    slot = world.clock.at
    found = DriftCheck(pipeline="churn", id="now", at=slot, status="drift", rows=100, version="1", retrain=True)
    # The same rows by another query make another model.
    (world.folder / "pipelines" / "churn" / "features.sql").write_text("select customer_id, churn from landed")
    monkeypatch.setattr(drift_check_due, "_check", lambda *_: found)
    set_fields(world.loop, "churn", last_drift_retraining_at=slot + YEAR)
    world.queue.send(DriftCheckDue(pipeline="churn", slot=slot))
    world.drain(timedelta(seconds=5))
    assert [run.cause for run in world.runs] == ["landing", "drift"]


def test_retrainings_a_year_ahead_leave_the_budget_alone(world: World) -> None:
    world.to_champion()
    ahead = world.clock.at + YEAR
    set_fields(world.loop, "churn", retrainings=(ahead, ahead, ahead))
    world.queue.send(RetrainingDue(pipeline="churn", cause="schedule", slot="s1", reason="monday"))
    world.drain(timedelta(seconds=5))
    assert "churn-ss1" in [run.id for run in world.runs]
