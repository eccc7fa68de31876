"""Feature preparation: landed files in, features, split, manifest and reference profile out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from shared.domain.landing import LandedFile
from shared.domain.pipelines import Pipeline
from shared.ports.jobs import JobStatus


@dataclass(frozen=True, kw_only=True)
class FeaturesJob:
    """Prepare features for ``run`` into the lake folder ``output`` (features/<pipeline>/<run>).

    ``files`` landed in this batch and are checked; ``earlier`` landed before, in landing order, and
    were accepted. ``sql`` is the text of features.sql. ``fingerprint`` names this exact input.
    Fewer rows in ``files`` than ``min_rows`` make the manifest short. ``base`` is the lake path of the manifest that
    just ``earlier`` gave, with the same pipeline and ``sql``, empty when there is none: an engine may add the batch
    to those features instead of reading ``earlier``, where that gives the same.
    """

    name: str
    pipeline: Pipeline
    run: str
    sql: str
    files: tuple[LandedFile, ...]
    earlier: tuple[LandedFile, ...]
    fingerprint: str
    output: str
    min_rows: int = 0
    base: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a features job made; stored as manifest.json in its output folder, last of all files.

    ``status`` is ready, short (``files`` had only ``landed_rows`` rows) or rejected (then ``faults`` has
    one object per broken rule: rule, column, count, rows (a sample: file, row number from 1, value),
    text); of the last two nothing else was written. ``landed_rows`` counts the rows of ``files``.
    ``train`` and ``test`` are lake folders of parquet with the key and label columns in them;
    ``table`` is the Delta table's folder and ``table_version`` the version that this run pinned;
    ``profile`` is the reference profile's path. ``columns`` maps each feature column to its type
    (string, int, double, boolean, date, timestamp), without key and label. ``sql`` is the query that
    made them: raw rows are scored with that one, whatever features.sql says since. ``prepared`` says whether the
    batch was added to earlier features, or why all was prepared anew, where the engine knows both ways.
    """

    run: str
    pipeline: str
    status: str
    fingerprint: str
    created_at: datetime
    faults: tuple[dict[str, Any], ...] = ()
    train: str = ""
    test: str = ""
    train_rows: int = 0
    test_rows: int = 0
    landed_rows: int = 0
    table: str = ""
    table_version: int = 0
    profile: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    landed_columns: dict[str, str] = field(default_factory=dict)
    row_wise: bool = False
    sql: str = ""
    prepared: str = ""


class FeatureEngine(Protocol):
    """Runs features.sql where the data are.

    The split of a row is a hash of its key (:func:`shared.domain.split.is_test`), so it never moves.
    """

    def submit(self, job: FeaturesJob) -> None:
        """Start the job and return at once. A second submit with the same name meets the first job.

        Raises :class:`~shared.errors.Transient` when the engine cannot take it now.
        """
        ...

    def status(self, name: str) -> JobStatus | None:
        """The job's state, None when no job of that name was ever submitted.

        A rejected batch is a completed job: its manifest says rejected. What is wrong with the pipeline
        and not with the data (features.sql does not run, gives no label) is a failed job.
        """
        ...

    def prepare_rows(
        self, sql: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Run a row-wise ``sql`` on raw rows for scoring, in their order, one result row per row.

        ``columns`` are the landed columns that rows may have, and their types as in the manifest; what a
        row leaves out is null. Raises :class:`~shared.errors.InvalidRequest` naming column and row (from 0)
        where a value does not fit its type, and for rows that ``sql`` filters out: they are never dropped.
        Raises :class:`~shared.errors.Rejected` when ``sql`` is not row-wise.
        """
        ...
