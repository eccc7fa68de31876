"""One host per home: a lock that dies with its process, and a note of who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from shared.errors import Refused

FILE = "host.lock"


@dataclass(frozen=True)
class HostInfo:
    """The host that runs a home."""

    pid: int
    port: int
    url: str


class HomeLock:
    """Holds the lock of ``home`` from :meth:`acquire` to :meth:`release`, or to the end of the process."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises :class:`~shared.errors.Refused` when another host runs this home, or it cannot be written."""
        with writing(self._home):
            self._home.mkdir(parents=True, exist_ok=True)
            file = (self._home / FILE).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            other = running(self._home)
            who = f"process {other.pid} at {other.url}" if other else "a host that is just starting or stopping"
            raise Refused(
                f"{self._home} is run by {who} already; use that one, stop it, or set LANDFALL_HOME to another folder"
            ) from None
        file.truncate(0)
        self._file = file

    def note(self, port: int, url: str) -> None:
        """Let others know where the host answers."""
        assert self._file is not None
        with writing(self._home):
            self._file.write(json.dumps(asdict(HostInfo(os.getpid(), port, url))))
            self._file.flush()

    def release(self) -> None:
        """Let the next host begin; nothing happens when the lock is not held."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """What the system refuses of ``home`` inside raises :class:`~shared.errors.Refused`, in words."""
    try:
        yield
    except OSError as error:
        raise Refused(
            f"{home} cannot be used: {error.strerror or error}. "
            "Make room there and let it be written, or set LANDFALL_HOME to another folder"
        ) from error


def running(home: Path) -> HostInfo | None:
    """The host that runs ``home`` and answers, None when there is none."""
    try:
        file = (home / FILE).open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read()
            return HostInfo(**json.loads(text)) if text else None
    return None
