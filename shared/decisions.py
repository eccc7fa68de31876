"""What reactions did and why, in words, in the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from shared.domain.ledger import Decision
from shared.domain.redaction import without_secrets
from shared.errors import AlreadyExists
from shared.loop import Loop

NOWHERE = "-"
"""The pipeline of decisions about things that belong to no pipeline."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a reaction did, in words.

    ``outcome`` is done, nothing (``reason`` says why not), rejected, failed or alarm; ``subjects``
    are the things it is about: runs, file paths, "model:version", batches.
    """

    pipeline: str
    what: str
    outcome: str = "done"
    reason: str = ""
    subjects: tuple[str, ...] = ()


def decide(loop: Loop, outcome: Outcome, *, at: datetime, signal: str = "", by: str = "") -> Decision:
    """Write an outcome into the audit, once for the same signal (without one: the same words) at the same time.

    Returns the decision that stands: the first one, when a signal is handled again after a crash.
    Decisions sort newest first in the ledger's key order.
    """
    digest = hashlib.sha256((signal or f"{outcome.what}|{outcome.reason}").encode()).hexdigest()[:12]
    decision = Decision(
        pipeline=outcome.pipeline or NOWHERE,
        id=f"{10**16 - round(at.timestamp() * 1e6):016d}-{digest}",
        at=at,
        what=outcome.what,
        outcome=outcome.outcome,
        reason=without_secrets(outcome.reason),
        signal=signal,
        subjects=outcome.subjects,
        by=by,
    )
    try:
        return loop.ports.ledger.insert(decision)
    except AlreadyExists:
        return loop.ports.ledger.read(Decision, decision.pipeline, decision.id) or decision
