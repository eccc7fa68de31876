"""A custom topic of Event Grid that takes batches of CloudEvents."""

from __future__ import annotations

from typing import Any

from tests.standin import identity
from tests.standin.http import Problem, Request, Response

TOPIC = "https://landfall.westeurope-1.eventgrid.azure.net/api/events"
MOST_BYTES = 1024 * 1024
WANTED = ("id", "source", "type", "specversion")


class EventGrid:
    """``received`` are the events in the order in which they came, those sent twice twice."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> Response:
        """POST /api/events."""
        if (request.method, request.path) != ("POST", "/api/events"):
            raise Problem(404, "NotFound", f"a topic has no {request.method} {request.path}")
        identity.check(request, identity.EVENT_GRID)
        if request.query.get("api-version") != "2018-01-01":
            raise Problem(400, "BadRequest", f"api-version {request.query.get('api-version')!r} is not known")
        if not request.headers.get("content-type", "").startswith("application/cloudevents-batch+json"):
            raise Problem(400, "BadRequest", f"the topic takes CloudEvents, not {request.headers.get('content-type')}")
        if len(request.body) > MOST_BYTES:
            raise Problem(413, "PayloadTooLarge", f"{len(request.body)} bytes are more than {MOST_BYTES}")
        events = request.json()
        if not isinstance(events, list) or any(not event.get(key) for event in events for key in WANTED):
            raise Problem(400, "BadRequest", f"not a batch of CloudEvents with {WANTED}")
        self.received += events
        return Response(200)
