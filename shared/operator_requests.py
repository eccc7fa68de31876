"""What people ask for: the newest request wins, in whatever order the queue delivers them."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.domain.signals import OperatorSignal
from shared.loop import Loop

SKEW = timedelta(minutes=1)
"""How far the clocks of two instances may be apart; a time further ahead was a wrong clock's and counts for nothing."""


def asked_at(signal: OperatorSignal, loop: Loop) -> datetime:
    """When a request was accepted; now for one of an older release, which does not say it."""
    return signal.at or loop.ports.clock.now()


def stale(loop: Loop, at: datetime, *newest: datetime | None) -> bool:
    """True when a request accepted at ``at`` is older than one of those that were heeded already."""
    limit = loop.ports.clock.now() + SKEW
    return any(at < other <= limit for other in newest if other)


def words(at: datetime) -> str:
    """What to record of a request that came too late."""
    return f"stale: it was asked for at {at:%Y-%m-%d %H:%M:%S} UTC, a newer request has been heeded since"
