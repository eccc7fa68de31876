"""The one place where signals are acted upon."""

from __future__ import annotations

import azure.functions as func

from shared.settings import QUEUE

bp = func.Blueprint()


@bp.function_name("queue_signals")
@bp.queue_trigger(arg_name="message", queue_name=QUEUE, connection="AzureWebJobsStorage")
def queue_signals(message: func.QueueMessage) -> None:
    """Handle one signal. It raises when the queue must deliver the message again."""
    from shared import bootstrap, reactions

    reactions.handle(message.get_body().decode(), bootstrap.loop(), message.id or "")
