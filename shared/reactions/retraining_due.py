"""Train again with what has landed so far, if that is allowed and makes sense."""

from __future__ import annotations

from dataclasses import replace

from shared import preparation, runs
from shared.catalog import PipelineFolder
from shared.domain.ledger import Batch, PipelineState
from shared.domain.signals import RetrainingDue
from shared.loop import Loop
from shared.runs import Outcome


def react(signal: RetrainingDue, loop: Loop) -> Outcome:
    """Begin a run, or say why not: frozen, nothing landed, budget spent, a run already under way."""
    folder = loop.catalog.get(signal.pipeline)
    run_id = f"{signal.pipeline}-{signal.cause[0] if signal.cause != 'hand' else 'm'}{signal.slot}"
    state = runs.state_of(loop, signal.pipeline)
    against = None if run_id in state.active_runs else _why_not(signal, folder, state, loop)
    if against:
        return _outcome(signal, "nothing", f"{signal.reason}; no retraining: {against}")
    _spend(signal, folder, loop)
    run = runs.begin(loop, signal.pipeline, run_id, signal.cause, (), signal.reason)
    if run.stage == "features" and not run.ended:
        run = preparation.request(loop, folder, run)
    return _outcome(signal, "done", f"{signal.reason}; run {run.id} begins", run.id)


def _why_not(signal: RetrainingDue, folder: PipelineFolder, state: PipelineState, loop: Loop) -> str:
    if state.frozen:
        return f"{signal.pipeline} is frozen"
    usable = ("accepted", *preparation.UNPREPARED)
    if not any(batch.status in usable for batch in loop.ports.ledger.list(Batch, signal.pipeline)):
        return "no data has landed yet"
    if signal.cause == "hand":
        return ""
    busy = next((run for run in (state.preparing, state.training, state.waiting) if run), "")
    if busy:
        return f"run {busy} is already on its way to a new model"
    most, period = folder.pipeline.retraining.allowance
    since = loop.ports.clock.now() - period
    used = sum(1 for at in state.retrainings if at > since)
    if used >= most:
        return f"the budget of {folder.pipeline.retraining.budget} is used up"
    return ""


def _spend(signal: RetrainingDue, folder: PipelineFolder, loop: Loop) -> None:
    if signal.cause == "hand":
        return
    now = loop.ports.clock.now()
    _, period = folder.pipeline.retraining.allowance

    def change(state: PipelineState | None) -> PipelineState:
        state = state or PipelineState(pipeline=signal.pipeline)
        recent = tuple(at for at in state.retrainings if at > now - period)
        drift_at = now if signal.cause == "drift" else state.last_drift_retraining_at
        return replace(state, retrainings=(*recent, now), last_drift_retraining_at=drift_at)

    loop.ports.ledger.update(PipelineState, signal.pipeline, "state", change)


def _outcome(signal: RetrainingDue, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="retraining", outcome=outcome, reason=reason, subjects=subjects)
