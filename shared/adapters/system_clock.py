"""The system's clock, which is the same on every backend."""

from __future__ import annotations

import threading
from datetime import UTC, datetime


class SystemClock:
    """The Clock port on this machine. While the system's clock is set back, time stands still."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """The present time, aware, in UTC. Never goes back, whichever thread asks."""
        with self._lock:
            self._latest = max(self._latest, datetime.now(UTC))
            return self._latest
