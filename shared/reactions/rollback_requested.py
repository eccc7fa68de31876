"""A person wants the previous champion back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from shared import operator_requests, pipeline_states, rollouts, versions
from shared.decisions import Outcome
from shared.domain.ledger import PipelineState, RolloutState
from shared.domain.signals import RollbackRequested
from shared.errors import Rejected, Transient
from shared.loop import Loop


def react(signal: RollbackRequested, loop: Loop) -> Outcome:
    """Turn a rollout in progress round, or move all traffic to the previous version at once.

    Asked for again it changes nothing: a rollback is not turned round, and one that is through leads no further back,
    unless a version is named. While a version is pinned, the one that is led back to is pinned in its place. A pin,
    an approval or another rollback that was asked for later wins.
    """
    folder = loop.catalog.get(signal.pipeline)
    at = operator_requests.asked_at(signal, loop)
    reason = signal.reason or f"asked for by {signal.by or 'hand'}"
    nothing = ""

    def aim(state: PipelineState) -> PipelineState:
        nonlocal nothing
        if operator_requests.stale(loop, at, state.asked_at, state.approved_at):
            nothing = operator_requests.words(at)
            return state
        if state.rollback[:1] == (signal.request,):
            return replace(state, asked_at=at)
        about, nothing = _about(signal, loop, state)
        return state if nothing else _aimed(state, signal.request, about, at)

    state = pipeline_states.update(loop, signal.pipeline, aim)
    if nothing:
        return replace(_outcome(signal, nothing), outcome="nothing")
    about = state.rollback[1]
    rollout = loop.ports.ledger.read(RolloutState, signal.pipeline, about)
    if rollout is not None:
        turned = rollouts.turn_round(loop, rollout, reason)
        if turned.phase not in ("rolling_back", "rolled_back"):
            raise Rejected(
                f"rollout {turned.id} is {turned.phase} and cannot be turned round; try again when it has ended"
            )
        rollouts.move_pin(loop, signal.pipeline, turned.champion, at)
        return _outcome(signal, f"rollout {turned.id} is rolling back: {reason}", turned.id)
    version = versions.read(loop, signal.pipeline, about)
    said = "it serves"
    if about != state.champion:
        said = rollouts.begin(loop, folder, version, cause="rollback", asked_at=at)
    return _outcome(signal, f"back to version {about}: {reason}; {said}", f"{signal.pipeline}:{about}")


def _about(signal: RollbackRequested, loop: Loop, state: PipelineState) -> tuple[str, str]:
    """The rollout to turn round or the version to go back to; or, second, why there is nothing to do.

    Raises Rejected when there is nothing to go back to.
    """
    if state.rollout:
        under_way = loop.ports.ledger.read(RolloutState, signal.pipeline, state.rollout)
        if under_way is None:
            raise Transient(f"rollout {state.rollout} is not in the ledger yet")
        if signal.version not in ("", under_way.champion, under_way.challenger):
            raise Rejected(f"rollout {under_way.id} is under way; name a version again when it has ended")
        again = under_way.cause == "rollback" and not signal.version
        if again or signal.version == under_way.challenger:
            return "", f"rollout {under_way.id} to version {under_way.challenger} is under way already"
        return under_way.id, ""
    if not signal.version and _through(loop, state):
        return "", f"version {state.champion} is back already; name a version to go to another one"
    about = signal.version or state.previous
    if not about:
        raise Rejected(f"{signal.pipeline} has no previous version to go back to")
    if about == state.champion:
        raise Rejected(f"version {about} of {signal.pipeline} is the champion already")
    versions.read(loop, signal.pipeline, about)
    return about, ""


def _aimed(state: PipelineState, request: str, about: str, at: datetime) -> PipelineState:
    """The state with the request, what it is about, and the number of the rollout that carries it out."""
    number = state.rollouts if about == state.rollout else state.rollouts + 1
    return replace(state, rollback=(request, about, str(number)), asked_at=at)


def _through(loop: Loop, state: PipelineState) -> bool:
    """True when nothing has been rolled out since the last rollback, and that has led where it should."""
    if state.rollback[2:] != (str(state.rollouts),):
        return False
    about = state.rollback[1]
    turned = loop.ports.ledger.read(RolloutState, state.pipeline, about)
    return state.champion == (turned.champion if turned else about)


def _outcome(signal: RollbackRequested, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="rollback", reason=reason, subjects=subjects)
