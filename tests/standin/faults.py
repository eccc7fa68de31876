"""Faults on order: what a test lets go wrong with the next calls that match."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field

from tests.standin.http import Handler, Problem, Request, Reset, Response


@dataclass
class Fault:
    """Goes wrong ``times`` times for calls whose "METHOD host/path" matches ``call``.

    With ``after`` the call has its effect first. ``delay`` seconds pass before anything is answered;
    then ``reset`` cuts the connection, or ``status`` is answered, or (with neither) the call goes on.
    """

    call: re.Pattern[str]
    times: int = 1
    after: bool = False
    delay: float = 0
    reset: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    seen: int = 0


class Faults:
    """The faults in force, the one that was ordered first in front."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        call: str,
        *,
        times: int = 1,
        after: bool = False,
        delay: float = 0,
        reset: bool = False,
        status: int = 0,
        headers: dict[str, str] | None = None,
    ) -> Fault:
        """Order a fault; ``call`` is a regular expression that is searched for in "METHOD host/path"."""
        fault = Fault(re.compile(call), times, after, delay, reset, status, headers or {})
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def run(self, handler: Handler, request: Request) -> Response:
        """The answer of ``handler``, or what the fault in force makes of it."""
        fault = self._take(f"{request.method} {request.host}{request.path}")
        if fault is None:
            return handler(request)
        response = handler(request) if fault.after else None
        time.sleep(fault.delay)
        if fault.reset:
            raise Reset
        if fault.status:
            raise Problem(fault.status, "InjectedFault", f"ordered by the test: {fault.status}", fault.headers)
        return response or handler(request)

    def _take(self, call: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.seen < fault.times and fault.call.search(call):
                    fault.seen += 1
                    return fault
        return None
