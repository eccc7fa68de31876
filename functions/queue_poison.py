"""A message that failed at every attempt."""

from __future__ import annotations

import azure.functions as func

from shared.settings import QUEUE

bp = func.Blueprint()


@bp.function_name("queue_poison")
@bp.queue_trigger(arg_name="message", queue_name=f"{QUEUE}-poison", connection="AzureWebJobsStorage")
def queue_poison(message: func.QueueMessage) -> None:
    """Record a dead letter. The message does not carry its error; the claim of its signal has the last one."""
    from shared import bootstrap, reactions

    reactions.poisoned(message.get_body().decode(errors="replace"), "", bootstrap.loop())
