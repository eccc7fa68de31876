"""Time as a port, so that tests can move it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The present time."""

    def now(self) -> datetime:
        """The present time, aware, in UTC. Never goes back."""
        ...
