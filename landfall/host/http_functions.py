"""HTTP functions behind their routes. This is the scoring path: bare ASGI, one object per request and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import azure.functions as func

from landfall.host.functions import HostedFunction
from landfall.host.keys import Keys
from landfall.host.routes import Routes

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HttpFunctions:
    """An ASGI app: route, key, body, function, answer.

    404 for an unknown path or a method that the route does not take, also HEAD where only GET is named, as the
    Functions host has it; 401 without a good key, 413 over ``body_limit`` bytes, 500 when the function raises,
    204 when it returns nothing.
    """

    def __init__(
        self, routes: Routes, keys: Keys, invoke: Callable[[HostedFunction, Any], Awaitable[Any]], body_limit: int
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._invoke = invoke
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.find(scope["method"], scope["raw_path"].decode("latin-1"))
        if found is None:
            return await _answer(send, 404)
        route, route_params = found
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1")
            headers[key] = f"{headers[key]},{value.decode('latin-1')}" if key in headers else value.decode("latin-1")
        params = _params(scope["query_string"])
        if not self._keys.open(route.level, headers.get("x-functions-key") or params.get("code", "")):
            return await _answer(send, 401)
        body = await self._body(headers, receive)
        if body is None:
            text = f"the body is larger than {self._body_limit} bytes"
            return await _answer(
                send, 413, text.encode(), [(b"content-type", b"text/plain"), (b"connection", b"close")]
            )
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        request = func.HttpRequest(
            method=scope["method"],
            url=f"{scope['scheme']}://{headers.get('host', '')}{scope['raw_path'].decode('latin-1')}{query}",
            headers=headers,
            params=params,
            route_params=route_params,
            body=body,
        )
        try:
            result = await self._invoke(route.function, request)
            status, content, answer_headers = _converted(result)
        except Exception:  # noqa: BLE001 - the invoker has logged it; a caller is told nothing of the inside
            return await _answer(send, 500)
        await _answer(send, status, content, answer_headers)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes | None:
        """The whole body, None when it is too large."""
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._body_limit:
            return None
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            chunks, size = [body], len(body)
            while message.get("more_body") and size <= self._body_limit:
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
            body = b"".join(chunks)
        return body if len(body) <= self._body_limit else None


def _params(query: bytes) -> dict[str, str]:
    """The query's parameters; the values of one that comes several times are joined by commas."""
    params: dict[str, str] = {}
    if query:
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            params[name] = f"{params[name]},{value}" if name in params else value
    return params


def _converted(result: Any) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of what a function returned: an HttpResponse, a text or nothing."""
    if result is None:
        return 204, b"", []
    if isinstance(result, str):
        return 200, result.encode(), [(b"content-type", b"text/plain; charset=utf-8")]
    if not isinstance(result, func.HttpResponse):
        raise TypeError(f"an HTTP function returns an HttpResponse or text, not {type(result).__name__}")
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in result.headers.items()]
    if not any(name == b"content-type" for name, _ in headers):
        kind = (
            f"{result.mimetype}; charset={result.charset}" if result.mimetype.startswith("text/") else result.mimetype
        )
        headers.append((b"content-type", kind.encode("latin-1")))
    return result.status_code, result.get_body(), headers


async def _answer(send: Send, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> None:
    sent = [header for header in headers or () if header[0] != b"content-length"]
    if status >= 200 and status not in (204, 304):
        sent.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body if status not in (204, 304) else b""})
