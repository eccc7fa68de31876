"""A person wants the previous champion back."""

from __future__ import annotations

from dataclasses import replace

from shared import evaluation, operator_requests, rollouts
from shared.domain.ledger import PipelineState, RolloutState
from shared.domain.signals import RollbackRequested
from shared.errors import Rejected
from shared.loop import Loop
from shared.runs import Outcome


def react(signal: RollbackRequested, loop: Loop) -> Outcome:
    """Turn a rollout in progress round, or move all traffic to the previous version at once.

    A pin, an approval or another rollback that was asked for later wins.
    """
    folder = loop.catalog.get(signal.pipeline)
    at = operator_requests.asked_at(signal, loop)
    reason = signal.reason or f"asked for by {signal.by or 'hand'}"
    repeated = False

    def aim(state: PipelineState | None) -> PipelineState:
        nonlocal repeated
        state = state or PipelineState(pipeline=signal.pipeline)
        repeated = state.rollback[:1] == (signal.request,)
        about = signal.version or state.rollout or state.previous
        if operator_requests.stale(loop, at, state.asked_at, state.approved_at):
            return state
        if repeated:
            return replace(state, asked_at=at)
        return replace(state, rollback=(signal.request, about), asked_at=at)

    state = loop.ports.ledger.update(PipelineState, signal.pipeline, "state", aim)
    if state.asked_at != at:
        return replace(_outcome(signal, operator_requests.words(at)), outcome="nothing")
    about = state.rollback[1]
    rollout = loop.ports.ledger.read(RolloutState, signal.pipeline, about)
    if rollout is not None:
        turned = rollouts.turn_round(loop, rollout, reason)
        if turned.phase not in ("rolling_back", "rolled_back"):
            raise Rejected(
                f"rollout {turned.id} is {turned.phase} and cannot be turned round; try again when it has ended"
            )
        return _outcome(signal, f"rollout {turned.id} is rolling back: {reason}", turned.id)
    if not about:
        raise Rejected(f"{signal.pipeline} has no previous version to go back to")
    if about == state.champion and not repeated:
        raise Rejected(f"version {about} of {signal.pipeline} is the champion already")
    version = evaluation.read_version(loop, signal.pipeline, about)
    said = "it serves" if about == state.champion else rollouts.begin(loop, folder, version, cause="rollback")
    return _outcome(signal, f"back to version {about}: {reason}; {said}", f"{signal.pipeline}:{about}")


def _outcome(signal: RollbackRequested, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="rollback", reason=reason, subjects=subjects)
