"""Every minute: which pipelines are due for a scheduled retraining?"""

from __future__ import annotations

from datetime import timedelta

import azure.functions as func

bp = func.Blueprint()

LOOK_BACK = timedelta(hours=2)
"""How far a tick looks back at least, so that late and failed ticks lose nothing."""
CATCH_UP = timedelta(days=7)
"""How far it looks back at most when no timer ran for long."""


@bp.function_name("timer_retraining")
@bp.timer_trigger(arg_name="timer", schedule="0 * * * * *")
def timer_retraining(timer: func.TimerRequest) -> None:
    """Raise the newest slot of each pipeline's ``retraining.schedule`` since the last tick that nobody asked for yet.

    Of several slots that were missed only the newest is raised: they would all train on the same data.
    """
    from shared import bootstrap
    from shared.domain.ledger import Claim
    from shared.domain.schedule import last_tick, slots_between
    from shared.domain.signals import RetrainingDue

    loop = bootstrap.loop()
    now = loop.ports.clock.now()
    since = max(min(last_tick(getattr(timer, "schedule_status", {})) or now, now - LOOK_BACK), now - CATCH_UP)
    for pipeline in (folder.pipeline for folder in loop.catalog.all()):
        schedule = pipeline.retraining.schedule
        for slot in slots_between(schedule, since, now)[-1:] if schedule else ():
            signal = RetrainingDue(
                pipeline=pipeline.name,
                cause="schedule",
                slot=f"{slot:%Y%m%dt%H%M}",
                reason=f"schedule {schedule} at {slot:%Y-%m-%d %H:%M} UTC",
            )
            if loop.ports.ledger.read(Claim, signal.claim_key, "claim") is None:
                loop.ports.queue.send(signal)
