"""Train again with what has landed so far, if that is allowed and makes sense."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import timedelta

from shared import pipeline_states, preparation, runs
from shared.decisions import Outcome
from shared.definitions.catalog import PipelineFolder
from shared.domain.ledger import Batch, PipelineState, Run
from shared.domain.signals import RetrainingDue
from shared.domain.spending import over_budget
from shared.loop import Loop

SLOT = re.compile(r"[a-z0-9_]{1,40}")
"""What may stand in the name of a run and of its jobs on every service. No hyphen: of churn and churn-m2, both runs
would be called churn-m2-b000001 when somebody retrains churn by the request 2-b000001."""


def react(signal: RetrainingDue, loop: Loop) -> Outcome:
    """Begin a run, or say why not: frozen, nothing landed, budget spent, a run already under way."""
    folder = loop.catalog.whole(signal.pipeline)
    run_id = _run_id(signal)
    begun = loop.ports.ledger.read(Run, signal.pipeline, run_id) is not None
    against = "" if begun else _nothing_landed(signal.pipeline, loop) or _take_turn(signal, folder, run_id, loop)
    if against:
        return _outcome(signal, "nothing", f"{signal.reason}; no retraining: {against}")
    run = runs.begin(loop, signal.pipeline, run_id, signal.cause, (), signal.reason)
    if run.stage == "features" and not run.ended:
        run = preparation.request(loop, folder, run)
    return _outcome(signal, "done", f"{signal.reason}; run {run.id} begins", run.id)


def _run_id(signal: RetrainingDue) -> str:
    """Named after the occasion. A person may call that anything, and services make no difference between A and a."""
    slot = signal.slot
    if not SLOT.fullmatch(slot):
        legible = re.sub(r"[^a-z0-9]+", "_", slot.lower()).strip("_")[:20]
        slot = f"{legible}_{hashlib.sha256(slot.encode()).hexdigest()[:8]}"
    return f"{signal.pipeline}-{'m' if signal.cause == 'hand' else signal.cause[0]}{slot}"


def _nothing_landed(pipeline: str, loop: Loop) -> str:
    usable = ("accepted", *preparation.UNPREPARED)
    landed = any(batch.status in usable for batch in loop.ports.ledger.list(Batch, pipeline))
    return "" if landed else "no data has landed yet"


def _take_turn(signal: RetrainingDue, folder: PipelineFolder, run_id: str, loop: Loop) -> str:
    """Take the turn and spend the budget in one step, so that of several signals at once only one does; or why not."""
    now = loop.ports.clock.now()
    refused = ""

    def take(state: PipelineState) -> PipelineState:
        nonlocal refused
        refused = "" if run_id in (state.preparing, *state.to_prepare, *state.active_runs) else _why_not(state)
        if refused or run_id in (state.preparing, *state.to_prepare, *state.active_runs):
            return state
        state = preparation.in_line(state, run_id)
        if signal.cause == "hand":
            return state
        drift_at = now if signal.cause == "drift" else state.last_drift_retraining_at
        recent = tuple(at for at in state.retrainings if abs(now - at) < period)
        return replace(state, retrainings=(*recent, now), last_drift_retraining_at=drift_at)

    def _why_not(state: PipelineState) -> str:
        if state.frozen:
            return f"{signal.pipeline} is frozen"
        if signal.cause == "hand":
            return ""
        busy = next((run for run in (state.preparing, state.training, state.waiting) if run), "")
        if busy:
            return f"run {busy} is already on its way to a new model"
        if sum(1 for at in state.retrainings if abs(now - at) < period) >= most:
            return f"the budget of {folder.pipeline.retraining.budget} is used up"
        return over_budget(folder.pipeline, state.spendings, now)

    most, period = folder.pipeline.retraining.allowance
    pipeline_states.update(loop, signal.pipeline, take)
    return refused


def give_up(loop: Loop, pipeline: str, run_id: str, patience: timedelta) -> bool:
    """Take the turn, and what it spent, from a run that a process has not made before it died; False while that may
    still be at it. When its signal comes again, it takes the turn anew."""
    now = loop.ports.clock.now()
    by_hand = run_id.startswith(f"{pipeline}-m")
    given_up = False

    def give_back(state: PipelineState) -> PipelineState:
        nonlocal given_up
        # While it has the turn nobody else spends, so the last entry is its own.
        spent = state.retrainings[-1:] if state.preparing == run_id and not by_hand else ()
        given_up = not any(abs(now - at) < patience for at in spent)
        if not given_up or state.preparing != run_id:
            return state
        return replace(state, preparing="", retrainings=state.retrainings[: len(state.retrainings) - len(spent)])

    pipeline_states.update(loop, pipeline, give_back)
    return given_up


def _outcome(signal: RetrainingDue, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="retraining", outcome=outcome, reason=reason, subjects=subjects)
