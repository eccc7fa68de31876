"""The Event Grid webhook of the Functions host."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from azure.functions.eventgrid import EventGridEventInConverter
from azure.functions.meta import Datum
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from landfall.host.functions import EVENT_GRID, HostedFunction

log = logging.getLogger("landfall.host")

AT_ONCE = 64
"""Events of one delivery that run together, so that a long one leaves the loop to others in between."""


class Webhook:
    """Deliveries to the functions with an Event Grid trigger.

    It asks for no key, unlike on Azure: the host listens on the loopback address only, and the header that a
    delivery must have keeps web pages out.
    """

    def __init__(
        self,
        functions: Mapping[str, HostedFunction],
        invoke: Callable[[HostedFunction, Any], Awaitable[Any]],
    ) -> None:
        self._functions = {name: function for name, function in functions.items() if function.kind == EVENT_GRID}
        self._invoke = invoke
        self._deliveries = 0

    @property
    def busy(self) -> bool:
        """Whether a sender is waiting for an answer."""
        return self._deliveries > 0

    async def notify(self, name: str, events: Sequence[Mapping[str, Any]]) -> int:
        """Run the function once for each event, many at once; the status that Event Grid would get.

        404 when there is no such function, 202 when every event succeeded, else 500: then the sender must
        send all of them again.
        """
        function = self._functions.get(name)
        if function is None:
            return 404
        self._deliveries += 1
        try:
            results: list[Any] = []
            for begin in range(0, len(events), AT_ONCE):
                some = (self._one(function, event) for event in events[begin : begin + AT_ONCE])
                results += await asyncio.gather(*some, return_exceptions=True)
        finally:
            self._deliveries -= 1
        return 500 if any(isinstance(result, BaseException) for result in results) else 202

    async def _one(self, function: HostedFunction, event: Mapping[str, Any]) -> None:
        try:
            value = trigger_value(event)
        except (ValueError, TypeError) as error:
            log.warning("function=%s event=%s cannot be decoded: %s", function.name, event.get("id"), error)
            raise
        await self._invoke(function, value)

    async def endpoint(self, request: Request) -> Response:
        """One HTTP delivery, handshake or CloudEvents options request."""
        name = request.query_params.get("functionName", "")
        if name not in self._functions:
            return PlainTextResponse(f"cannot find function: '{name}'", 404)
        if request.method == "OPTIONS":
            origin = request.headers.get("webhook-request-origin")
            if origin is None:
                return PlainTextResponse("header WebHook-Request-Origin is missing", 400)
            return Response(headers={"WebHook-Allowed-Origin": origin})
        kind = request.headers.get("aeg-event-type", "")
        if kind not in ("Notification", "SubscriptionValidation"):
            return PlainTextResponse(
                f"header aeg-event-type is {kind!r}: send Notification or SubscriptionValidation", 400
            )
        try:
            payload = json.loads(await request.body())
            events = payload if isinstance(payload, list) else [payload]
            if not all(isinstance(event, dict) for event in events):
                raise TypeError("an event is no JSON object")
            if kind == "SubscriptionValidation":
                return JSONResponse({"validationResponse": events[0]["data"]["validationCode"]})
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            return PlainTextResponse(f"the body is no {kind}: {error!r}", 400)
        return Response(status_code=await self.notify(name, events))


def trigger_value(event: Mapping[str, Any]) -> Any:
    """The object that the Functions worker makes of an event, so that the function can record what it cannot use.

    Half characters become question marks and a time that is none is left out. On Azure such an event never gets to
    the function: Event Grid keeps it as a dead letter, and a laptop has no other place to keep it than the ledger.
    """
    try:
        return _decoded(event)
    except (ValueError, TypeError) as error:
        log.warning("event=%r has a time that cannot be read: %s", event.get("id"), error)
        return _decoded({key: value for key, value in event.items() if key not in ("eventTime", "time")})


def _decoded(event: Mapping[str, Any]) -> Any:
    text = json.dumps(event, ensure_ascii=False).encode(errors="replace").decode()
    return EventGridEventInConverter.decode(Datum(text, "json"), trigger_metadata={})
