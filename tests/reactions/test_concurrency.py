"""Many threads handle signals at once, as the host lets them: the ledger decides who goes first."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from shared import reactions
from shared.domain.ledger import Claim, Landed
from shared.domain.signals import ReconcileDue, RetrainingDue
from shared.errors import Transient
from tests.reactions.world import VISIBILITY, World

THREADS = 8


def drain_together(world: World, within: timedelta, order: random.Random) -> None:
    """Deliver what is visible by several threads at once, in any order; move the clock when nothing is."""
    end = world.clock.at + within
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(3000):
            world.collect()
            ready = [entry for entry in world.queue.messages if entry[0] <= world.clock.at]
            if not ready:
                later = min((at for at, _ in world.queue.messages), default=None)
                if later is None or later > end:
                    break
                world.clock.at = later
                continue
            world.queue.messages = [entry for entry in world.queue.messages if entry[0] > world.clock.at]
            order.shuffle(ready)
            again = [text for text in pool.map(lambda entry: _handled(world, entry[1]), ready) if text]
            world.queue.messages += [(world.clock.at + VISIBILITY, text) for text in again]
        else:
            raise AssertionError("the loop never rests")
    world.clock.at = max(world.clock.at, end)


def _handled(world: World, text: str) -> str:
    try:
        reactions.handle(text, world.loop)
    except Transient:
        return text
    return ""


@pytest.mark.parametrize("seed", range(3))
def test_a_burst_of_events_with_repeats_and_disorder_is_one_run_a_batch_and_loses_nothing(
    tmp_path: Path, seed: int
) -> None:
    order = random.Random(seed)
    world = World(tmp_path / "world")
    paths = []
    for burst in range(3):
        events = []
        for n in range(40):
            paths.append(f"landing/churn/{burst}-{n}.csv")
            events.append(world.land(paths[-1]))
        for event in order.sample(events, 8):
            world.queue.send(event)
        order.shuffle(world.queue.messages)
        drain_together(world, timedelta(seconds=50), order)
    for _ in range(6):
        drain_together(world, timedelta(minutes=20), order)
        world.queue.send(ReconcileDue(slot=world.clock.now()))
    drain_together(world, timedelta(minutes=20), order)

    in_batches = [file.path for batch in world.batches for file in batch.files]
    assert sorted(in_batches) == sorted(paths), "every file is in exactly one batch"
    assert len(world.runs) >= 3
    assert len(world.runs) == len([batch for batch in world.batches if batch.files])
    assert all(run.ended for run in world.runs), [(run.id, run.stage, run.status) for run in world.runs]
    accepted = {run.id for run in world.runs if run.status in ("succeeded", "kept", "superseded")}
    assert accepted == {run.id for run in world.runs}
    assert len({model.job for model in world.services.models.values()}) == len(world.services.models)
    assert sum(world.services.split.values()) == 100
    state = world.state
    assert (state.preparing, state.to_prepare, state.training, state.waiting, state.rollout) == ("", (), "", "", "")
    assert state.active_runs == ()
    for path in paths:
        assert world.ledger.read(Landed, "churn", path) is not None
    world.close()


def test_of_several_reasons_to_retrain_at_once_one_is_taken(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.to_champion()
    for cause in ("schedule", "drift"):
        for slot in range(5):
            world.queue.send(RetrainingDue(pipeline="churn", cause=cause, slot=str(slot), reason=cause))
    world.services.hold_training = True
    drain_together(world, timedelta(minutes=1), random.Random(1))
    assert len([run for run in world.runs if run.cause in ("schedule", "drift")]) == 1
    assert len(world.state.retrainings) == 1
    world.close()


def test_one_signal_delivered_to_all_threads_at_once_has_one_effect(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    event = world.land()
    world.queue.messages = world.queue.messages * THREADS
    drain_together(world, timedelta(0), random.Random(1))
    drain_together(world, timedelta(minutes=30), random.Random(1))
    claim = world.ledger.read(Claim, event.claim_key, "claim")
    assert claim is not None and claim.status == "done"
    assert claim.duplicates == THREADS - 1
    assert len(world.runs) == 1
    world.close()
