"""A person stops or resumes training and rollouts of a pipeline."""

from __future__ import annotations

from shared import rollouts, runs, training
from shared.domain.ledger import Batch
from shared.domain.signals import BatchDue, FreezeRequested
from shared.loop import Loop
from shared.runs import Outcome


def react(signal: FreezeRequested, loop: Loop) -> Outcome:
    """Freeze; or thaw and take up the batches, the run and the rollouts that waited."""
    folder = loop.catalog.get(signal.pipeline)
    runs.change_state(loop, signal.pipeline, frozen=signal.frozen)
    if signal.frozen:
        return _outcome(signal, "frozen: landing is recorded, training and rollouts hold")
    now = loop.ports.clock.now()
    waiting = [b for b in loop.ports.ledger.list(Batch, signal.pipeline) if b.status == "closed" and not b.run]
    for batch in waiting:
        loop.ports.queue.send(BatchDue(pipeline=signal.pipeline, batch=batch.id, due=now))
    training.resume(loop, folder)
    for rollout in rollouts.active(loop, signal.pipeline):
        rollouts.wake(loop, rollout)
    return _outcome(signal, f"thawed: {len(waiting)} batches that waited are taken up")


def _outcome(signal: FreezeRequested, reason: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="freeze", reason=reason)
