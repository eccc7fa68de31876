"""An event that no signal can be made of: recorded, nothing else."""

from __future__ import annotations

from shared.decisions import Outcome
from shared.domain.signals import EventUnreadable
from shared.loop import Loop


def react(signal: EventUnreadable, loop: Loop) -> Outcome:
    """Record why the event was not understood."""
    return Outcome(
        pipeline="",
        what=f"event of {signal.source}",
        outcome="rejected",
        reason=signal.reason,
        subjects=(signal.event,),
    )
