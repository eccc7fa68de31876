"""SQLite files that many threads and processes use at once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import LandfallError, Transient

BUSY_SECONDS = 30.0
"""How long to wait for another process that is writing."""


@dataclass
class _Write:
    sql: str
    parameters: Sequence[tuple[Any, ...]]
    outcome: list[tuple[Any, ...]] | Exception | None = None


@dataclass
class _Process:
    """What belongs to one process: neither locks nor SQLite connections survive a fork."""

    pid: int
    committing: threading.Lock = field(default_factory=threading.Lock)
    pending: deque[_Write] = field(default_factory=deque)
    idle: deque[sqlite3.Connection] = field(default_factory=deque)


class Database:
    """One SQLite file in WAL mode; it is made, with ``schema``, when it is first used.

    A write is on the disk when it returns (synchronous FULL, and full fsync on macOS). Writes that
    threads of one process ask for at the same time share one transaction, and so one wait for the
    disk; among processes SQLite's own lock decides. Every error of the file itself is
    :class:`~shared.errors.Transient` and has changed nothing.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path.absolute()
        self._schema = schema
        self._process = _Process(os.getpid())
        self._inherited: list[_Process] = []

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._connection() as connection:
            return connection.execute(sql, parameters).fetchall()

    def write(self, sql: str, *parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Run one changing statement, once with each of ``parameters``, all or none; its RETURNING rows."""
        process = self._own()
        mine = _Write(sql, parameters)
        process.pending.append(mine)
        with process.committing:
            # Whoever comes first commits for all that have queued up by then.
            if mine.outcome is None:
                self._commit([process.pending.popleft() for _ in range(len(process.pending))])
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome or []

    def close(self) -> None:
        """Close idle connections; the file stays usable and is opened again when needed."""
        process = self._own()
        while process.idle:
            process.idle.pop().close()

    def _commit(self, writes: list[_Write]) -> None:
        try:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                done = [[row for p in write.parameters for row in connection.execute(write.sql, p)] for write in writes]
                connection.execute("COMMIT")
        except BaseException as error:
            for write in writes:
                write.outcome = error if isinstance(error, Exception) else Transient(f"{self._path}: write interrupted")
            raise
        for write, rows in zip(writes, done, strict=True):
            write.outcome = rows

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one thread at a time; after an error it is closed, which rolls back."""
        process = self._own()
        connection = None
        try:
            try:
                connection = process.idle.pop()
            except IndexError:
                connection = self._open()
            yield connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise Transient(
                    f"{self._path} cannot be used now: {error}. Is the disk full, the folder not writable, or has "
                    f"another process been writing for {BUSY_SECONDS:g} s?"
                ) from error
            if isinstance(error, sqlite3.DatabaseError) and _is_damaged(error):
                raise LandfallError(
                    f"{self._path} is damaged or no SQLite file: {error}. Stop Landfall, move it aside and start again"
                ) from error
            raise
        process.idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                # Changing the mode does not wait for others that are opening the file, too.
                if time.monotonic() > deadline:
                    connection.close()
                    raise
                time.sleep(0.01)
        connection.executescript(f"PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; {self._schema}")
        return connection

    def _own(self) -> _Process:
        """This process's state. What was inherited by a fork is kept: closing it would harm the parent."""
        if self._process.pid != os.getpid():
            self._inherited.append(self._process)
            self._process = _Process(os.getpid())
        return self._process


_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    # Errors of the Python module itself carry no code; extended codes have the primary one in the low byte.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
