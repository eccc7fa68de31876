"""Every minute: which pipelines are due for a drift check?"""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("timer_drift")
@bp.timer_trigger(arg_name="timer", schedule="0 * * * * *")
def timer_drift(timer: func.TimerRequest) -> None:
    """Raise the newest slot of each pipeline's ``drift.every`` that no check was asked for yet.

    Slots are whole multiples of ``every`` since 1970 in UTC. A slot that ended while no timer ran is caught up
    with by the next tick, once: a check looks back over its whole window in any case.
    """
    from shared import bootstrap
    from shared.domain.ledger import Claim
    from shared.domain.schedule import slot_start
    from shared.domain.signals import DriftCheckDue

    loop = bootstrap.loop()
    now = loop.ports.clock.now()
    for pipeline in (folder.pipeline for folder in loop.catalog.live()):
        signal = DriftCheckDue(pipeline=pipeline.name, slot=slot_start(now, pipeline.drift.every))
        if loop.ports.ledger.read(Claim, signal.claim_key, "claim") is None:
            loop.ports.queue.send(signal)
