"""What people ask for: rollback, pin, freeze, approval, and what they mean together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared import reactions
from shared.domain.ledger import DriftCheck
from shared.domain.signals import (
    ApprovalGiven,
    DriftCheckDue,
    EvaluationFinished,
    FreezeRequested,
    OperatorSignal,
    PinRequested,
    RollbackRequested,
    Signal,
)
from shared.reactions import drift_check_due
from tests.reactions.world import PIPELINE, World

REST = timedelta(hours=2)


def ask(
    world: World, kind: type[OperatorSignal], within: timedelta = timedelta(seconds=10), **fields: Any
) -> OperatorSignal:
    """Something is asked for and handled."""
    signal = asked(world, kind, **fields)
    world.queue.send(signal)
    world.drain(within)
    return signal


def asked(world: World, kind: type[OperatorSignal], **fields: Any) -> OperatorSignal:
    """A request that was accepted now, and is not on the queue yet."""
    at = world.clock.now()
    return kind(pipeline="churn", request=at.isoformat(), at=at, **fields)


def manual(folder: Path) -> World:
    """A world in which a person approves every version; version 1 serves."""
    world = World(folder, PIPELINE + "gate: {approval: manual}\n")
    world.to_champion()
    ask(world, ApprovalGiven, REST, version="1")
    assert world.state.champion == "1"
    return world


def two_versions(world: World) -> None:
    """Version 2 has followed version 1."""
    world.to_champion()
    world.to_champion("landing/churn/b.csv")
    assert world.state.champion == "2"


@pytest.mark.parametrize("last", [True, False])
def test_the_newest_of_freeze_and_thaw_wins_in_whatever_order_they_are_handled(world: World, last: bool) -> None:
    world.to_champion()
    older = asked(world, FreezeRequested, frozen=not last)
    newer = asked(world, FreezeRequested, frozen=last)
    for signal in (newer, older):
        world.queue.send(signal)
        world.drain()
    assert world.state.frozen is last
    assert "stale: it was asked for at" in world.decisions()[-1].reason


def test_the_newest_of_pin_unpin_and_rollback_wins_in_whatever_order_they_are_handled(world: World) -> None:
    two_versions(world)
    older, newer = asked(world, PinRequested, version="1"), asked(world, PinRequested, version="")
    for signal in (newer, older):
        world.queue.send(signal)
        world.drain(REST)
    assert (world.state.pinned, world.state.champion) == ("", "2")
    rollback, pin = asked(world, RollbackRequested), asked(world, PinRequested, version="2")
    for signal in (pin, rollback):
        world.queue.send(signal)
        world.drain(REST)
    assert (world.state.pinned, world.state.champion) == ("2", "2")
    assert world.reasons("nothing").count("stale: it was asked for at") == 2


def test_an_approval_that_is_older_than_a_pin_starts_nothing(world: World) -> None:
    two_versions(world)
    ask(world, PinRequested, version="2")
    world.to_champion("landing/churn/c.csv")
    approval, pin = asked(world, ApprovalGiven, version="3"), asked(world, PinRequested, version="2")
    for signal in (pin, approval):
        world.queue.send(signal)
        world.drain(REST)
    assert (world.state.pinned, world.state.champion) == ("2", "2")
    assert world.versions["3"].status == "awaiting_approval"


def test_a_request_from_a_clock_that_was_ahead_does_not_make_later_ones_stale(world: World) -> None:
    world.to_champion()
    right = world.clock.at
    world.clock.at += timedelta(days=365)
    ask(world, FreezeRequested)
    world.clock.at = right
    ask(world, FreezeRequested, frozen=False)
    assert not world.state.frozen


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("apart", [timedelta(milliseconds=500), timedelta(minutes=5)])
def test_a_rollback_that_is_asked_for_twice_leads_back_once(world: World, apart: timedelta, version: str) -> None:
    two_versions(world)
    for _ in range(2):
        ask(world, RollbackRequested, apart, version=version)
    world.drain(REST)
    assert (world.state.champion, world.services.split) == ("1", {"v1": 100})
    assert "already" in world.reasons("nothing") + world.reasons("rejected")
    ask(world, RollbackRequested, REST, version="2")
    assert world.state.champion == "2"


def test_a_rollback_after_one_that_turned_a_rollout_round_leads_no_further_back(world: World) -> None:
    two_versions(world)
    world.land("landing/churn/c.csv")
    world.drain(timedelta(minutes=5))
    for _ in range(2):
        ask(world, RollbackRequested, timedelta(minutes=1))
    world.drain(REST)
    assert (world.state.champion, world.services.split) == ("2", {"v2": 100})
    assert "version 2 is back already" in world.reasons("nothing")


def test_a_new_champion_after_a_rollback_may_be_rolled_back_too(world: World) -> None:
    two_versions(world)
    ask(world, RollbackRequested, REST)
    world.to_champion("landing/churn/c.csv")
    assert world.state.champion == "3"
    ask(world, RollbackRequested, REST)
    assert world.state.champion == "1"


def test_a_rollback_to_the_champion_turns_the_rollout_round(world: World) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=5))
    assert world.services.split == {"v2": 10, "v1": 90}
    ask(world, RollbackRequested, timedelta(minutes=2), version="1")
    assert world.services.split == {"v1": 100}
    assert world.runs[-1].status == "rolled_back"


def test_a_rollback_from_a_pinned_version_stays_and_is_pinned_in_its_place(world: World) -> None:
    two_versions(world)
    ask(world, PinRequested, version="2")
    ask(world, RollbackRequested, REST)
    assert (world.state.champion, world.state.pinned, world.services.split) == ("1", "1", {"v1": 100})


def test_an_approval_while_another_version_is_pinned_stays_and_is_pinned_in_its_place(world: World) -> None:
    world.to_champion()
    ask(world, PinRequested, version="1")
    world.to_champion("landing/churn/b.csv")
    assert world.versions["2"].status == "awaiting_approval"
    ask(world, ApprovalGiven, REST, version="2")
    world.drain(REST)
    assert (world.state.champion, world.state.pinned, world.services.split) == ("2", "2", {"v2": 100})


def test_an_approved_version_that_does_not_come_through_leaves_the_pin_where_it_was(world: World) -> None:
    world.to_champion()
    ask(world, PinRequested, version="1")
    world.to_champion("landing/churn/b.csv")
    world.services.wrong_answers = True
    ask(world, ApprovalGiven, REST, version="2")
    assert (world.state.champion, world.state.pinned, world.services.split) == ("1", "1", {"v1": 100})


def test_a_rollback_of_a_pin_under_way_pins_the_version_that_stays(world: World) -> None:
    two_versions(world)
    signal = asked(world, PinRequested, version="1")
    reactions.handle(signal.to_message(), world.loop)
    ask(world, RollbackRequested, REST)
    assert (world.state.champion, world.state.pinned, world.services.split) == ("2", "2", {"v2": 100})


def test_a_pin_during_a_rollout_that_was_approved_wins(world: World) -> None:
    world.to_champion()
    ask(world, PinRequested, version="1")
    world.to_champion("landing/churn/b.csv")
    ask(world, ApprovalGiven, timedelta(minutes=5), version="2")
    assert world.services.split == {"v2": 10, "v1": 90}
    ask(world, PinRequested, REST, version="1")
    assert (world.state.champion, world.state.pinned, world.services.split) == ("1", "1", {"v1": 100})


@pytest.mark.parametrize("kind", [PinRequested, RollbackRequested])
def test_the_run_of_a_version_that_is_taken_without_approval_ends_with_its_rollout(
    tmp_path: Path, kind: type[OperatorSignal]
) -> None:
    world = manual(tmp_path / "world")
    world.to_champion("landing/churn/b.csv")
    assert world.versions["2"].status == "awaiting_approval"
    ask(world, kind, REST, version="2")
    assert world.state.champion == "2"
    assert [run.status for run in world.runs] == ["succeeded", "succeeded"]
    assert world.state.active_runs == ()
    world.close()


def test_the_run_of_a_version_that_is_pinned_while_it_is_measured_ends_with_its_rollout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.to_champion()
    held: list[Signal] = []
    raises = world.services.raises
    hold = lambda signal: held.append(signal) if isinstance(signal, EvaluationFinished) else raises(signal)  # noqa: E731
    monkeypatch.setattr(world.services, "raises", hold)
    world.to_champion("landing/churn/b.csv")
    assert world.versions["2"].status == "evaluating"
    ask(world, PinRequested, REST, version="2")
    world.queue.send(*held)
    world.drain(REST)
    # Without a measurement there are no answers to hold its smoke test against.
    assert (world.state.champion, world.versions["2"].status) == ("1", "rejected")
    assert world.runs[-1].status == "rolled_back"
    assert "smoke.json is missing" in world.runs[-1].reason
    assert world.state.active_runs == ()


@pytest.mark.parametrize("order", ["23", "32"])
def test_an_approval_during_another_rollout_is_remembered(tmp_path: Path, order: str) -> None:
    world = manual(tmp_path / "world")
    world.to_champion("landing/churn/b.csv")
    world.to_champion("landing/churn/c.csv")
    assert [v.status for v in world.versions.values()] == ["champion", "awaiting_approval", "awaiting_approval"]
    for version in order:
        ask(world, ApprovalGiven, timedelta(minutes=2), version=version, by="ada")
    assert world.services.split == {f"v{order[0]}": 10, "v1": 90}
    world.drain(2 * REST)
    assert world.state.champion == order[1]
    assert world.state.previous == order[0]
    assert [run.status for run in world.runs] == ["succeeded", "succeeded", "succeeded"]
    world.close()


def test_an_approved_version_is_not_superseded_by_a_newer_one_that_waits(tmp_path: Path) -> None:
    world = manual(tmp_path / "world")
    for name in "bc":
        world.to_champion(f"landing/churn/{name}.csv")
    ask(world, ApprovalGiven, timedelta(minutes=2), version="2")
    ask(world, ApprovalGiven, timedelta(minutes=1), version="3")
    world.land("landing/churn/d.csv")
    world.drain(timedelta(minutes=2))
    assert [version.status for version in world.versions.values()][2:] == ["waiting", "waiting"]
    world.drain(2 * REST)
    assert world.state.champion == "3"
    assert world.versions["4"].status == "awaiting_approval"
    world.close()


def test_an_approved_version_that_is_no_longer_better_is_kept_out(tmp_path: Path) -> None:
    world = manual(tmp_path / "world")
    for name in "bc":
        world.to_champion(f"landing/churn/{name}.csv")
    ask(world, ApprovalGiven, timedelta(minutes=2), version="2")
    ask(world, ApprovalGiven, timedelta(minutes=1), version="3")
    world.services.gain = 0.0
    world.drain(2 * REST)
    assert (world.state.champion, world.versions["3"].status) == ("2", "kept_out")
    world.close()


def test_looking_at_one_drift_window_twice_is_no_sustained_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world", PIPELINE.replace("1 of 1", "2 of 3"))
    world.to_champion()

    def drifted(signal: DriftCheckDue, *_: object) -> DriftCheck:
        return DriftCheck(
            pipeline="churn", id=signal.slot.isoformat(), at=signal.slot, status="drift", rows=100, version="1",
            retrain=True,
        )  # fmt: skip

    # The same rows by another query make another model.
    (world.folder / "pipelines" / "churn" / "features.sql").write_text("select customer_id, churn from landed")
    monkeypatch.setattr(drift_check_due, "_check", drifted)
    for request in "ab":
        world.queue.send(DriftCheckDue(pipeline="churn", slot=world.clock.now(), request=request))
        world.drain(timedelta(seconds=1))
    assert world.reasons("nothing").count("seen in 1 of the last 3 checks") == 2
    world.clock.at += timedelta(hours=1)
    world.queue.send(DriftCheckDue(pipeline="churn", slot=world.clock.now()))
    world.drain()
    assert "retraining is asked for" in world.reasons("done")
    world.close()
