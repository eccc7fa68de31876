"""SQLite files that many threads and processes use at once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
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
    leads: bool = False
    turn: threading.Event = field(default_factory=threading.Event)


class Database:
    """One SQLite file in WAL mode; it is made, with ``schema``, when it is first used.

    A write is on the disk when it returns (synchronous FULL, and full fsync on macOS). Writes that
    threads of one process ask for at the same time share one transaction, and so one wait for the
    disk; among processes SQLite's own lock decides. What goes wrong with the file has changed nothing
    and is :class:`~shared.errors.Transient`, or a plain LandfallError when the file is damaged. Parent
    and child may both go on with it after a fork.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path.absolute()
        self._schema = schema
        self._queueing = threading.Lock()
        self._committing = False
        self._pending: list[_Write] = []
        self._connections = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._in_use = 0
        with _forking:
            _databases.add(self)

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._connection() as connection:
            return connection.execute(sql, parameters).fetchall()

    def write(self, sql: str, *parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Run one changing statement, once with each of ``parameters``, all or none; its RETURNING rows."""
        mine = _Write(sql, parameters)
        with self._queueing:
            self._pending.append(mine)
            mine.leads, self._committing = not self._committing, True
        try:
            if not mine.leads:
                mine.turn.wait()
        except BaseException:
            with self._queueing:
                # A thread that was interrupted must not be the next to lead.
                self._pending = [write for write in self._pending if write is not mine or write.leads]
            raise
        finally:
            if mine.leads:
                self._lead()
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome or []

    def close(self) -> None:
        """Close the connections that nobody uses; the file is opened again when it is needed."""
        with self._connections:
            while self._idle:
                self._idle.pop().close()

    def before_fork(self) -> None:
        """Wait until no thread uses the file, close it, and keep all threads waiting until :meth:`after_fork`.

        SQLite keeps the locks of a process in its memory, where a child would find those of the parent.
        """
        self._queueing.acquire()
        self._connections.acquire()
        self._connections.wait_for(lambda: self._in_use == 0)
        self.close()

    def after_fork(self) -> None:
        """Let threads go on."""
        self._connections.release()
        self._queueing.release()

    def after_fork_in_child(self) -> None:
        """Go on without the writes of threads that only the parent has."""
        self._pending.clear()
        self._committing = False
        self.after_fork()

    def _lead(self) -> None:
        """Commit for all that have queued up by now; who comes meanwhile is next, and the first of them leads.

        Each of the others is woken by itself: threads that queue for a lock would wait for each other's turns.
        """
        with self._queueing:
            writes, self._pending = self._pending, []
        try:
            self._commit(writes)
        finally:
            with self._queueing:
                self._committing = bool(self._pending)
                if self._pending:
                    self._pending[0].leads = True
                    self._pending[0].turn.set()
            for write in writes:
                write.turn.set()

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
        with self._connections:
            self._in_use += 1
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._open()
            yield connection
        except BaseException as error:
            if connection is not None:
                connection.close()
                connection = None
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
        finally:
            with self._connections:
                self._in_use -= 1
                if connection is not None:
                    self._idle.append(connection)
                self._connections.notify_all()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; {self._schema}")
                return connection
            except BaseException as error:
                # Changing the mode does not always wait for others that open the file, too.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                connection.close()
                raise


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    # Errors of the Python module itself have no code; that of an extended one is in its low byte.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


_forking = threading.Lock()
_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_held: list[Database] = []


def _before_fork() -> None:
    _forking.acquire()
    _held[:] = _databases
    for database in _held:
        database.before_fork()


def _after_fork(in_child: bool) -> None:
    while _held:
        database = _held.pop()
        database.after_fork_in_child() if in_child else database.after_fork()
    _forking.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)
