"""Each signal once: who may handle it, what became of it, and how one that is needed again is opened again."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta

from shared.domain.ledger import Claim
from shared.domain.redaction import without_secrets
from shared.domain.signals import Signal
from shared.errors import AlreadyExists, Conflict
from shared.loop import Loop

LEASE = timedelta(minutes=11)
"""How long a claim holds against other messages of the same signal: longer than functionTimeout of host.json."""

SETTLED = ("done", "nothing", "alarm", "rejected", "failed")


def claim(loop: Loop, signal: Signal, message: str, delivery: str) -> tuple[Claim, bool]:
    """The claim of a signal, and whether it is ours to handle; else it is settled, or somebody else works on it.

    ``delivery`` is the queue's id of the message. It comes again only when its handling has failed or
    died, so a message takes over at once what it had claimed before.
    """
    now, ledger = loop.ports.clock.now(), loop.ports.ledger
    ours = Claim(
        signal=signal.claim_key,
        message=message,
        status="working",
        owner=delivery,
        lease_until=now + LEASE,
        first_seen=now,
    )
    try:
        return ledger.insert(ours), True
    except AlreadyExists:
        present = ledger.read(Claim, ours.signal, "claim") or ours
    held = present.status == "working" and present.owner != delivery and present.lease_until > now
    if held or present.status in SETTLED:
        return present, False
    try:
        return ledger.replace(
            replace(present, status="working", owner=delivery, lease_until=now + LEASE, attempts=present.attempts + 1)
        ), True
    except Conflict:
        return replace(present, status="working", lease_until=now), False


def settle(loop: Loop, claim: Claim, status: str, reason: str) -> None:
    """Say what became of a signal, unless another delivery has taken it over meanwhile."""

    def change(present: Claim | None) -> Claim:
        if present is None or present.owner != claim.owner:
            return present or claim
        return replace(present, status=status, reason=without_secrets(reason)[:2000])

    loop.ports.ledger.update(Claim, claim.signal, "claim", change)


def count_duplicate(loop: Loop, claim: Claim) -> None:
    """Note one more delivery of a signal that was handled."""

    def change(present: Claim | None) -> Claim:
        present = present or claim
        return replace(present, duplicates=present.duplicates + 1)

    loop.ports.ledger.update(Claim, claim.signal, "claim", change)


def reopen(loop: Loop, signal: Signal) -> None:
    """Let a signal that was settled be handled once more: the world shows that it is needed still, or again."""
    settled = loop.ports.ledger.read(Claim, signal.claim_key, "claim")
    if settled is None or settled.status not in SETTLED:
        return
    with contextlib.suppress(Conflict):
        # Somebody who changes it at this moment has it in hand.
        loop.ports.ledger.replace(replace(settled, status="released", first_seen=loop.ports.clock.now()))
