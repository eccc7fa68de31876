"""The run ledger in SQLite."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.adapters.local.database import Database
from shared.domain.ledger import Entry
from shared.domain.records import from_record, to_record
from shared.errors import AlreadyExists, Conflict
from shared.ports.run_ledger import E, RunLedger, check_key

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    kind TEXT NOT NULL, partition TEXT NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, partition, key)
) WITHOUT ROWID
"""

PAGE = 256
"""Entries that a list reads at once: no read is open while the caller works on one."""


class SqliteLedger(RunLedger):
    """The RunLedger port on the SQLite file ``path``, for any number of threads and processes.

    An etag is never used twice, so a deleted and inserted entry is another one. Every change is one
    statement. What was written survives a crash and a power cut. Every method raises
    :class:`~shared.errors.Transient` when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    def insert(self, entry: E) -> E:
        """Store a new entry and return it with its etag; AlreadyExists when its place is taken."""
        place, etag = _place(type(entry), entry.partition, entry.key), uuid.uuid4().hex
        stored = self._database.write(
            "INSERT INTO entries (kind, partition, key, etag, body) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING RETURNING etag",
            (*place, etag, _body(entry)),
        )
        if not stored:
            raise AlreadyExists(f"{_name(entry)} is in the ledger already")
        return replace(entry, etag=etag)

    def read(self, kind: type[E], partition: str, key: str) -> E | None:
        """The entry with its etag, None when there is none."""
        rows = self._database.read(
            "SELECT etag, body FROM entries WHERE kind = ? AND partition = ? AND key = ?",
            _place(kind, partition, key),
        )
        return _entry(kind, *rows[0]) if rows else None

    def replace(self, entry: E) -> E:
        """Store ``entry`` over the one with its etag; Conflict when that was changed or deleted."""
        place, etag = _place(type(entry), entry.partition, entry.key), uuid.uuid4().hex
        stored = self._database.write(
            "UPDATE entries SET etag = ?, body = ? WHERE kind = ? AND partition = ? AND key = ? AND etag = ? "
            "RETURNING etag",
            (etag, _body(entry), *place, entry.etag),
        )
        if not stored:
            raise Conflict(f"{_name(entry)} was changed or deleted since it was read; read it again")
        return replace(entry, etag=etag)

    def delete(self, kind: type[E], partition: str, key: str) -> None:
        """Remove the entry; nothing happens when there is none."""
        self._database.write(
            "DELETE FROM entries WHERE kind = ? AND partition = ? AND key = ?", _place(kind, partition, key)
        )

    def list(
        self, kind: type[E], partition: str, *, prefix: str = "", start: str = "", limit: int | None = None
    ) -> Iterator[E]:
        """The entries whose key begins with ``prefix``, in key order, read page by page as they are asked for."""
        place = max(_place(kind, partition, prefix), _place(kind, partition, start))
        return self._pages(kind, place, prefix, limit)

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._database.close()

    def _pages(self, kind: type[E], place: tuple[str, ...], prefix: str, limit: int | None) -> Iterator[E]:
        left = limit
        comparison = ">="
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            rows = self._database.read(
                "SELECT key, etag, body FROM entries "
                f"WHERE kind = ? AND partition = ? AND key {comparison} ? ORDER BY key LIMIT ?",
                (*place, size),
            )
            for key, etag, body in rows:
                # Keys are in order: behind the first that differs there is none with this prefix.
                if not key.startswith(prefix):
                    return
                yield _entry(kind, etag, body)
            if len(rows) < size:
                return
            left = None if left is None else left - size
            comparison, place = ">", (*place[:2], rows[-1][0])


def _place(kind: type[Entry], partition: str, key: str) -> tuple[str, str, str]:
    check_key(partition)
    check_key(key)
    return kind.KIND, partition, key


def _body(entry: Entry) -> str:
    return json.dumps(to_record(entry), separators=(",", ":"))


def _entry(kind: type[E], etag: str, body: str) -> E:
    record: dict[str, Any] = json.loads(body)
    return from_record(kind, {**record, "etag": etag})


def _name(entry: Entry) -> str:
    return f"{entry.KIND} {entry.partition}/{entry.key}"
