"""Copies of answered requests to a deployment that takes over soon, made in the background."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

WAITING = 100
WAITING_ROWS = 10_000
"""Copies that may wait, and rows in them: each keeps its request in memory. What else comes is dropped and counted."""

_logger = logging.getLogger(__name__)


class Mirror:
    """Makes copies one after the other in a thread of its own, so that no answer waits for one.

    A deployment that is slower than the copies come gets fewer of them, never a backlog.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[Callable[[], None], int]] = queue.Queue(WAITING)
        self._rows = 0
        self._thread: threading.Thread | None = None
        self._unsaid = 0
        self.dropped = 0

    def send(self, copy: Callable[[], None], rows: int = 1) -> None:
        """Call ``copy``, of so many ``rows``, soon, or drop it when too many wait; costs microseconds and never waits.

        A copy of any size may wait alone.
        """
        with self._lock:
            if self._waiting.full() or (self._rows and self._rows + rows > WAITING_ROWS):
                self.dropped += 1
                self._unsaid += 1
                return
            self._waiting.put_nowait((copy, rows))
            self._rows += rows
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            copy, rows = self._waiting.get()
            with self._lock:
                self._rows -= rows
                unsaid, self._unsaid = self._unsaid, 0
            if unsaid:
                _logger.warning("%d copies of requests were dropped: they come faster than they are answered", unsaid)
            try:
                copy()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - nobody waits for it, and the prediction log has what it means
                _logger.warning("a copy of a request was not answered: %s: %s", type(error).__name__, error)
