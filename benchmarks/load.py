"""A load generator that is light enough to run beside the server: prepared bytes, a selector, keep-alive."""

from __future__ import annotations

import itertools
import math
import selectors
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What came of it: answers a second, and milliseconds that half, and 99 of 100, were faster than."""

    rate: float
    p50: float
    p99: float


def request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **headers}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def run(
    port: int, requests: Sequence[bytes], connections: int, seconds: float = math.inf, *, status: int = 200
) -> Load:
    """Ask ``connections`` at a time for so many seconds, the requests in turn; without seconds each of them once.

    Raises RuntimeError for an answer of another ``status``.
    """
    selector = selectors.DefaultSelector()
    taken: list[float] = []
    once = math.isinf(seconds)
    todo = iter(requests) if once else itertools.cycle(requests)
    begun = time.perf_counter()
    for _ in range(min(connections, len(requests)) if once else connections):
        connection = _Connection(port, status)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.ask(next(todo))
    while selector.get_map():
        for key, _ in selector.select():
            connection = key.data
            if not connection.answered():
                continue
            now = time.perf_counter()
            taken.append((now - connection.asked) * 1000)
            question = next(todo, None) if now < begun + seconds else None
            if question is None or connection.ended:
                selector.unregister(connection.socket)
                connection.socket.close()
            if question is not None:
                if connection.ended:
                    connection.open()
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.ask(question)
    return _load(taken, time.perf_counter() - begun)


def paced(port: int, requests: Sequence[bytes], connections: int, seconds: float, rate: float) -> Load:
    """Ask ``rate`` times a second over so many connections, whatever has been answered.

    Milliseconds are counted from when a question was due: one that found no connection free has waited, too.
    """
    selector = selectors.DefaultSelector()
    idle = [_Connection(port, 200) for _ in range(connections)]
    for connection in idle:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    todo, taken, asked = itertools.cycle(requests), [], 0
    begun = time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        while idle and begun + asked / rate <= now:
            connection = idle.pop()
            connection.ask(next(todo), due=begun + asked / rate)
            asked += 1
        for key, _ in selector.select(max(0.0, begun + asked / rate - time.perf_counter()) if idle else None):
            connection = key.data
            if connection.answered():
                taken.append((time.perf_counter() - connection.asked) * 1000)
                if connection.ended:
                    selector.unregister(connection.socket)
                    connection.open()
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
                idle.append(connection)
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    return _load(taken, seconds)


def _load(taken: list[float], seconds: float) -> Load:
    taken.sort()
    return Load(len(taken) / seconds, statistics.median(taken), taken[min(len(taken) - 1, len(taken) * 99 // 100)])


class _Connection:
    """One question at a time. ``ended``: the server answers no more on it, as some do after each answer."""

    def __init__(self, port: int, status: int) -> None:
        self._port = port
        self._status = str(status).encode()
        self._got = bytearray()
        self.asked = 0.0
        self.ended = False
        self.socket = self._new()

    def open(self) -> None:
        """Connect anew."""
        self.socket.close()
        self.socket = self._new()
        self.ended = False

    def ask(self, request: bytes, *, due: float | None = None) -> None:
        self._got.clear()
        self.asked = time.perf_counter() if due is None else due
        self.socket.sendall(request)

    def _new(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def answered(self) -> bool:
        """Take what has come; whether the answer is whole."""
        came = self.socket.recv(1 << 20)
        if not came:
            raise RuntimeError("the server has closed the connection")
        self._got += came
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.split(b"\r\n")
        if lines[0].split(b" ")[1:2] != [self._status]:
            raise RuntimeError(f"the server answered {lines[0].decode()}: {bytes(body[:500]).decode(errors='replace')}")
        self.ended = any(line.lower() == b"connection: close" for line in lines)
        length = next(int(line[15:]) for line in lines if line[:15].lower() == b"content-length:")
        return len(body) >= length
