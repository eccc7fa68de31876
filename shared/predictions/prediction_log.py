"""The prediction log: what the endpoints were asked and what they answered, in pieces in the lake.

A piece is predictions/<pipeline>/<yyyy-mm-dd>/<hh>/<first>-<last>-<id>.jsonl: one JSON object per
request, all of one hour (UTC), ``first`` and ``last`` being the times of its first and last request
in microseconds since 1970. Pieces are written once and never change.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import re
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shared import fast_json
from shared.domain.drift import Profile, Summary, compare, summarise
from shared.domain.performance import CALIBRATION
from shared.domain.records import from_record, to_record
from shared.domain.rollout import Health
from shared.errors import Missing
from shared.ports.clock import Clock
from shared.ports.lake import Lake

FLUSH_SECONDS = 1.0
FLUSH_ROWS = 5_000
"""A piece is written after so many seconds, or as soon as so many rows wait."""
MAX_ROWS = 200_000
"""Rows that may wait in memory; what comes while so many wait is dropped and counted."""
CACHE_BYTES = 64 * 2**20
"""Memory for pieces that were read: they never change, and every look at a window reads them again."""

CACHED_HOURS = 1_000
PART = timedelta(minutes=5)
"""An hour is summarised in parts of this length, by the first request of a piece: a window that cuts an hour reads
the pieces of one part anew, not the hour's."""

_logger = logging.getLogger(__name__)
_PIECE = re.compile(r"/(\d+)-(\d+)-([0-9a-f]+)\.jsonl$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class LoggedRequest:
    """One request and its answer. ``rows`` are lists of values in the order of ``columns``.

    ``predictions`` has one value per row and ``probability`` one number (None for regression); both
    are empty when the deployment failed, and then ``error`` says how. ``mirrored``: it was a copy of a request that
    another deployment answered, and this answer went to nobody.
    ``keys`` has the key of each row; None when the request named none.
    """

    at: datetime
    request_id: str
    deployment: str
    version: str
    milliseconds: float
    columns: list[str]
    rows: list[list[Any]]
    predictions: list[Any]
    probability: list[float] | None = None
    error: str | None = None
    mirrored: bool = False
    keys: list[Any] | None = None


@dataclass
class _Growing:
    """A piece of which not all has come yet: times of its first and last request, its rows, at least one for each
    request, and a line a request."""

    first: datetime
    last: datetime
    rows: int = 0
    lines: list[bytes] = field(default_factory=list)

    def add(self, at: datetime, rows: int, line: bytes) -> None:
        """One request more."""
        self.first, self.last = min(self.first, at), max(self.last, at)
        self.rows += rows
        self.lines.append(line)

    def whole(self) -> bytes:
        """The piece's content."""
        return b"\n".join([*self.lines, b""])


@dataclass(frozen=True)
class Piece:
    """A piece of the log: its path in the lake and the times of its first and last request."""

    path: str
    id: str
    first: datetime
    last: datetime


@dataclass(frozen=True)
class _HourSummary:
    """The pieces of an hour with these ids, summarised by the :data:`PART` that they begin in."""

    pieces: frozenset[str]
    parts: dict[int, Summary]


class PredictionLog:
    """Writes and reads the prediction log of all pipelines. Safe to use from several threads and processes."""

    def __init__(self, lake: Lake, clock: Clock) -> None:
        self._lake = lake
        self._clock = clock
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: dict[str, _Growing] = {}
        self._pending: deque[tuple[str, bytes, int]] = deque()
        self._rows = 0
        self._dropped = 0
        self._writer: _Writer | None = None
        self._pieces: OrderedDict[str, bytes] = OrderedDict()
        self._pieces_size = 0
        self._hours: OrderedDict[str, _HourSummary] = OrderedDict()

    def record(
        self,
        pipeline: str,
        *,
        request_id: str,
        deployment: str,
        version: str,
        at: datetime,
        milliseconds: float,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        predictions: Sequence[Any],
        probability: Sequence[float] | None,
        error: str | None = None,
        mirrored: bool = False,
        keys: Sequence[Any] | None = None,
    ) -> None:
        """Keep a request and its answer to be written within a second; never waits, few rows cost microseconds.

        While more rows wait than memory allows, because the lake does not take them, requests are dropped; how many
        is logged.
        """
        request = {
            "at": at,
            "request_id": request_id,
            "deployment": deployment,
            "version": version,
            "milliseconds": milliseconds,
            "columns": columns,
            "rows": rows,
            "predictions": predictions,
            "probability": probability,
            "error": error,
            **({"mirrored": True} if mirrored else {}),
            **({"keys": keys} if keys is not None else {}),
        }
        # Here and not by the writer: to make thousands of lines at once would hold up all that is asked meanwhile.
        folder = _folder(pipeline, at)
        try:
            line = b"" if self._rows >= MAX_ROWS else fast_json.dumps(request, default=_plain)
        except RecursionError:
            _logger.error("prediction log: request %s is nested too deeply and left out", request_id)
            return
        with self._lock:
            if not line:
                self._dropped += 1
                if self._dropped == 1:
                    _logger.error("prediction log: %d rows wait to be written, new requests are dropped", self._rows)
                return
            # One without rows takes memory, too.
            size = max(1, len(rows))
            self._waiting.setdefault(folder, _Growing(at, at)).add(at, size, line)
            self._rows += size
            if self._writer is None:
                self._writer = _Writer(self)
            writer, full = self._writer, self._rows >= FLUSH_ROWS
        writer.wake(full)

    def flush(self) -> None:
        """Write all that waits. What the lake does not take waits on, and the lake's error is raised."""
        with self._flushing:
            with self._lock:
                taken, self._waiting = self._waiting, {}
            self._pending.extend((_path(folder, piece), piece.whole(), piece.rows) for folder, piece in taken.items())
            while self._pending:
                path, data, rows = self._pending[0]
                # A piece keeps its path: written again after an unclear failure, it is still one piece.
                self._lake.write(path, data)
                self._pending.popleft()
                with self._lock:
                    self._rows -= rows
                    dropped, self._dropped = self._dropped, 0
                if dropped:
                    _logger.error("prediction log: %d requests were dropped while the lake took no data", dropped)

    def close(self) -> None:
        """Stop the writer and flush. A later record starts it again."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()
        self.flush()

    def pieces(self, pipeline: str, since: datetime, until: datetime) -> Iterator[Piece]:
        """The pieces that may hold requests from ``since`` to before ``until``, in the order of their first request."""
        for hour in _hours(since, until):
            for piece in self._pieces_of(pipeline, hour):
                if piece.last >= since and piece.first < until:
                    yield piece

    def window(
        self, pipeline: str, since: datetime, until: datetime, version: str | None = None
    ) -> Iterator[LoggedRequest]:
        """The requests from ``since`` to before ``until``, of one model version or all, piece by piece."""
        for piece in self.pieces(pipeline, since, until):
            for request in self._read(piece):
                if since <= request.at < until and version in (None, request.version):
                    yield request

    def summary(
        self,
        pipeline: str,
        profile: Profile,
        profile_key: str,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
    ) -> Summary:
        """What was answered from ``since`` to before ``until``, counted in the bins of ``profile``; no copies.

        Its columns are those that the models took, and prediction and probability, also under the names
        (prediction) and (probability), which no column of a model hides, and the probability as (calibration),
        for bins of its own. ``profile_key`` names the profile's content. Each piece is read once: what it
        holds is kept in the lake, merged with its neighbours, so that a look costs what came since the last
        one, however long the window. Only the few minutes that ``since`` or ``until`` cuts are counted anew.
        """
        total = Summary()
        for hour in _hours(since, until):
            by_part: dict[int, list[Piece]] = {}
            for piece in self._pieces_of(pipeline, hour):
                by_part.setdefault((piece.first - hour) // PART, []).append(piece)
            whole = {n for n, part in by_part.items() if all(since <= p.first and p.last < until for p in part)}
            if whole:
                pieces = [piece for part in by_part.values() for piece in part]
                parts = self._hour(pipeline, profile, profile_key, hour, version, pieces)
                total = sum((parts[n] for n in whole if n in parts), total)
            cut = [
                request
                for n, part in by_part.items()
                if n not in whole
                for piece in part
                if piece.last >= since and piece.first < until
                for request in self._read(piece)
                if since <= request.at < until and _counts(request, version)
            ]
            total += _summarise(profile, cut)
        return total

    def health(self, pipeline: str, deployment: str, since: datetime, reference: Profile | None) -> Health:
        """How a deployment has done from ``since`` to now, with what it was asked in copies.

        ``reference`` profiles prediction and probability on the held-out rows; without it predictions
        are not compared. PSI is the larger of both, among what is more than chance gives.
        """
        requests = [
            request
            for request in self.window(pipeline, since, self._clock.now() + _MICROSECOND)
            if request.deployment == deployment
        ]
        answered = [request for request in requests if request.error is None]
        return Health(
            requests=len(requests),
            errors=len(requests) - len(answered),
            p95_ms=_p95([request.milliseconds for request in answered]),
            prediction_psi=None if reference is None else _prediction_psi(reference, answered),
        )

    def _hour(
        self, pipeline: str, profile: Profile, key: str, hour: datetime, version: str | None, pieces: list[Piece]
    ) -> dict[int, Summary]:
        """The summaries of all pieces of one hour by part, from what is stored and what is new."""
        name = hashlib.sha256(json.dumps([key, version]).encode()).hexdigest()[:24]
        path = f"{_folder(pipeline, hour)}summary-{name}.json"
        known = self._hours.get(path) or self._stored(path)
        wanted = {piece.id: piece for piece in pieces}
        if known is None or not known.pieces <= wanted.keys():
            known = _HourSummary(frozenset(), {})
        new = wanted.keys() - known.pieces
        if new:
            fresh: dict[int, list[LoggedRequest]] = {}
            for id in new:
                taken = [request for request in self._read(wanted[id]) if _counts(request, version)]
                fresh.setdefault((wanted[id].first - hour) // PART, []).extend(taken)
            parts = dict(known.parts)
            for number, requests in fresh.items():
                parts[number] = parts.get(number, Summary()) + _summarise(profile, requests)
            known = _HourSummary(known.pieces | new, parts)
            record = {"pieces": sorted(known.pieces), "parts": {n: to_record(part) for n, part in parts.items()}}
            self._lake.write(path, json.dumps(record, separators=(",", ":")).encode())
        with self._lock:
            self._hours[path] = known
            self._hours.move_to_end(path)
            if len(self._hours) > CACHED_HOURS:
                self._hours.popitem(last=False)
        return known.parts

    def _stored(self, path: str) -> _HourSummary | None:
        try:
            record = json.loads(self._lake.read(path))
            parts = {int(number): from_record(Summary, part) for number, part in record["parts"].items()}
            return _HourSummary(frozenset(record["pieces"]), parts)
        except Missing:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _logger.warning("summary %s cannot be read and is made anew: %r", path, error)
            return None

    def _pieces_of(self, pipeline: str, hour: datetime) -> list[Piece]:
        pieces = []
        for file in self._lake.list(_folder(pipeline, hour)):
            match = _PIECE.search(file.path)
            if match:
                first, last = (_EPOCH + int(match[i]) * _MICROSECOND for i in (1, 2))
                pieces.append(Piece(file.path, match[3], first, last))
        return pieces

    def _read(self, piece: Piece) -> Iterator[LoggedRequest]:
        for number, line in enumerate(self._bytes(piece.path).splitlines(), 1):
            try:
                request = from_record(LoggedRequest, json.loads(line))
            except (ValueError, TypeError, AttributeError) as error:
                _logger.warning("prediction log: line %d of %s is left out: %r", number, piece.path, error)
                continue
            yield request

    def _bytes(self, path: str) -> bytes:
        """The piece, from memory when it was read before; the least recently read make room."""
        with self._lock:
            if path in self._pieces:
                self._pieces.move_to_end(path)
                return self._pieces[path]
        data = self._lake.read(path)
        with self._lock:
            if path not in self._pieces:
                self._pieces[path] = data
                self._pieces_size += len(data)
            while self._pieces_size > CACHE_BYTES:
                self._pieces_size -= len(self._pieces.popitem(last=False)[1])
        return data


class _Writer:
    """The thread that flushes a log. It sleeps while nothing waits."""

    def __init__(self, log: PredictionLog) -> None:
        self._log = log
        self._some = threading.Event()
        self._now = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)
        self._thread.start()
        atexit.register(log.close)

    def wake(self, now: bool) -> None:
        """Something waits; ``now``: so much that it must not wait longer."""
        if not self._some.is_set():
            self._some.set()
        if now and not self._now.is_set():
            self._now.set()

    def stop(self) -> None:
        """End the thread after the flush that it may be at."""
        atexit.unregister(self._log.close)
        self._stopped = True
        self._some.set()
        self._now.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._now.wait(FLUSH_SECONDS)
            if self._stopped:
                return
            self._some.clear()
            self._now.clear()
            try:
                self._log.flush()
            except Exception:
                _logger.exception("prediction log: what waits is tried again in %s s", FLUSH_SECONDS)
                self._some.set()


def _path(folder: str, piece: _Growing) -> str:
    first, last = ((moment - _EPOCH) // _MICROSECOND for moment in (piece.first, piece.last))
    return f"{folder}{first}-{last}-{uuid.uuid4().hex[:12]}.jsonl"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else str(value)


def _folder(pipeline: str, at: datetime) -> str:
    return f"predictions/{pipeline}/{at.astimezone(UTC):%Y-%m-%d/%H}/"


def _hours(since: datetime, until: datetime) -> Iterator[datetime]:
    """The beginnings of all hours (UTC) that share a moment with [since, until)."""
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < until:
        yield hour
        hour += timedelta(hours=1)


def _p95(values: list[float]) -> float:
    import numpy as np

    return float(np.percentile(values, 95)) if values else 0.0


def _counts(request: LoggedRequest, version: str | None) -> bool:
    return version in (None, request.version) and not request.mirrored


def _summarise(profile: Profile, requests: Iterable[LoggedRequest]) -> Summary:
    total = Summary()
    groups: dict[tuple[str, ...], list[LoggedRequest]] = {}
    for request in requests:
        if request.error is None:
            groups.setdefault(tuple(request.columns), []).append(request)
    for names, group in groups.items():
        values = dict(zip(names, zip(*(row for request in group for row in request.rows), strict=True), strict=True))
        answers = {"prediction": tuple(p for request in group for p in request.predictions)}
        if all(request.probability is not None for request in group):
            answers["probability"] = tuple(p for request in group for p in request.probability or ())
        for name, answer in answers.items():
            values.setdefault(name, answer)
            values[f"({name})"] = answer
        if "probability" in answers:
            values[CALIBRATION] = answers["probability"]
        total += summarise(
            profile, {name: _array(column) for name, column in values.items() if name in profile.columns}
        )
    return total


def _array(values: Sequence[Any]) -> Any:
    """Numbers as numbers, all else as objects: numpy would make text of what is mixed."""
    import numpy as np

    return np.array(values, dtype=None if set(map(type, values)) <= {int, float} else object)


def _prediction_psi(reference: Profile, answered: list[LoggedRequest]) -> float | None:
    found = compare(reference, _summarise(reference, answered)).values()
    return max((column.psi for column in found if column.psi > column.psi_noise), default=None)
