"""The labels that a batch brought, as its features job leaves them for the prediction log to be joined with.

A file is predictions/<pipeline>/labels/<yyyy-mm-dd>/<landed>-<run>.jsonl, ``landed`` being when the first file of the
batch was seen, in microseconds since 1970: one JSON list [key, label] a row.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared import fast_json
from shared.domain.landing import LandedFile

MOST = 200_000
"""About so many labels are kept of one batch, those whose keys have the smallest hashes: more make no metric more
certain."""
_logger = logging.getLogger(__name__)
_NAME = re.compile(r"/\d{1,17}-[^/]+\.jsonl$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def path(pipeline: str, run: str, files: Sequence[LandedFile]) -> str:
    """Where the labels of a run's own files belong."""
    landed = min(file.at for file in files).astimezone(UTC)
    return f"{folder(pipeline, landed)}{(landed - _EPOCH) // timedelta(microseconds=1)}-{run}.jsonl"


def folder(pipeline: str, day: datetime) -> str:
    """The folder of the labels that landed on a day (UTC)."""
    return f"predictions/{pipeline}/labels/{day:%Y-%m-%d}/"


def is_one(file: str) -> bool:
    """Whether a file in such a folder is one of labels, by its name."""
    return _NAME.search(file) is not None


def landed_at(file: str) -> datetime:
    """When the labels in the file landed, by its name."""
    return _EPOCH + timedelta(microseconds=int(file.rpartition("/")[2].partition("-")[0]))


def rank(key: str) -> str:
    """The place of a key, as text, among all keys: the same everywhere, so that a part of the keys is the same part.

    Other digits of the hash than the split takes, or the part would be one-sided.
    """
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[8:]


def limit(rows: int) -> int:
    """The labels of a batch of ``rows`` are kept whose :func:`rank` begins with 8 digits of a smaller number."""
    return round(min(1.0, MOST / rows) * 16**8)


def sql_condition(key: str, rows: int) -> str:
    """Which labels of a batch of ``rows`` are kept, as a condition that DuckDB and Spark SQL understand."""
    return "true" if rows <= MOST else f"substr(md5(cast({key} as string)), 9, 8) < '{limit(rows):08x}'"


def dumps(rows: Iterable[Sequence[Any]]) -> bytes:
    """The file's content; ``rows`` are (key, label). Times are ISO 8601, as requests have them."""
    from shared.domain.categories import text_of

    return b"".join(fast_json.dumps(list(row), default=text_of) + b"\n" for row in rows)


def loads(data: bytes) -> Mapping[str, Any]:
    """Labels by the text of their keys; rows without one, and lines that are none, are left out."""
    from shared.domain.categories import text_of

    labels: dict[str, Any] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            key, label = fast_json.loads(line)
        except (ValueError, TypeError) as error:
            _logger.warning("landed labels: line %d is left out: %r", number, error)
            continue
        text = key if type(key) is str else text_of(key)
        if text is not None:
            labels[text] = label
    return labels
