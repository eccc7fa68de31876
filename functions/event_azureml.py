"""A model was registered, or a job ended (Event Grid, Azure ML workspace)."""

from __future__ import annotations

import logging

import azure.functions as func

from shared.domain.events import NoSignal, azureml_signal, delivered
from shared.settings import QUEUE

bp = func.Blueprint()


@bp.function_name("event_azureml")
@bp.event_grid_trigger(arg_name="event")
@bp.queue_output(arg_name="signals", queue_name=QUEUE, connection="AzureWebJobsStorage")
def event_azureml(event: func.EventGridEvent, signals: func.Out[str]) -> None:
    """Put what happened on the signal queue. It never raises: sending an event again would not mend it."""
    signal = azureml_signal(delivered(event))
    if isinstance(signal, NoSignal):
        logging.info("no signal: %s", signal.reason)
    else:
        signals.set(signal.to_message())
