"""The features that a batch can be added to: what a run leaves beside its manifest for the run that comes next.

``features/<pipeline>/by-input/<fingerprint>/`` has ``facts.json`` and ``sample.parquet``, the training rows that the
reference profile is made of and some more, so that those of the next run are among them and the batch's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shared.adapters.local.known_rows import Anew, Known
from shared.adapters.local.pieces import Piece
from shared.domain.records import from_record, to_record
from shared.errors import Missing
from shared.features.features_sql import NOT_ROW_WISE, analyse, passes_on
from shared.features.landed_rows import PROFILE_ROWS
from shared.ports.feature_engine import FeaturesJob, Manifest
from shared.ports.lake import Lake

T = TypeVar("T")
FACTS, SAMPLE = "facts.json", "sample.parquet"
LAYOUT = 1
"""Another number where what is stored, or what preparation makes of the same rows, became another."""
ALL_DIGITS = 16**8
KEY_TYPES = frozenset({"string", "int", "date", "timestamp"})
"""Of keys that are equal when their texts are, by which sides are chosen."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of one run: its landed rows, its columns in order with key and label, its pieces by side.

    ``sample`` is the limit of the digits of a key's hash below which training rows are in the sample.
    """

    layout: int
    known: Known
    columns: dict[str, str]
    pieces: dict[str, list[Piece]]
    sample: int


@dataclass(frozen=True, kw_only=True)
class Base:
    """Facts with the manifest and the places that they speak of."""

    manifest: Manifest
    facts: Facts
    folders: dict[str, Path]
    sample: Path

    def rows(self, side: str) -> int:
        """How many rows the side has."""
        return sum(piece.rows for piece in self.facts.pieces[side])

    def check(self) -> None:
        """Raise Anew when one of its files is gone."""
        placed = [self.folders[side] / piece.name for side, pieces in self.facts.pieces.items() for piece in pieces]
        for place in (self.sample, *placed):
            if not place.is_file():
                raise Anew(f"{place.name} of {self.manifest.train.rpartition('/')[0]} is gone")


def manifest_of(job: FeaturesJob) -> str:
    """Where the manifest that the job's input gives is kept; what the next batch is added to lies beside it."""
    return f"features/{job.pipeline.name}/by-input/{job.fingerprint}.json"


def _beside(manifest: str, name: str) -> str:
    return f"{manifest.removesuffix('.json')}/{name}"


def profile_limit(train_rows: int) -> int:
    """Training rows whose keys' digits are below make the profile."""
    return round(min(1.0, PROFILE_ROWS / train_rows) * ALL_DIGITS)


def obstacle(job: FeaturesJob, landed: Mapping[str, str] | None = None) -> str:
    """Why no batch can be added to features of this job, empty when one can; ``landed`` are its columns' types."""
    key = job.pipeline.features.key
    if job.pipeline.landing.format == "delta":
        return "of a Delta table that lands, a commit may stand for rows that landed before"
    if not analyse(job.sql).row_wise:
        return f"features.sql is not row-wise: {NOT_ROW_WISE}"
    if not passes_on(job.sql, key):
        return f"features.sql makes the key {key} itself"
    kind = "" if landed is None else landed[key].removesuffix("?")
    return f"the key {key} is {kind}" if kind and kind not in KEY_TYPES else ""


def find(job: FeaturesJob, lake: Lake) -> Base:
    """The features that the job's batch can be added to. Raises :class:`Anew` when there are none."""
    if not job.files:
        raise Anew("there is no batch beside what landed before")
    if reason := obstacle(job):
        raise Anew(reason)
    if not job.base:
        raise Anew("there are no features of just what landed before")
    manifest = _read(Manifest, job.base, lake)
    if reason := obstacle(job, manifest.landed_columns):
        raise Anew(reason)
    found = _read(Facts, _beside(job.base, FACTS), lake)
    if found.layout != LAYOUT:
        raise Anew("the features of what landed before are of another release")
    base = Base(
        manifest=manifest,
        facts=found,
        folders={"train": Path(lake.uri(manifest.train)), "test": Path(lake.uri(manifest.test))},
        sample=Path(lake.uri(_beside(job.base, SAMPLE))),
    )
    base.check()
    _check_landed(job, lake)
    return base


def _read(kind: type[T], path: str, lake: Lake) -> T:
    """The record at ``path``. Raises Anew where there is none that can be read."""
    try:
        return from_record(kind, json.loads(lake.read(path)))
    except Missing as error:
        raise Anew(f"there is no {path}") from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Anew(f"{path} is of another release or damaged") from error


def _check_landed(job: FeaturesJob, lake: Lake) -> None:
    """Raise Anew unless what landed before is there as it was, and nothing of it landed again."""
    etags = {file.path: file.etag for file in job.earlier}
    for file in job.files:
        if file.path in etags:
            raise Anew(f"{file.path} landed before, too")
    for path, etag in etags.items():
        info = lake.stat(path)
        if info is None or info.etag != etag:
            raise Anew(f"{path}, which landed before, is {'gone' if info is None else 'another file now'}")


def store(job: FeaturesJob, lake: Lake, facts: Facts, sample: Path) -> None:
    """Leave what the run that comes next needs; what is there already is replaced."""
    manifest = manifest_of(job)
    lake.upload(_beside(manifest, SAMPLE), sample)
    lake.write(_beside(manifest, FACTS), json.dumps(to_record(facts)).encode())


def forget(job: FeaturesJob, lake: Lake) -> None:
    """Remove what was stored beside the job's base: the next batch is added to the job's own features."""
    for name in (FACTS, SAMPLE):
        lake.delete(_beside(job.base, name))
