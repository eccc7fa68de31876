"""A message that failed at every attempt."""

from __future__ import annotations

import azure.functions as func

from shared.settings import QUEUE

bp = func.Blueprint()


@bp.function_name("queue_poison")
@bp.queue_trigger(arg_name="message", queue_name=f"{QUEUE}-poison", connection="AzureWebJobsStorage")
def queue_poison(message: func.QueueMessage) -> None:
    """Keep a dead letter in the ledger. The message does not carry its error; its signal's claim has the last one."""
    from shared import bootstrap, reactions

    reactions.poisoned(message.get_body().decode(errors="replace"), bootstrap.loop(), str(message.id))
