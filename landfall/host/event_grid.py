"""A laptop's Event Grid: brings events to the webhook until they are taken."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from shared.adapters.local import spool

log = logging.getLogger("landfall.host")

SUBSCRIPTIONS = {"Microsoft.Storage.": "event_storage", "Microsoft.MachineLearningServices.": "event_azureml"}
"""Which function an event goes to, by the beginning of its type."""
ATTEMPTS = 30
BATCH = 64
POLL = 0.1


def retry_delay(attempt: int) -> float:
    """Seconds to wait after the failed ``attempt`` (from 1): doubled from 0.5 up to 30.

    Event Grid itself waits 10 s, 30 s, 1, 5, 10, 30 min, then hours.
    """
    return min(0.5 * 2 ** min(attempt - 1, 10), 30.0)


class LaptopEventGrid:
    """Delivers by the webhook's own method, not over HTTP: the same decoding, functions and answers, but no
    dependence on a port and its keys.

    Events of the spool folder stay there until they are taken. Storage events are held in memory only, and are
    given up after as many attempts as Event Grid makes: what is lost, reconcile finds in the lake.
    """

    def __init__(
        self, home: Path, notify: Callable[[str, Sequence[Mapping[str, Any]]], Awaitable[int]], pool: Executor
    ) -> None:
        self._home = home
        self._notify = notify
        self._pool = pool
        self._deliveries: set[asyncio.Task[None]] = set()
        self._attempts: dict[Path, int] = {}
        self._not_before: dict[Path, float] = {}

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Begin to deliver storage events, in their order; must be called on the host's loop."""
        for begin in range(0, len(events), BATCH):
            task = asyncio.create_task(self._deliver(events[begin : begin + BATCH]))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def run(self) -> None:
        """Deliver what is in the spool folder, the oldest first, until cancelled."""
        while True:
            await self.deliver_spool()
            await asyncio.sleep(POLL)

    async def finish(self) -> None:
        """Let the deliveries that are under way end; those that wait to be tried again are given up."""
        if self._deliveries:
            _, waiting = await asyncio.wait(self._deliveries, timeout=1.0)
            for task in waiting:
                task.cancel()

    async def deliver_spool(self) -> None:
        """One attempt for each event of the spool folder whose time has come."""
        loop = asyncio.get_running_loop()
        for path in await loop.run_in_executor(self._pool, spool.waiting, self._home):
            if self._not_before.get(path, 0.0) > loop.time():
                continue
            attempt = self._attempts.get(path, 0) + 1
            status = await self._attempt(path)
            if 200 <= status <= 204:
                await loop.run_in_executor(self._pool, spool.delivered, path)
                self._attempts.pop(path, None)
                self._not_before.pop(path, None)
            else:
                self._attempts[path] = attempt
                self._not_before[path] = loop.time() + retry_delay(attempt)
                log.warning(
                    "event=%s not taken (%d) at attempt %d; it stays in %s", path.name, status, attempt, path.parent
                )

    async def _attempt(self, path: Path) -> int:
        try:
            event = json.loads(await asyncio.get_running_loop().run_in_executor(self._pool, path.read_bytes))
            name = _subscriber(event)
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            log.warning("event=%s cannot be read: %s", path.name, error)
            return 400
        return await self._notify(name, [event]) if name else 404

    async def _deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        status = 404
        for attempt in range(1, ATTEMPTS + 1):
            status = await self._notify(_subscriber(events[0]), events)
            if status != 500:
                break
            await asyncio.sleep(retry_delay(attempt))
        if status != 202:
            log.error("%d storage events were not taken (%d); reconcile will find the files", len(events), status)


def _subscriber(event: Mapping[str, Any]) -> str:
    kind = event.get("eventType") or ""
    return next((name for prefix, name in SUBSCRIPTIONS.items() if kind.startswith(prefix)), "")
