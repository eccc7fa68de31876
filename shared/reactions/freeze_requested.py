"""A person stops or resumes training and rollouts of a pipeline."""

from __future__ import annotations

from dataclasses import replace

from shared import operator_requests, pipeline_states, rollouts, training
from shared.decisions import Outcome
from shared.domain.ledger import Batch, PipelineState
from shared.domain.signals import BatchDue, FreezeRequested
from shared.loop import Loop


def react(signal: FreezeRequested, loop: Loop) -> Outcome:
    """Freeze; or thaw and take up the batches, the run and the rollouts that waited. The newest request wins."""
    folder = loop.catalog.get(signal.pipeline)
    at = operator_requests.asked_at(signal, loop)

    def change(state: PipelineState) -> PipelineState:
        if operator_requests.stale(loop, at, state.frozen_at):
            return state
        return replace(state, frozen=signal.frozen, frozen_at=at)

    if pipeline_states.update(loop, signal.pipeline, change).frozen_at != at:
        return replace(_outcome(signal, operator_requests.words(at)), outcome="nothing")
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
