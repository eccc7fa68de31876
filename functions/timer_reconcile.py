"""Every five minutes: compare the ledger with the world."""

from __future__ import annotations

import azure.functions as func

from shared.settings import QUEUE

bp = func.Blueprint()


@bp.function_name("timer_reconcile")
@bp.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@bp.queue_output(arg_name="signals", queue_name=QUEUE, connection="AzureWebJobsStorage")
def timer_reconcile(timer: func.TimerRequest, signals: func.Out[str]) -> None:
    """Ask for one reconcile."""
    from shared import bootstrap
    from shared.domain.signals import ReconcileDue

    signals.set(ReconcileDue(slot=bootstrap.loop().ports.clock.now()).to_message())
