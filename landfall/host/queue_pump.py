"""Queue messages to queue functions, as the Functions host hands them out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any

import azure.functions as func

from landfall.host.functions import HostedFunction
from landfall.host.settings_file import HostSettings
from shared.adapters.local.signal_queue import Message, SqliteQueue
from shared.errors import Conflict, Transient
from shared.ports.clock import Clock

log = logging.getLogger("landfall.host")

LEASE = timedelta(seconds=10)
"""A message in hand is invisible for so long and renewed halfway: after a crash it comes again within this time."""
POLL = 0.025
"""Seconds between two looks at an empty queue."""


def retry_delay(attempt: int) -> timedelta:
    """How long a message waits after its failed ``attempt`` (from 1): 0.25, 1, 4, 16 s.

    On Azure each wait is visibilityTimeout of host.json.
    """
    return timedelta(seconds=0.25 * 4 ** (attempt - 1))


class QueuePump:
    """Takes messages out, ``batch_size`` at a time, and runs ``function`` on each.

    A message whose function raised is delivered again. After max_dequeue_count attempts ``poison`` (the function
    of the poison queue) gets it, who keeps what it needs: then it is gone. A message that was in hand when the host
    died for the last time allowed goes there without another attempt.
    While the host is ``busy``, with senders who wait for an answer, messages go one by one: the queue can wait.
    """

    def __init__(
        self,
        queue: SqliteQueue,
        clock: Clock,
        settings: HostSettings,
        function: HostedFunction,
        poison: HostedFunction,
        invoke: Callable[[HostedFunction, Any], Awaitable[Any]],
        pool: Executor,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._settings = settings
        self._function = function
        self._poison = poison
        self._invoke = invoke
        self._pool = pool
        self._busy = busy
        self._in_hand: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Pump until cancelled; messages in hand go on to their end (:meth:`finish`)."""
        while True:
            free = (1 if self._busy() else self._settings.batch_size) - len(self._in_hand)
            messages = await self._aside(self._take, free) if free > 0 else []
            for message in messages:
                task = asyncio.create_task(self._handle(message))
                self._in_hand.add(task)
                task.add_done_callback(self._in_hand.discard)
            if len(messages) >= free and self._in_hand:
                await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
            elif not messages:
                await asyncio.sleep(POLL)

    async def finish(self) -> None:
        """Wait until the messages in hand are done with."""
        while self._in_hand:
            await asyncio.wait(self._in_hand)

    def _take(self, limit: int) -> list[Message]:
        due = self._queue.next_visible_at()
        return self._queue.receive(LEASE, limit) if due is not None and due <= self._clock.now() else []

    async def _handle(self, message: Message) -> None:
        renewal = asyncio.create_task(self._renew(message))
        try:
            await self._deliver(message)
        except (Conflict, Transient) as error:
            # It is visible again when its lease is over: nothing is lost.
            log.warning("message=%s was not settled: %s", message.id, error)
        finally:
            renewal.cancel()

    async def _deliver(self, message: Message) -> None:
        error = "the host was stopped while the message was being handled"
        if message.dequeue_count <= self._settings.max_dequeue_count:
            try:
                await self._invoke(self._function, _value(message))
            except Exception as raised:  # noqa: BLE001 - the invoker has logged it, and it is kept with the message
                error = f"{type(raised).__name__}: {raised}"
            else:
                return await self._aside(self._queue.delete, message)
            if message.dequeue_count < self._settings.max_dequeue_count:
                return await self._aside(self._queue.release, message, retry_delay(message.dequeue_count))
        log.error("message=%s given up after %d attempts: %s", message.id, message.dequeue_count, error)
        try:
            await self._invoke(self._poison, _value(message))
        except Exception:  # noqa: BLE001 - the invoker has logged it; the dead letter is tried again
            return await self._aside(self._queue.release, message, retry_delay(4))
        await self._aside(self._queue.delete, message)

    async def _renew(self, message: Message) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 2)
            try:
                await self._aside(self._queue.renew, message, LEASE)
            except Conflict:
                return
            except Transient as error:
                log.warning("message=%s: lease not renewed: %s", message.id, error)

    async def _aside(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)


def _value(message: Message) -> func.QueueMessage:
    return func.QueueMessage(id=message.id, body=message.text, pop_receipt=message.receipt)
