"""What Landfall publishes, as a log of CloudEvents on this machine."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from shared.adapters.system_clock import SystemClock
from shared.errors import Rejected, Transient
from shared.ports.clock import Clock


class EventLog:
    """The EventPublisher port on the file ``path``: one CloudEvent 1.0 in JSON per line, oldest first."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()

    def publish(self, kind: str, subject: str, data: dict[str, Any], *, id: str) -> None:
        """Append one event of type ``Landfall.<kind>``, whole or not at all, and on the disk on return.

        A happening that is published twice has two lines with one id. Raises Transient when the file
        cannot be written, Rejected when ``data`` is not JSON.
        """
        event = {
            "specversion": "1.0",
            "id": id,
            "source": "landfall",
            "type": f"Landfall.{kind}",
            "subject": subject,
            "time": self._clock.now().isoformat(),
            "datacontenttype": "application/json",
            "data": data,
        }
        try:
            line = json.dumps(event, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise Rejected(f"event {id} (Landfall.{kind} about {subject}) cannot be published: {error}") from error
        try:
            self._append(line)
        except OSError as error:
            raise Transient(f"event {id} (Landfall.{kind} about {subject}) was not written: {error}") from error

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    # A machine lost its power while it wrote the last line.
                    line = b"\n" + line
            written = file.write(line)
            if written != len(line):
                file.truncate(end)
                raise OSError(f"{self._path} took {written} of {len(line)} bytes; is the disk full?")
            os.fsync(file.fileno())
