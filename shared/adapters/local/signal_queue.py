"""The signal queue in SQLite, with the side of it that the laptop host takes messages from."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.adapters.local.database import Database
from shared.domain.signals import Signal
from shared.errors import Conflict
from shared.ports.clock import Clock
from shared.ports.signal_queue import check_message

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
    inserted_at INTEGER NOT NULL, visible_at INTEGER NOT NULL,
    dequeue_count INTEGER NOT NULL DEFAULT 0, receipt TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS messages_by_time ON messages (visible_at, sequence);
"""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Message:
    """A message that was taken out. ``receipt`` is good until it is taken out again.

    ``dequeue_count`` is 1 at the first delivery.
    """

    id: str
    receipt: str
    text: str
    dequeue_count: int
    inserted_at: datetime


class SqliteQueue:
    """The SignalQueue port on the SQLite file ``path``; behaves as an Azure Storage queue.

    For any number of senders and takers in threads and processes. Time, also for visibility, is
    ``clock``'s. Every method raises :class:`~shared.errors.Transient` when the file cannot be used.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._database = Database(path, SCHEMA)
        self._clock = clock

    def send(self, signal: Signal, *, delay: timedelta = timedelta(0)) -> None:
        """Put ``signal`` on the queue, invisible until ``delay`` is over; it is on the disk on return."""
        self.put([signal.to_message()], delay=delay)

    def put(self, texts: Sequence[str], *, delay: timedelta = timedelta(0)) -> None:
        """Put message texts on the queue as an output binding does, all or none, invisible until ``delay`` is over."""
        for text in texts:
            check_message(text, delay)
        now = self._clock.now()
        self._database.write(
            "INSERT INTO messages (id, text, inserted_at, visible_at) VALUES (?, ?, ?, ?)",
            *[(str(uuid.uuid4()), text, _micros(now), _micros(now + delay)) for text in texts],
        )

    def receive(self, visibility: timedelta, limit: int = 16) -> list[Message]:
        """Take out up to ``limit`` visible messages; each is invisible to others until ``visibility`` is over.

        A message that is not deleted by then is delivered again, with a higher dequeue count and a new
        receipt.
        """
        now = self._clock.now()
        rows = self._database.write(
            "UPDATE messages "
            "SET visible_at = ?, dequeue_count = dequeue_count + 1, receipt = lower(hex(randomblob(16))) "
            "WHERE sequence IN (SELECT sequence FROM messages WHERE visible_at <= ? "
            "ORDER BY visible_at, sequence LIMIT ?) "
            "RETURNING sequence, id, receipt, text, dequeue_count, inserted_at",
            (_micros(now + visibility), _micros(now), limit),
        )
        return [
            Message(id, receipt, text, dequeue_count, _moment(inserted_at))
            for _, id, receipt, text, dequeue_count, inserted_at in sorted(rows)
        ]

    def renew(self, message: Message, visibility: timedelta) -> None:
        """Keep a message that is still being handled invisible until ``visibility`` from now; its receipt stays good.

        Raises Conflict when it was taken out again, or is gone.
        """
        self._with_receipt(
            message,
            "UPDATE messages SET visible_at = ? WHERE id = ? AND receipt = ? RETURNING id",
            _micros(self._clock.now() + visibility),
        )

    def delete(self, message: Message) -> None:
        """Remove a message that was handled. Raises Conflict when it was taken out again, or is gone."""
        self._with_receipt(message, "DELETE FROM messages WHERE id = ? AND receipt = ? RETURNING id")

    def release(self, message: Message, delay: timedelta) -> None:
        """Let a message that failed be delivered again after ``delay``; its receipt is used up.

        Raises Conflict when it was taken out again, or is gone.
        """
        self._with_receipt(
            message,
            "UPDATE messages SET visible_at = ?, receipt = '' WHERE id = ? AND receipt = ? RETURNING id",
            _micros(self._clock.now() + delay),
        )

    def counts(self) -> dict[str, int]:
        """How many messages there are: ``visible``, and ``invisible`` (delayed or taken out)."""
        rows = self._database.read(
            "SELECT count(*) FILTER (WHERE visible_at <= ?1), count(*) FILTER (WHERE visible_at > ?1) FROM messages",
            (_micros(self._clock.now()),),
        )
        return dict(zip(("visible", "invisible"), rows[0], strict=True))

    def next_visible_at(self) -> datetime | None:
        """When the next message is or was first visible, None when the queue is empty."""
        (earliest,) = self._database.read("SELECT min(visible_at) FROM messages")[0]
        return None if earliest is None else _moment(earliest)

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._database.close()

    def _with_receipt(self, message: Message, sql: str, *values: object) -> None:
        if not self._database.write(sql, (*values, message.id, message.receipt)):
            raise Conflict(f"message {message.id} was delivered again or removed since; this receipt is no longer good")


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
