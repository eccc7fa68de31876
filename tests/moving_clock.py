"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class MovingClock:
    """The Clock port for tests: it shows ``start`` and goes on by :meth:`advance` only."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """The time that the test has come to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let ``by`` pass. A clock never goes back, nor does this one."""
        if by < timedelta(0):
            raise ValueError(f"cannot advance by {by}")
        self._now += by
