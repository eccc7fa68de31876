"""What reacts to what, and how a signal is handled once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared import claims, dead_letters, decisions, telemetry
from shared.decisions import Outcome
from shared.domain import signals
from shared.domain.ledger import Claim
from shared.domain.signals import Signal
from shared.errors import Rejected
from shared.loop import Loop
from shared.reactions import (
    approval_given,
    batch_due,
    batch_scoring_requested,
    data_landed,
    drift_check_due,
    evaluation_finished,
    event_unreadable,
    features_ready,
    freeze_requested,
    model_registered,
    pin_requested,
    reconcile_due,
    retraining_due,
    rollback_requested,
    rollout_due,
    training_finished,
)

REACTIONS: dict[type[Signal], Callable[[Any, Loop], Outcome]] = {
    signals.DataLanded: data_landed.react,
    signals.EventUnreadable: event_unreadable.react,
    signals.BatchDue: batch_due.react,
    signals.FeaturesReady: features_ready.react,
    signals.TrainingFinished: training_finished.react,
    signals.ModelRegistered: model_registered.react,
    signals.EvaluationFinished: evaluation_finished.react,
    signals.RolloutDue: rollout_due.react,
    signals.DriftCheckDue: drift_check_due.react,
    signals.RetrainingDue: retraining_due.react,
    signals.ReconcileDue: reconcile_due.react,
    signals.RollbackRequested: rollback_requested.react,
    signals.PinRequested: pin_requested.react,
    signals.FreezeRequested: freeze_requested.react,
    signals.ApprovalGiven: approval_given.react,
    signals.BatchScoringRequested: batch_scoring_requested.react,
}


@telemetry.observed
def handle(message: str, loop: Loop, delivery: str = "") -> Outcome:
    """Handle one queue message: claim its signal, react, write the decision, settle the claim.

    ``delivery`` is the queue's id of the message, the same when it is delivered again. A signal that was
    handled before has no second effect. One that another message is handling is put back on the queue for
    when that one's claim runs out. :class:`~shared.errors.Rejected` and its kin are recorded and end the
    signal; any other error releases the claim and is raised, so that the queue delivers the message again.
    """
    now = loop.ports.clock.now()
    try:
        signal = signals.from_message(message)
    except Rejected as error:
        outcome = Outcome(pipeline="", what="queue message", outcome="rejected", reason=str(error))
        decisions.decide(loop, outcome, at=now, signal=message[:200])
        return outcome
    claim, ours = claims.claim(loop, signal, message, delivery or uuid.uuid4().hex)
    if not ours and claim.status in claims.SETTLED:
        return _duplicate(signal, claim, loop)
    if not ours:
        loop.ports.queue.send(signal, delay=max(claim.lease_until - now, timedelta(0)) + timedelta(seconds=1))
        return Outcome(pipeline="", what=claim.signal, outcome="nothing", reason="another message of it is in hand")
    try:
        outcome = REACTIONS[type(signal)](signal, loop)
    except Rejected as error:
        outcome = Outcome(
            pipeline=_pipeline(signal, loop),
            what=type(signal).__name__,
            outcome="rejected",
            reason=str(error),
            subjects=_subjects(signal),
        )
    except Exception as error:
        claims.settle(loop, claim, "released", str(error))
        raise
    by, said = getattr(signal, "by", ""), str(getattr(signal, "reason", ""))
    if said and said not in outcome.reason:
        outcome = replace(outcome, reason=f"{outcome.reason} ({by or 'asked'}: {said})")
    decision = decisions.decide(loop, outcome, at=claim.first_seen, signal=claim.signal, by=by)
    claims.settle(loop, claim, decision.outcome, decision.reason)
    return replace(outcome, outcome=decision.outcome, reason=decision.reason)


def poisoned(message: str, loop: Loop, delivery: str) -> Outcome:
    """Keep a message that the queue gave up on after its last attempt, where ``landfall events dead`` finds it.

    ``delivery`` is the queue's id of the message: given up twice, it is one dead letter. The error is that of the last
    attempt, which the claim of the signal has.
    """
    try:
        signal = signals.from_message(message)
        pipeline, key, subjects = _pipeline(signal, loop), signal.claim_key, _subjects(signal)
    except Rejected:
        pipeline, key, subjects = "", message[:200], ()
    letter = dead_letters.keep(loop, delivery, message, _last_error(loop.ports.ledger.read(Claim, key, "claim")))
    outcome = Outcome(
        pipeline=pipeline,
        what=key.split(":")[0],
        outcome="failed",
        reason=f"gave up after the last attempt, see landfall events dead: {letter.error}",
        subjects=subjects,
    )
    decisions.decide(loop, outcome, at=letter.at, signal=key)
    return outcome


def _last_error(claim: Claim | None) -> str:
    if claim and claim.status == "released":
        return claim.reason
    return "the app ended each time while the message was being handled"


def _duplicate(signal: Signal, claim: Claim, loop: Loop) -> Outcome:
    outcome = Outcome(
        pipeline=_pipeline(signal, loop),
        what=type(signal).__name__,
        outcome="nothing",
        reason=f"duplicate of a signal that was handled at {claim.first_seen:%Y-%m-%d %H:%M:%S} ({claim.status})",
        subjects=_subjects(signal),
    )
    claims.count_duplicate(loop, claim)
    decisions.decide(loop, outcome, at=loop.ports.clock.now(), signal=claim.signal)
    return outcome


def _pipeline(signal: Signal, loop: Loop) -> str:
    """The pipeline that a signal concerns, empty for none."""
    if isinstance(signal, signals.DataLanded):
        folder = loop.catalog.for_path(signal.path)
        return folder.pipeline.name if folder else ""
    if isinstance(signal, signals.ModelRegistered):
        return signal.model if signal.model in loop.catalog.names() else ""
    return str(getattr(signal, "pipeline", ""))


def _subjects(signal: Signal) -> tuple[str, ...]:
    named = [value for name in ("path", "run", "batch", "rollout") if (value := getattr(signal, name, ""))]
    model = getattr(signal, "model", "") or getattr(signal, "pipeline", "")
    version = getattr(signal, "version", "")
    return (*named, f"{model}:{version}") if model and version else tuple(named)
