"""A person wants one version to serve, whatever the gate says."""

from __future__ import annotations

from dataclasses import replace

from shared import operator_requests, pipeline_states, rollouts, versions
from shared.decisions import Outcome
from shared.domain.ledger import PipelineState, RolloutState
from shared.domain.signals import PinRequested
from shared.loop import Loop


def react(signal: PinRequested, loop: Loop) -> Outcome:
    """Pin the version and bring it to 100 %, when a rollout is under way after its end; or unpin.

    A rollback, an approval or another pin that was asked for later wins.
    """
    folder = loop.catalog.get(signal.pipeline)
    version = versions.read(loop, signal.pipeline, signal.version) if signal.version else None
    at = operator_requests.asked_at(signal, loop)

    def change(state: PipelineState) -> PipelineState:
        if operator_requests.stale(loop, at, state.asked_at, state.approved_at):
            return state
        return replace(state, pinned=signal.version, asked_at=at)

    state = pipeline_states.update(loop, signal.pipeline, change)
    if state.asked_at != at:
        return replace(_outcome(signal, operator_requests.words(at)), outcome="nothing")
    if version is None:
        return _outcome(signal, "unpinned: the gate decides again")
    subject = f"{signal.pipeline}:{signal.version}"
    active = loop.ports.ledger.read(RolloutState, signal.pipeline, state.rollout) if state.rollout else None
    if active and active.challenger != signal.version:
        rollouts.turn_round(loop, active, f"version {signal.version} was pinned")
        return _outcome(signal, f"version {signal.version} is pinned and follows rollout {active.id}", subject)
    if state.champion == signal.version and not active:
        return _outcome(signal, f"version {signal.version} is the champion and stays it", subject)
    said = rollouts.begin(loop, folder, version, cause="pin")
    return _outcome(signal, f"version {signal.version} is pinned; {said}", subject)


def _outcome(signal: PinRequested, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="pin", reason=reason, subjects=subjects)
