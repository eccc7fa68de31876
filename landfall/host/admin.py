"""The host's own addresses: /admin, the webhook and the front page."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import azure.functions as func
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from landfall.host.functions import EVENT_GRID, HTTP, QUEUE, HostedFunction
from landfall.host.keys import Keys
from landfall.host.timers import Timers
from landfall.host.webhook import Webhook, trigger_value


class Admin:
    """Runs any function by hand, and says how the host is. Both ask for the master key."""

    def __init__(
        self,
        functions: Mapping[str, HostedFunction],
        invoke: Callable[[HostedFunction, Any], Awaitable[Any]],
        timers: Timers,
        keys: Keys,
    ) -> None:
        self._functions = functions
        self._invoke = invoke
        self._timers = timers
        self._keys = keys
        self._begun = time.monotonic()
        self._running: set[asyncio.Task[Any]] = set()

    def app(self, webhook: Webhook) -> Starlette:
        """The ASGI app of everything that is no HTTP function."""
        return Starlette(
            routes=[
                Route("/", self._front, methods=["GET"]),
                Route("/runtime/webhooks/eventgrid", webhook.endpoint, methods=["GET", "POST", "OPTIONS"]),
                Route("/admin/host/status", self._status, methods=["GET"]),
                Route("/admin/functions/{name}", self._run, methods=["POST"]),
            ]
        )

    async def finish(self) -> None:
        """Wait until what was started by hand has ended."""
        while self._running:
            await asyncio.wait(self._running)

    async def _front(self, request: Request) -> Response:
        return PlainTextResponse("Landfall is up. Its functions:\n" + "\n".join(sorted(self._functions)) + "\n")

    async def _status(self, request: Request) -> Response:
        if not self._opens(request):
            return Response(status_code=401)
        uptime = round((time.monotonic() - self._begun) * 1000)
        return JSONResponse({"id": "laptop", "state": "Running", "processUptime": uptime, "pid": os.getpid()})

    async def _run(self, request: Request) -> Response:
        if not self._opens(request):
            return Response(status_code=401)
        function = self._functions.get(request.path_params["name"])
        if function is None:
            return Response(status_code=404)
        if function.kind == HTTP:
            return PlainTextResponse(f"{function.name} is an HTTP function; call its route", 400)
        try:
            call = self._call(function, await _input(request))
        except (ValueError, TypeError, RecursionError) as error:
            return PlainTextResponse(f'send {{"input": "…"}} with what the trigger would deliver: {error}', 400)
        task = asyncio.create_task(_settled(call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return Response(status_code=202)

    def _call(self, function: HostedFunction, text: str) -> Awaitable[Any]:
        if function.kind == EVENT_GRID:
            event = json.loads(text)
            if not isinstance(event, dict):
                raise TypeError("an event is a JSON object")
            return self._invoke(function, trigger_value(event))
        if function.kind == QUEUE:
            return self._invoke(function, func.QueueMessage(body=text))
        return self._timers.tick(function)

    def _opens(self, request: Request) -> bool:
        key = request.headers.get("x-functions-key") or request.query_params.get("code", "")
        return self._keys.open("admin", key)


async def _input(request: Request) -> str:
    body = await request.body()
    value = json.loads(body).get("input", "") if body else ""
    return value if isinstance(value, str) else json.dumps(value)


async def _settled(call: Awaitable[Any]) -> None:
    # The invoker has logged a failure, and who asked has his 202 already.
    await asyncio.gather(call, return_exceptions=True)
