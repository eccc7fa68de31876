"""The process dies at every place where it can: the loop ends as if it had not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared import runs
from shared.domain.signals import ReconcileDue, RetrainingDue
from tests.reactions.world import PIPELINE, Crash, World


def story(world: World) -> tuple[object, ...]:
    """What must be the same whatever died: batches, runs, versions, champion, traffic, jobs."""
    return (
        [sorted(file.path for file in batch.files) for batch in world.batches if batch.files],
        [(run.id, run.status) for run in world.runs],
        [(version.version, version.status) for version in world.versions.values()],
        (world.state.champion, world.state.previous, world.state.rollout, world.state.training, world.state.preparing),
        (world.state.active_runs, world.state.waiting, world.state.to_prepare),
        (world.state.open_batches, world.state.closed_batches),
        sorted(world.services.split.items()),
        sorted(world.services.jobs),
    )


def live(world: World) -> None:
    """Two landings, a full rollout, with the reconcile timer running."""
    world.land("landing/churn/a.csv")
    rest(world)
    world.land("landing/churn/b.csv")
    rest(world)


def rest(world: World) -> None:
    for _ in range(8):
        world.drain(timedelta(minutes=20))
        world.queue.send(ReconcileDue(slot=world.clock.now()))
    world.drain(timedelta(minutes=20))


def test_a_crash_at_any_call_of_a_rollout_with_copies_changes_nothing_in_the_end(tmp_path: Path) -> None:
    mirrored = PIPELINE.replace("steps: [10, 50, 100]", "steps: [100], mirror: 20")

    def promoted(world: World) -> tuple[object, ...]:
        world.land("landing/churn/b.csv")
        rest(world)
        return (*story(world), world.services.mirror("churn"), world.state.mirror)

    def life(folder: Path) -> World:
        world = World(folder, mirrored)
        world.land("landing/churn/a.csv")
        rest(world)
        return world

    undisturbed = life(tmp_path / "undisturbed")
    undisturbed.fuse.left = 10**9
    expected = promoted(undisturbed)
    calls = 10**9 - undisturbed.fuse.left
    assert expected[3] == ("2", "1", "", "", "") and expected[-2:] == ({}, {})
    assert "copies of 20 % to v2" in " ".join(decision.reason for decision in undisturbed.decisions())
    for fuse in range(1, calls, max(1, calls // 24)):
        world = life(tmp_path / f"crash{fuse}")
        world.fuse.left = fuse
        assert promoted(world) == expected, f"after a crash at call {fuse} of {calls}"
        world.close()


def calls_of_an_undisturbed_life(folder: Path) -> tuple[int, tuple[object, ...]]:
    world = World(folder)
    world.fuse.left = 10**9
    live(world)
    return 10**9 - world.fuse.left, story(world)


def test_any_message_that_is_lost_is_made_up_for(tmp_path: Path) -> None:
    world = World(tmp_path / "undisturbed")
    live(world)
    expected, sent = story(world), world.queue.sent
    assert sent > 30
    for lost in range(1, sent + 1, 1 + sent // 60):
        world = World(tmp_path / f"lost{lost}")
        world.queue.lost = lost
        live(world)
        assert story(world) == expected, f"after message {lost} of {sent} was lost"
        world.close()


@pytest.mark.parametrize("part", range(8))
def test_a_crash_at_any_call_changes_nothing_in_the_end(tmp_path: Path, part: int) -> None:
    calls, expected = calls_of_an_undisturbed_life(tmp_path / "undisturbed")
    assert expected[3] == ("2", "1", "", "", "")
    for fuse in range(1 + part, calls, 8 * max(1, calls // 200)):
        world = World(tmp_path / f"crash{fuse}")
        world.fuse.left = fuse
        live(world)
        assert world.fuse.left is None, f"no crash happened at call {fuse}"
        assert story(world) == expected, f"after a crash at call {fuse} of {calls}"
        world.close()


@pytest.mark.parametrize("away", [timedelta(seconds=5), timedelta(minutes=30)])
def test_a_retraining_whose_process_died_between_taking_the_turn_and_making_the_run_is_paid_once(
    world: World, monkeypatch: pytest.MonkeyPatch, away: timedelta
) -> None:
    world.to_champion()

    def die(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as dying:
        dying.setattr(runs, "begin", die)
        world.queue.send(RetrainingDue(pipeline="churn", cause="schedule", slot="s1", reason="weekly"))
        world.drain()
    assert (world.state.preparing, len(world.state.retrainings)) == ("churn-ss1", 1)
    again, world.queue.messages = world.queue.messages, []
    world.drain(away)
    world.queue.send(ReconcileDue(slot=world.clock.at))
    world.drain()
    world.queue.messages += again
    world.drain(timedelta(hours=2))
    assert [(run.id, run.status) for run in world.runs][1:] == [("churn-ss1", "succeeded")]
    assert len(world.state.retrainings) == 1
