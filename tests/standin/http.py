"""A small HTTPS server for synchronous handlers, which can also be slow, silent or cut off."""

from __future__ import annotations

import asyncio
import json
import ssl
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11


@dataclass(frozen=True)
class Request:
    """``path`` is decoded, ``query`` has one value a name, names of ``headers`` are in lower case."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; a body that is none is the client's fault."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Problem(400, "InvalidRequestContent", f"the body is no JSON: {error}") from error


@dataclass
class Response:
    """``body`` is sent as it is when it is bytes, as JSON when it is not, and not at all when it is None."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Problem(Exception):
    """An error answer as Azure gives it."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.response = Response(status, {"error": {"code": code, "message": message}}, headers or {})


class Reset(Exception):
    """Cut the connection instead of an answer."""


Handler = Callable[[Request], Response]


async def serve(handler: Handler, context: ssl.SSLContext, crashes: list[str]) -> asyncio.Server:
    """Serve ``handler`` on a free port of this machine; what it raises by mistake is added to ``crashes``."""

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        except Problem as problem:
            return problem.response
        except Reset:
            raise
        except Exception:  # noqa: BLE001 - a mistake of the stand-in must not look like a fault of the service
            crashes.append(f"{request.method} {request.host}{request.path}\n{traceback.format_exc()}")
            return Response(599, {"error": {"code": "StandInCrashed", "message": traceback.format_exc()}})

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await _read(protocol, reader)
                if request is None:
                    break
                response = await asyncio.to_thread(answer, request)
                writer.write(_encode(protocol, response, request.method))
                await writer.drain()
                if protocol.our_state is h11.MUST_CLOSE:
                    break
                protocol.start_next_cycle()
        except (Reset, h11.RemoteProtocolError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    return await asyncio.start_server(connection, "127.0.0.1", 0, ssl=context)


async def _read(protocol: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _request(head, bytes(body))
        else:
            return None


def _request(head: h11.Request, body: bytes) -> Request:
    url = urlsplit(head.target.decode())
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
    return Request(
        method=head.method.decode(),
        host=headers["host"].partition(":")[0].lower(),
        path=unquote(url.path),
        query=dict(parse_qsl(url.query, keep_blank_values=True)),
        headers=headers,
        body=body,
    )


def _encode(protocol: h11.Connection, response: Response, method: str) -> bytes:
    body = response.body
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-length": str(len(data)), **response.headers}
    if data and not isinstance(body, bytes):
        headers.setdefault("content-type", "application/json")
    sent = protocol.send(h11.Response(status_code=response.status, headers=list(headers.items())))
    if data and method != "HEAD":
        sent = (sent or b"") + (protocol.send(h11.Data(data=data)) or b"")
    return (sent or b"") + (protocol.send(h11.EndOfMessage()) or b"")
