"""Creating a thing once on a service that would create it again at every call: the lake tells who is at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from shared.domain.records import from_record, to_record
from shared.errors import AlreadyExists, Rejected, Transient
from shared.ports.lake import Lake

GRACE = timedelta(seconds=45)
"""What a call created that was not answered can be found after this time, or was never created.

Longer than a call may take to be answered, and shorter than the queue goes on trying a message.
"""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One creation, entered before it is sent; with neither ``made``, the service's id of the thing, nor
    ``refused``, the reason why there is none, nobody knows what became of it."""

    at: datetime
    made: str = ""
    refused: str = ""


class Attempts:
    """Attempts as files ``attempt-<n>.json`` in a folder of the lake, each of which only one can make."""

    def __init__(self, lake: Lake, grace: timedelta = GRACE) -> None:
        self._lake = lake
        self._grace = grace

    def last(self, folder: str) -> Attempt | None:
        """The newest attempt, None when there was none."""
        return self._last(folder)[1]

    def enter(self, folder: str, made: str) -> None:
        """Enter what the newest attempt created, as somebody found it later."""
        number, last = self._last(folder)
        if last is not None:
            self._enter(folder, number, replace(last, made=made))

    def once(self, folder: str, what: str, find: Callable[[datetime], str | None], create: Callable[[], str]) -> None:
        """Let ``create`` make the thing, unless an attempt of anybody has made it; both return its id.

        ``find`` looks for what an attempt that was not answered made; it gets the time of the first one.
        Raises what ``create`` raises when it had no effect, and Transient while it is not known whether an
        attempt had one.
        """
        number, last = self._last(folder)
        if last is not None and last.made:
            return
        if last is not None and not last.refused:
            found = find(self._read(folder, 1).at)
            if found is not None:
                self._enter(folder, number, replace(last, made=found))
                return
            if datetime.now(UTC) - last.at < self._grace:
                raise Transient(
                    f"{what} was sent at {last.at:%H:%M:%S} and not answered; it may still turn up, so it is sent"
                    f" again only {self._grace.total_seconds():g} s later"
                )
        number, attempt = number + 1, Attempt(at=datetime.now(UTC))
        try:
            self._lake.write(_path(folder, number), _json(attempt), overwrite=False)
        except AlreadyExists as error:
            raise Transient(f"{what} is being sent by somebody else at this moment") from error
        try:
            made = create()
        except (Transient, Rejected) as error:
            if had_no_effect(error):
                self._enter(folder, number, replace(attempt, refused=str(error)))
                raise
            found = find(attempt.at)
            if found is None:
                raise Transient(str(error)) from error
            made = found
        self._enter(folder, number, replace(attempt, made=made))

    def _last(self, folder: str) -> tuple[int, Attempt | None]:
        number = 0
        while self._lake.stat(_path(folder, number + 1)) is not None:
            number += 1
        return number, self._read(folder, number) if number else None

    def _read(self, folder: str, number: int) -> Attempt:
        return from_record(Attempt, json.loads(self._lake.read(_path(folder, number))))

    def _enter(self, folder: str, number: int, attempt: Attempt) -> None:
        self._lake.write(_path(folder, number), _json(attempt))


def had_no_effect(error: Exception) -> bool:
    """Whether the service said that it did nothing: it refused the call, or throttled it."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(cause, "status_code", None)
        if status is not None:
            return 400 <= int(status) < 500 and int(status) != 408
        cause = cause.__cause__
    return False


def _path(folder: str, number: int) -> str:
    return f"{folder}/attempt-{number}.json"


def _json(attempt: Attempt) -> bytes:
    return json.dumps(to_record(attempt)).encode()
