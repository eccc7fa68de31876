"""What became of predictions: answers of the log joined with the labels that landed later.

Each file of labels is joined once, with the answers of the window before it landed; what is found is kept under
predictions/<pipeline>/outcomes/ in a file of the same name. Of a key and a version the newest label counts, with the
last answer before it: repeated labels count once, corrected ones replace what they correct, and the order in which
files are joined makes no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from shared import fast_json
from shared.ports.lake import Lake
from shared.predictions import keyed_answers, landed_labels
from shared.predictions.keyed_answers import Answer
from shared.predictions.prediction_log import PredictionLog

MOST = 20_000
"""Outcomes of one version that are kept of one file of labels, and that are measured: the newest ones."""


class LabelledAnswer(NamedTuple):
    """A prediction and the label that landed at ``labelled_at``, after it was made at ``at``."""

    key: str
    at: datetime
    labelled_at: datetime
    prediction: Any
    probability: float | None
    label: Any


def join(lake: Lake, log: PredictionLog, pipeline: str, window: timedelta, until: datetime) -> None:
    """Join the labels that landed in the ``window`` before ``until`` and are not joined yet.

    A label counts for answers of at most ``window`` before it. Costs the window's hours of keyed answers for each new
    file of labels, and holds the labels of one file.
    """
    for day in _days(until - window, until):
        files = (file.path for file in lake.list(landed_labels.folder(pipeline, day)))
        found = [path for path in files if landed_labels.is_one(path)]
        joined = {file.path for file in lake.list(_folder(pipeline, day))} if found else set()
        for path in found:
            target = _folder(pipeline, day) + path.rpartition("/")[2]
            landed = landed_labels.landed_at(path)
            if target not in joined and until - window <= landed < until:
                labels = landed_labels.loads(lake.read(path))
                answers = keyed_answers.between(lake, log, pipeline, landed - window, landed, labels.keys())
                lake.write(target, b"".join(fast_json.dumps(line) + b"\n" for line in _joined(labels, answers)))


def newest(lake: Lake, pipeline: str, version: str, since: datetime, until: datetime) -> list[LabelledAnswer]:
    """What became of the predictions that ``version`` made from ``since`` on and whose labels landed before ``until``.

    One for each key, the newest label first, up to about :data:`MOST`.
    """
    found: dict[str, LabelledAnswer] = {}
    for day in reversed(list(_days(since, until))):
        files = ((landed_labels.landed_at(file.path), file.path) for file in lake.list(_folder(pipeline, day)))
        for landed, path in sorted(files, reverse=True):
            if landed >= until or len(found) >= MOST:
                continue
            for line in map(fast_json.loads, lake.read(path).splitlines()):
                key, by, at, prediction, probability, label = line
                moment = datetime.fromisoformat(at)
                if by == version and key not in found and moment >= since:
                    found[key] = LabelledAnswer(key, moment, landed, prediction, probability, label)
    return list(found.values())


def _joined(labels: Mapping[str, Any], answers: Iterator[Answer]) -> Iterator[list[Any]]:
    last: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        known = last.get((answer.key, answer.version))
        if known is None or known.at <= answer.at:
            last[answer.key, answer.version] = answer
    kept: Counter[str] = Counter()
    for answer in sorted(last.values(), key=lambda found: (landed_labels.rank(found.key), found.key)):
        kept[answer.version] += 1
        if kept[answer.version] <= MOST:
            at = answer.at.isoformat()
            yield [answer.key, answer.version, at, answer.prediction, answer.probability, labels[answer.key]]


def _folder(pipeline: str, day: datetime) -> str:
    return f"predictions/{pipeline}/outcomes/{day:%Y-%m-%d}/"


def _days(since: datetime, until: datetime) -> Iterator[datetime]:
    day = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < until:
        yield day
        day += timedelta(days=1)
