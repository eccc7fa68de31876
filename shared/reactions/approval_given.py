"""A person lets a version that passed the gate roll out, or turns it down."""

from __future__ import annotations

from dataclasses import replace

from shared import evaluation, operator_requests, pipeline_states, rollouts, runs, versions
from shared.decisions import Outcome
from shared.domain.ledger import PipelineState, Run
from shared.domain.signals import ApprovalGiven
from shared.errors import Rejected
from shared.loop import Loop


def react(signal: ApprovalGiven, loop: Loop) -> Outcome:
    """Start the rollout of an approved version; measure it again when the champion changed since its verdict.

    A pin or a rollback that was asked for after the approval wins; a pin that is older moves to the approved version
    once it serves.
    """
    folder = loop.catalog.get(signal.pipeline)
    version = versions.read(loop, signal.pipeline, signal.version)
    if version.status in (("rolling_out", "champion") if signal.approved else ("rejected",)):
        return replace(_outcome(signal, f"version {signal.version} is already {version.status}"), outcome="nothing")
    if version.status != "awaiting_approval":
        raise Rejected(f"version {signal.version} of {signal.pipeline} is {version.status}, it waits for no approval")
    state = pipeline_states.read(loop, signal.pipeline)
    who = signal.by or "hand"
    if not signal.approved:
        reason = f"turned down by {who}" + (f": {signal.reason}" if signal.reason else "")
        if version.run:
            runs.end(
                loop, runs.read(loop, signal.pipeline, version.run), "kept" if state.champion else "rejected", reason
            )
        versions.change(loop, version, status="rejected")
        return _outcome(signal, reason)
    if state.frozen:
        raise Rejected(f"{signal.pipeline} is frozen: thaw it before you approve version {signal.version}")
    at = operator_requests.asked_at(signal, loop)

    def note(present: PipelineState) -> PipelineState:
        if operator_requests.stale(loop, at, present.asked_at, present.approved_at):
            return present
        return replace(present, approved_at=at)

    state = pipeline_states.update(loop, signal.pipeline, note)
    if operator_requests.stale(loop, at, state.asked_at):
        return replace(_outcome(signal, operator_requests.words(at)), outcome="nothing")
    version = versions.change(loop, version, approved_at=at, approved_by=who)
    if evaluation.job_name(version, state.champion) != version.job:
        return _outcome(
            signal, f"approved by {who}, but the champion changed: {evaluation.begin(loop, folder, version)}"
        )
    run = loop.ports.ledger.read(Run, signal.pipeline, version.run) if version.run else None
    if run:
        runs.move(loop, run, "gate", "running", f"approved by {who}")
    return _outcome(
        signal, f"approved by {who}; {rollouts.begin(loop, folder, version, cause='approval', asked_at=at)}"
    )


def _outcome(signal: ApprovalGiven, reason: str) -> Outcome:
    return Outcome(
        pipeline=signal.pipeline, what="approval", reason=reason, subjects=(f"{signal.pipeline}:{signal.version}",)
    )
