"""Timer functions: six-field NCRONTAB in UTC, with the times that were missed while no host ran."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.functions.timer import TimerRequest

from landfall.host.functions import TIMER, HostedFunction
from shared.adapters.local.whole_file import write_whole
from shared.domain.schedule import next_slot
from shared.ports.clock import Clock

log = logging.getLogger("landfall.host")

FILE = "timers.json"
LATE = timedelta(seconds=10)
"""A timer that runs so much later than its time is past due: the host or the machine was asleep."""
LONGEST_SLEEP = 0.5
"""Seconds; a sleeping machine stops the clock that sleeps are measured by."""


class Timers:
    """The app's timers. When each last ran is kept in timers.json of ``home``, so that a restart catches up, once."""

    def __init__(
        self,
        functions: Mapping[str, HostedFunction],
        invoke: Callable[[HostedFunction, Any], Awaitable[Any]],
        home: Path,
        clock: Clock,
    ) -> None:
        self._functions = [function for function in functions.values() if function.kind == TIMER]
        for function in self._functions:
            try:
                next_slot(function.trigger["schedule"], datetime(2024, 1, 1, tzinfo=UTC))
            except ValueError as error:
                raise ValueError(f"function {function.name}: {error}") from error
        self._invoke = invoke
        self._home = home
        self._clock = clock
        self._keeping = threading.Lock()
        self._status = _read(home / FILE)

    async def run(self) -> None:
        """Run all timers until cancelled. A timer never runs twice at once; one that failed runs at its next time."""
        async with asyncio.TaskGroup() as group:
            for function in self._functions:
                group.create_task(self._run(function))

    async def tick(self, function: HostedFunction, *, past_due: bool = False) -> None:
        """Run one timer function now. Raises what the function raises."""
        schedule = function.trigger["schedule"]
        request = TimerRequest(past_due=past_due, schedule_status=self._status.get(function.name, {}))
        now = self._clock.now()
        try:
            await self._invoke(function, request)
        finally:
            self._status[function.name] = {
                "Last": now.isoformat(),
                "Next": next_slot(schedule, now).isoformat(),
                "LastUpdated": now.isoformat(),
            }
            await asyncio.to_thread(self._keep)

    def _keep(self) -> None:
        # Of timers that end together the last to write knows of all.
        with self._keeping:
            data = json.dumps(self._status, indent=1).encode()
            write_whole(self._home / FILE, data, staging=self._home / "host.partial")

    async def _run(self, function: HostedFunction) -> None:
        schedule = function.trigger["schedule"]
        known = self._status.get(function.name)
        started = self._clock.now()
        due = next_slot(schedule, started)
        if known:
            noted = datetime.fromisoformat(known["Next"])
            # A time after the schedule's next one was noted by a clock that was ahead.
            due = noted if noted <= due else started
        if function.trigger.get("runOnStartup"):
            due = started
        while True:
            while (now := self._clock.now()) < due:
                await asyncio.sleep(min((due - now).total_seconds(), LONGEST_SLEEP))
            try:
                await self.tick(function, past_due=now - due > LATE)
            except Exception:  # noqa: BLE001 - the invoker has logged it; a failed timer waits for its next time
                log.debug("timer=%s failed", function.name)
            # From when it began: a time that came while it ran is late, not lost.
            due = next_slot(schedule, now)


def _read(path: Path) -> dict[str, dict[str, str]]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
