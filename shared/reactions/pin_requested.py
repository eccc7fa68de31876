"""A person wants one version to serve, whatever the gate says."""

from __future__ import annotations

from shared import evaluation, rollouts, runs
from shared.domain.ledger import RolloutState
from shared.domain.signals import PinRequested
from shared.loop import Loop
from shared.runs import Outcome


def react(signal: PinRequested, loop: Loop) -> Outcome:
    """Pin the version and bring it to 100 %, when a rollout is under way after its end; or unpin."""
    folder = loop.catalog.get(signal.pipeline)
    if not signal.version:
        runs.change_state(loop, signal.pipeline, pinned="")
        return _outcome(signal, "unpinned: the gate decides again")
    version = evaluation.read_version(loop, signal.pipeline, signal.version)
    state = runs.change_state(loop, signal.pipeline, pinned=signal.version)
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
