"""What was answered for which key: of each hour of the prediction log the last answer of a version for a key.

The prediction log holds all features of a row; labels that land weeks later need its key and its answer alone. So each
hour of the log is read once, and what they need of it is kept beside it as keyed.json.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from shared import fast_json
from shared.domain.categories import text_of
from shared.errors import Missing
from shared.ports.lake import Lake
from shared.predictions.landed_labels import rank
from shared.predictions.prediction_log import LoggedRequest, PredictionLog

HOUR = timedelta(hours=1)
MOST = 20_000
"""Answers that are kept of one hour, those whose keys have the smallest hashes, as of labels."""

_logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The answer of a model version for the row with a key; ``probability`` as in the log."""

    key: str
    version: str
    at: datetime
    prediction: Any
    probability: float | None


def between(
    lake: Lake, log: PredictionLog, pipeline: str, since: datetime, until: datetime, keys: Container[str]
) -> Iterator[Answer]:
    """The answers from ``since`` to before ``until`` for rows with these ``keys``, hour by hour; no copies.

    Of an hour that ``since`` cuts, the last answer of the whole hour counts.
    """
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < until:
        over = hour + HOUR <= until
        found = _whole(lake, log, pipeline, hour) if over else _last(log.window(pipeline, hour, until))
        for key, version, at, prediction, probability in found:
            if key in keys:
                moment = datetime.fromisoformat(at)
                if moment >= since:
                    yield Answer(key, version, moment, prediction, probability)
        hour += HOUR


def _whole(lake: Lake, log: PredictionLog, pipeline: str, hour: datetime) -> list[list[Any]]:
    """The answers of an hour that is over, as stored: what is kept of it, if no piece of the log has come since."""
    pieces = {piece.id: piece for piece in log.pieces(pipeline, hour, hour + HOUR)}
    if not pieces:
        return []
    path = next(iter(pieces.values())).path.rpartition("/")[0] + "/keyed.json"
    try:
        kept = fast_json.loads(lake.read(path))
        if set(kept["pieces"]) == pieces.keys():
            answers: list[list[Any]] = kept["answers"]
            return answers
    except Missing:
        pass
    except (ValueError, KeyError, TypeError) as error:
        _logger.warning("%s cannot be read and is made anew: %r", path, error)
    answers = _last(log.window(pipeline, hour, hour + HOUR))
    lake.write(path, fast_json.dumps({"pieces": sorted(pieces), "answers": answers}))
    return answers


def _is_text(key: str) -> bool:
    """Half of a surrogate pair may be asked for, but no key that lands can hold one."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _last(requests: Iterator[LoggedRequest]) -> list[list[Any]]:
    """Of each key and version key, version, time, prediction and probability of its last answer."""
    last: dict[tuple[str, str], Answer] = {}
    for request in requests:
        if request.keys is None or request.error is not None or request.mirrored:
            continue
        probability: Sequence[float | None] = request.probability or [None] * len(request.predictions)
        for value, prediction, chance in zip(request.keys, request.predictions, probability, strict=True):
            key = value if type(value) is str else text_of(value) if isinstance(value, int | float) else None
            if key is None or not _is_text(key):
                continue
            answer = Answer(key, request.version, request.at, prediction, chance)
            known = last.get((key, request.version))
            if known is None or known.at <= answer.at:
                last[key, request.version] = answer
    kept = sorted(last.values(), key=lambda answer: (rank(answer.key), answer.key, answer.version))[:MOST]
    return [[a.key, a.version, a.at.isoformat(), a.prediction, a.probability] for a in kept]
