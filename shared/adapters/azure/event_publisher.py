"""What Landfall publishes, as CloudEvents on a custom topic of Event Grid."""

from __future__ import annotations

import json
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.failures import translated
from shared.errors import Conflict, Missing, Rejected, Transient
from shared.ports.clock import Clock

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.eventgrid import EventGridPublisherClient


class EventGridTopic:
    """The EventPublisher port on the topic at ``address`` (https://<topic>.<region>-1.eventgrid.azure.net/api/events).

    Event Grid delivers at least once and in no order; a repeated event has the same id.
    """

    def __init__(self, address: str, clock: Clock, credential: TokenCredential, *, seconds: float = 20.0) -> None:
        self._address = address
        self._clock = clock
        self._credential = credential
        self._seconds = seconds

    def publish(self, kind: str, subject: str, data: dict[str, Any], *, id: str) -> None:
        """See :meth:`EventPublisher.publish`. Raises Rejected when ``data`` is not JSON or too large for a topic."""
        from azure.core.messaging import CloudEvent

        what = f"event {id} (Landfall.{kind} about {subject})"
        try:
            # As the receivers get it: the SDK would write NaN, which is no JSON.
            content = json.loads(json.dumps(data, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise Rejected(f"{what} cannot be published: {error}") from error
        event = CloudEvent(
            source="landfall", type=f"Landfall.{kind}", subject=subject, data=content, id=id, time=self._clock.now()
        )
        try:
            with translated(f"publish {what} to {self._address}"):
                # Sent once, because the queue has more time to try again. The client forgets options given to it.
                self._client.send(event, retry_total=0, connection_timeout=self._seconds, read_timeout=self._seconds)
        except (Missing, Conflict) as error:
            raise Transient(str(error)) from error

    @cached_property
    def _client(self) -> EventGridPublisherClient:
        from azure.eventgrid import EventGridPublisherClient

        # It takes the options of a call for fields of the event, too, and complains of each.
        logging.getLogger("azure.eventgrid._legacy._generated._serialization").setLevel(logging.ERROR)
        return EventGridPublisherClient(self._address, self._credential)
