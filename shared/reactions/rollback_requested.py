"""A person wants the previous champion back."""

from __future__ import annotations

from shared import evaluation, rollouts, runs
from shared.domain.ledger import RolloutState
from shared.domain.rollout import roll_back
from shared.domain.signals import RollbackRequested, RolloutDue
from shared.errors import Rejected
from shared.loop import Loop
from shared.runs import Outcome


def react(signal: RollbackRequested, loop: Loop) -> Outcome:
    """Turn a rollout in progress round, or move all traffic to the previous version at once."""
    folder = loop.catalog.get(signal.pipeline)
    state = runs.state_of(loop, signal.pipeline)
    reason = signal.reason or f"asked for by {signal.by or 'hand'}"
    active = loop.ports.ledger.read(RolloutState, signal.pipeline, state.rollout) if state.rollout else None
    if active is not None and not signal.version:
        turned = loop.ports.ledger.update(
            RolloutState, active.pipeline, active.id, lambda present: roll_back(present or active, reason)
        )
        if turned.phase != "rolling_back":
            raise Rejected(
                f"rollout {active.id} is {turned.phase} and cannot be turned round; try again when it has ended"
            )
        loop.ports.queue.send(RolloutDue(pipeline=turned.pipeline, rollout=turned.id, wake=turned.wake))
        return _outcome(signal, f"rollout {turned.id} is rolling back: {reason}", turned.id)
    target = signal.version or state.previous
    if not target:
        raise Rejected(f"{signal.pipeline} has no previous version to go back to")
    if target == state.champion:
        raise Rejected(f"version {target} of {signal.pipeline} is the champion already")
    said = rollouts.begin(loop, folder, evaluation.read_version(loop, signal.pipeline, target), cause="rollback")
    return _outcome(signal, f"back to version {target}: {reason}; {said}", f"{signal.pipeline}:{target}")


def _outcome(signal: RollbackRequested, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="rollback", reason=reason, subjects=subjects)
