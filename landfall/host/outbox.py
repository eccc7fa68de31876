"""Queue messages of functions that end at the same time, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from shared.adapters.local.signal_queue import SqliteQueue
from shared.ports.signal_queue import check_message
from shared.settings import QUEUE


class Outbox:
    """Puts messages on the signal queue for any number of callers on one loop.

    Those that come while a transaction is under way share the next one, so that a burst waits for the disk a few
    times and for no other thread of the host. Leave it as a context when nobody will put anything any more.
    """

    def __init__(self, queue: SqliteQueue) -> None:
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, "landfall-outbox")
        self._waiting: list[tuple[Sequence[str], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    async def put(self, name: str, texts: Sequence[str]) -> None:
        """Put ``texts`` on the queue ``name``, all or none; they are on the disk on return.

        Raises what :meth:`SqliteQueue.put` raises, and ValueError for a queue that a laptop does not have.
        """
        if name != QUEUE:
            raise ValueError(f"there is no queue {name} on a laptop, only {QUEUE}")
        for text in texts:
            # Before it shares a transaction: what no queue takes must not take others with it.
            check_message(text, timedelta(0))
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await written

    async def _write(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            texts = [text for some, _ in taken for text in some]
            error: Exception | None = None
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._queue.put, texts)
            except Exception as raised:  # noqa: BLE001 - each of those who wait raises it
                error = raised
            for _, written in taken:
                if written.done():
                    continue
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)
        self._writing = None
