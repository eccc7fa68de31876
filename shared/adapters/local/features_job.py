"""The process of a features job: ``python -m shared.adapters.local.features_job <spec.json>``.

Where features.sql makes each row of one landed row and passes on its key, a batch is added to the features there are:
its rows alone are read, prepared and checked, and rows of the same keys are replaced. Everything else is prepared anew
from all that has landed, with the same result.

It may die anywhere and be run again: working files are its own, every output appears whole under one
name, the Delta table is not written twice for a run, and the manifest comes last.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.local import base_features, delta_versions, pieces
from shared.adapters.local.additions import SIDES, Addition
from shared.adapters.local.base_features import Base, Facts, profile_limit
from shared.adapters.local.known_rows import Anew
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.landed_files import LandedFiles
from shared.adapters.local.pieces import Piece
from shared.adapters.system_clock import SystemClock
from shared.domain.records import from_record, to_record
from shared.domain.split import sql_condition
from shared.errors import LandfallError, Rejected
from shared.features import manifests
from shared.features.column_types import SQL_TYPES, quote, text, type_of
from shared.features.features_sql import analyse, passes_on, without_distinct
from shared.features.landed_rows import Landed, fault, is_reserved
from shared.ports.clock import Clock
from shared.ports.feature_engine import FeaturesJob, Manifest
from shared.ports.lake import Lake
from shared.predictions import landed_labels

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

THREAD_MEMORY = 128
"""MiB that a thread of DuckDB needs at least, by its manual's advice, so that what does not fit is spilled."""
_FEATURES = "* EXCLUDE (landfall_test, landfall_digits)"


@dataclass(frozen=True, kw_only=True)
class FeaturesSpec:
    """What the process is given: the job, the lake, and a folder for its working files.

    ``memory`` is how many MiB DuckDB may take before it spills into ``work``; 0 stands for a quarter of the
    machine's, at most 4 GiB.
    """

    job: FeaturesJob
    lake: str
    account: str
    container: str
    work: str
    memory: int = 0


def main(arguments: list[str]) -> int:
    """Run the job of a spec file; 0 when its manifest is written, ready or not, else 1 after a line that says why."""
    spec = from_record(FeaturesSpec, json.loads(Path(arguments[0]).read_text()))
    lake = FolderLake(Path(spec.lake), spec.account, spec.container)
    try:
        prepare(spec.job, lake, Path(spec.work), SystemClock(), memory=spec.memory)
    except LandfallError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def prepare(job: FeaturesJob, lake: Lake, work: Path, clock: Clock, *, memory: int = 0) -> Manifest:
    """Make the features of ``job`` and return the manifest; one that is there already stays as it is.

    ``work`` and ``memory`` are those of :class:`FeaturesSpec`. What is wrong with the data gives a rejected
    manifest; raises :class:`~shared.errors.Rejected` for what is wrong with the pipeline (features.sql above
    all), so that the batch is not blamed.
    """
    path = manifests.place(job.output)
    if lake.stat(path):
        print(f"{path} is there already: nothing to do")
        return from_record(Manifest, json.loads(lake.read(path)))
    try:
        base = base_features.find(job, lake) if job.earlier else None
        manifest, reusable = _prepared(job, lake, work, clock, memory, base)
    except Anew as reason:
        print(f"prepares all anew: {reason}")
        manifest, reusable = _prepared(job, lake, work, clock, memory)
        manifest = replace(manifest, prepared=f"prepared all anew: {reason}")
    data = json.dumps(to_record(manifest), indent=1).encode()
    if reusable:
        lake.write(base_features.manifest_of(job), data)
    lake.write(path, data)
    if reusable and job.base:
        base_features.forget(job, lake)
    print(f"{path}: {manifest.status}")
    return manifest


def _prepared(
    job: FeaturesJob, lake: Lake, work: Path, clock: Clock, memory: int, base: Base | None = None
) -> tuple[Manifest, bool]:
    """The manifest, and whether the same input will give it again. Raises Anew where ``base`` does not serve."""
    import duckdb

    try:
        with _engine(work, memory) as connection:
            return _Preparation(connection, job, lake, work, clock, base).run()
    except (duckdb.Error, OSError):
        # Another job of the pipeline may have ended since, and removed what it left for the next one.
        if base is not None:
            base.check()
        raise


@contextmanager
def _engine(work: Path, memory: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that holds ``memory`` MiB (0: a quarter of all, at most 4 GiB) and spills the rest into ``work``."""
    import duckdb

    work.mkdir(parents=True, exist_ok=True)
    for leftover in work.glob("duckdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    limit = memory or min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4, 4 << 30) >> 20
    with tempfile.TemporaryDirectory(prefix="duckdb-", dir=work) as folder:
        # Tables in memory, which go to the disk when it is full: a database file costs more than all the rest.
        connection = duckdb.connect()
        try:
            for setting in (
                f"memory_limit = '{limit}MiB'",
                f"temp_directory = {text(f'{folder}/spill')}",
                f"threads = {max(1, min(os.cpu_count() or 1, limit // THREAD_MEMORY))}",
                "TimeZone = 'UTC'",
                "enable_progress_bar = false",
                # As in Spark SQL, so that both engines give the same features.
                "error_on_division_by_zero = false",
                "ieee_floating_point_ops = false",
            ):
                connection.execute(f"SET {setting}")
            yield connection
        finally:
            connection.close()


class _Preparation:
    """One way from landed files to a manifest: of all that landed, or of the batch alone when there is a ``base``.

    With a base, raises :class:`Anew` where its features and the batch's alone do not tell the result.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        job: FeaturesJob,
        lake: Lake,
        work: Path,
        clock: Clock,
        base: Base | None = None,
    ) -> None:
        self._con = connection
        self._addition = Addition(connection, base, job.pipeline) if base else None
        self._job = job
        self._lake = lake
        self._work = work
        self._clock = clock
        self._features = job.pipeline.features
        self._is_test = sql_condition(quote(self._features.key), self._features.test_share)

    def run(self) -> tuple[Manifest, bool]:
        """The manifest, and whether the same input may use it again."""
        job = self._job
        facts = analyse(job.sql)
        if facts.faults:
            raise Rejected("; ".join(str(found) for found in facts.faults))
        base = self._addition.base if self._addition else None
        files = LandedFiles(self._con, self._lake, job.pipeline.landing, base.facts.known if base else None)
        earlier = () if base else job.earlier
        landed = files.load([(f.path, f.etag) for f in earlier], [(f.path, f.etag) for f in job.files])
        print(f"read {len(job.files)} landed files with {landed.batch_rows:,} rows; {landed.rows:,} rows in all")
        manifest = Manifest(
            run=job.run,
            pipeline=job.pipeline.name,
            status="rejected",
            fingerprint=job.fingerprint,
            created_at=self._clock.now(),
            landed_rows=landed.batch_rows,
            landed_columns=landed.types,
            row_wise=facts.row_wise,
            sql=job.sql,
        )
        if not landed.faults and landed.rows == 0:
            landed.faults.append(fault("empty_batch", "no rows have landed. Land a file with rows."))
        if not landed.faults and landed.batch_rows < job.min_rows:
            return replace(manifest, status="short"), False
        if landed.types:
            files.check(job.pipeline.landing.checks, self._features.key, landed)
        if landed.faults:
            return _reject(manifest, landed.faults), False
        self._view_landed(landed)
        columns = self._make_features()
        faults, counts = self._check_features(columns)
        if faults:
            return _reject(manifest, faults), False
        folder = f"features/{job.pipeline.name}/table"
        # What a run has committed is taken again by its next attempt only if all that it names was, and is, there.
        rows = "all" if landed.complete else uuid.uuid4().hex
        mark = {"landfall.run": job.run, "landfall.fingerprint": job.fingerprint, "landfall.rows": rows}
        sample = self._take_sample(counts[False])
        made = self._write_rows(counts)
        output = Path(self._lake.uri(job.output))
        written = [output / side / piece.name for side in SIDES for piece in made[side]]
        version = delta_versions.commit(Path(self._lake.uri(folder)), written, self._schema(), mark)
        self._write_labels(landed)
        profile = f"{job.output}/profile.json"
        self._lake.write(profile, json.dumps(self._profile(columns, counts[False])).encode())
        if landed.complete and not base_features.obstacle(job, landed.types):
            known = files.known(landed)
            found = Facts(layout=base_features.LAYOUT, known=known, columns=columns, pieces=made, sample=sample)
            self._store(found)
        outside = (self._features.key, self._features.label)
        return replace(
            manifest,
            status="ready",
            train=f"{job.output}/train",
            test=f"{job.output}/test",
            train_rows=counts[False],
            test_rows=counts[True],
            table=folder,
            table_version=version,
            profile=profile,
            columns={name: kind for name, kind in columns.items() if name not in outside},
            prepared=f"added {landed.batch_rows:,} landed rows to {base.manifest.train.rpartition('/')[0]}"
            if base
            else "",
        ), landed.complete

    def _view_landed(self, landed: Landed) -> None:
        """The view that features.sql reads: all rows, or of each key the row that landed last."""
        key, newest = self._features.key, ""
        if self._job.pipeline.landing.keep == "latest":
            if key not in landed.types:
                raise Rejected(
                    f"keep: latest needs the key {key} among the landed columns ({', '.join(landed.types)})."
                    " Write keep: all, or correct features.key"
                )
            # Few keys come again: they alone are looked up, not every row.
            again = f"SELECT {quote(key)} AS k, max(landfall_row) AS n FROM landed_rows GROUP BY 1 HAVING count(*) > 1"
            # Rows without a key were refused before; not to ask for them halves the time.
            self._con.execute(
                "CREATE TABLE landfall_replaced AS"
                f" SELECT landfall_row FROM landed_rows JOIN ({again}) ON k = {quote(key)} WHERE landfall_row < n"
            )
            newest = " ANTI JOIN landfall_replaced USING (landfall_row)"
        self._con.execute(f"CREATE VIEW landed AS SELECT * EXCLUDE (landfall_row) FROM landed_rows{newest}")

    def _make_features(self) -> dict[str, str]:
        """Run features.sql into the table ``features``; returns its columns and their types.

        Two columns more say whether a row is held out, and the digits of its key's hash that choose rows for
        the profile: other ones than the split takes, or that choice would be one-sided.
        """
        import duckdb

        # Rows in landing order are of no use any more; files are sorted when they are written.
        self._con.execute("SET preserve_insertion_order = false")
        try:
            query = self._query()
            found = self._con.execute(f"DESCRIBE {query}").fetchall()
            names = [str(row[0]) for row in found]
            columns = {name: self._feature_type(name, str(row[1])) for name, row in zip(names, found, strict=True)}
            for column in (self._features.key, self._features.label):
                if column not in columns:
                    raise Rejected(f"features.sql gives no column {column}, only {', '.join(names)}. Select it")
            if len(columns) == 2:
                raise Rejected(
                    f"features.sql gives nothing but {self._features.key} and {self._features.label}. Select a feature"
                )
            picked = ", ".join(f"CAST({quote(n)} AS {SQL_TYPES[kind]}) AS {quote(n)}" for n, kind in columns.items())
            digits = f"substr(md5(CAST({quote(self._features.key)} AS VARCHAR)), 9, 8)"
            self._con.execute(
                f"CREATE TABLE features AS SELECT *, {self._is_test} AS landfall_test,"
                f" CAST('0x' || {digits} AS UINTEGER) AS landfall_digits FROM (SELECT {picked} FROM ({query}\n))"
            )
        except (duckdb.OutOfMemoryException, duckdb.IOException):
            raise
        except duckdb.Error as error:
            raise Rejected(f"features.sql does not run: {error}") from error
        return columns

    def _one_row_a_key(self) -> bool:
        """Whether the result of features.sql must have at most one row for each key, whatever has landed."""
        return self._job.pipeline.landing.keep == "latest" and passes_on(self._job.sql, self._features.key)

    def _query(self) -> str:
        """features.sql, without a DISTINCT that has nothing to do."""
        return without_distinct(self._job.sql) if self._one_row_a_key() else self._job.sql.strip().rstrip(";")

    def _feature_type(self, name: str, sql_type: str) -> str:
        kind = type_of(sql_type)
        if is_reserved(name):
            raise Rejected(f"features.sql gives {name}; names that begin with landfall_ are reserved. Rename it")
        if kind is None:
            what = "a list or struct" if sql_type != '"NULL"' else "null in every row"
            raise Rejected(f"features.sql gives {name} as {sql_type}, {what}. Cast it to one of {', '.join(SQL_TYPES)}")
        return kind

    def _check_features(self, columns: dict[str, str]) -> tuple[list[dict[str, Any]], dict[bool, int]]:
        """What the result breaks, and the number of training (False) and held-out (True) rows."""
        key, label = quote(self._features.key), quote(self._features.label)
        numbers = [name for name, kind in columns.items() if kind == "double"]
        measures = [
            "count(*)",
            f"count(*) - count({key})",
            "0" if self._one_row_a_key() else f"count({key}) - count(DISTINCT {key})",
            f"count(*) - count({label})",
            f"count(DISTINCT {label}) FILTER (NOT landfall_test)",
            "count(*) FILTER (landfall_test)",
            *(f"count_if(NOT isfinite({quote(name)}))" for name in numbers),
        ]
        row = self._con.execute(f"SELECT {', '.join(measures)} FROM features").fetchone()
        assert row is not None
        rows, no_key, repeated, no_label, classes, test, *infinite = row
        if self._addition:
            if list(columns.items()) != list(self._addition.base.facts.columns.items()):
                raise Anew("features.sql gives other types")
            if no_key or repeated or no_label or any(infinite):
                raise Anew("features.sql gives rows of the batch that break a rule")
            return [], self._addition.add_up({"train": rows - test, "test": test}, classes)
        faults = []
        if rows == 0:
            faults.append(fault("no_features", "features.sql leaves no row over. Land rows that it keeps."))
        if no_key:
            what = f"features.sql gives {no_key:,} rows without the key {self._features.key}."
            faults.append(fault("key", what, column=self._features.key, count=no_key))
        if repeated:
            what = f"features.sql gives {repeated:,} rows more than keys ({self._features.key})."
            rows_shown = self._shown(f"{key} IN (SELECT {key} FROM features GROUP BY 1 HAVING count(*) > 1)")
            faults.append(fault("key", what, column=self._features.key, count=repeated, rows=rows_shown))
        if no_label:
            what = f"the label {self._features.label} is null in {no_label:,} of {rows:,} rows of features.sql."
            rows_shown = self._shown(f"{label} IS NULL")
            faults.append(fault("label", what, column=self._features.label, count=no_label, rows=rows_shown))
        for name, count in zip(numbers, infinite, strict=True):
            if count:
                what = f"{name}, made by features.sql, is NaN or infinite in {count:,} of {rows:,} rows."
                rows_shown = self._shown(f"NOT isfinite({quote(name)})", name)
                faults.append(fault("finite", what, column=name, count=count, rows=rows_shown))
        if rows and (test == 0 or test == rows):
            side, other = ("held out", "left for training") if test == 0 else ("left for training", "held out")
            what = f"of {rows:,} rows none is {side}: all are {other}. Land more rows."
            faults.append(fault("split", what, count=rows))
        elif rows and not no_label and classes < 2:
            what = f"all {rows - test:,} training rows have the same {self._features.label}. Land rows of both kinds."
            faults.append(fault("label", what, column=self._features.label, count=rows - test))
        return faults, {False: rows - test, True: test}

    def _shown(self, condition: str, column: str | None = None) -> list[dict[str, Any]]:
        """A sample of result rows, told by their key."""
        key = quote(self._features.key)
        value = quote(column) if column else key
        picked = f"CAST({key} AS VARCHAR), CAST({value} AS VARCHAR)"
        query = f"SELECT {picked} FROM features WHERE {condition} ORDER BY {key} LIMIT 5"
        return [{"file": "", "row": None, "key": k, "value": v} for k, v in self._con.execute(query).fetchall()]

    def _write_rows(self, counts: dict[bool, int]) -> dict[str, list[Piece]]:
        """The pieces below train/ and test/, which are moved into place when they are whole."""
        output = Path(self._lake.uri(self._job.output))
        temporary = output / "_temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        made: dict[str, list[Piece]] = {}
        for side, condition in SIDES.items():
            (temporary / side).mkdir(parents=True)
            query = f"SELECT {_FEATURES} FROM features WHERE {condition}"
            if self._addition:
                made[side] = self._addition.write(side, query, temporary / side)
            else:
                some = f"{query} AND landfall_digits < {profile_limit(counts[side == 'test'])}"
                made[side] = pieces.write_all(self._con, query, some, self._features.key, temporary / side)
        for side in SIDES:
            # What a process left that died before its manifest.
            shutil.rmtree(output / side, ignore_errors=True)
            (temporary / side).replace(output / side)
        temporary.rmdir()
        return made

    def _schema(self) -> pa.Schema:
        return self._con.cursor().sql(f"SELECT {_FEATURES} FROM features LIMIT 0").to_arrow_table().schema

    def _write_labels(self, landed: Landed) -> None:
        """What the batch says became of its keys; nothing where the key is made by features.sql."""
        key, label, job = self._features.key, quote(self._features.label), self._job
        if not landed.batch_rows or key not in landed.types:
            return
        kept = landed_labels.sql_condition(quote(key), landed.batch_rows)
        chosen = f"landfall_digits < {landed_labels.limit(landed.batch_rows)}"
        query = f"SELECT {quote(key)}, {label} FROM features WHERE {chosen}"
        before = landed.rows - landed.batch_rows
        if before:
            batch = f"SELECT CAST({quote(key)} AS VARCHAR) FROM landed_rows WHERE landfall_row >= {before} AND {kept}"
            query += f" AND CAST({quote(key)} AS VARCHAR) IN ({batch})"
        rows = self._con.execute(query).fetchall()
        self._lake.write(landed_labels.path(job.pipeline.name, job.run, job.files), landed_labels.dumps(rows))

    def _take_sample(self, train_rows: int) -> int:
        """Make ``landfall_sample``: training rows with digits below a limit, which is returned.

        Twice as many as the profile needs, so that those of the next runs are among them, too, when rows go.
        """
        limit = min(base_features.ALL_DIGITS, 2 * profile_limit(train_rows))
        query = f"SELECT * EXCLUDE (landfall_test) FROM features WHERE {SIDES['train']} AND landfall_digits < "
        if self._addition:
            limit = min(limit, self._addition.base.facts.sample)
            if limit < profile_limit(train_rows):
                raise Anew("the sample of rows that make the profile has become too small")
            query = f"{self._addition.sample()} WHERE landfall_digits < {limit} UNION ALL {query}"
        self._con.execute(f"CREATE TABLE landfall_sample AS {query}{limit}")
        return limit

    def _store(self, facts: Facts) -> None:
        """What the next run can add to."""
        with tempfile.TemporaryDirectory(prefix="duckdb-", dir=self._work) as folder:
            sample = Path(folder) / "sample.parquet"
            self._con.execute(f"COPY landfall_sample TO {text(str(sample))} (FORMAT parquet)")
            base_features.store(self._job, self._lake, facts, sample)

    def _profile(self, columns: dict[str, str], train_rows: int) -> dict[str, Any]:
        """The reference profile of the training rows, features alone."""
        from shared.domain.drift import profile_of

        outside = (self._features.key, self._features.label)
        names = [name for name in columns if name not in outside]
        where = f"landfall_digits < {profile_limit(train_rows)}"
        as_numbers = {"int": "CAST({} AS DOUBLE)", "double": "{}", "date": "epoch({})", "timestamp": "epoch({})"}
        kinds = {name: "numeric" if columns[name] in as_numbers else "categorical" for name in names}
        picked = ", ".join(
            f"{as_numbers.get(columns[name], 'CAST({} AS VARCHAR)').format(quote(name))} AS {quote(name)}"
            for name in names
        )
        table = self._con.cursor().sql(f"SELECT {picked} FROM landfall_sample WHERE {where}").to_arrow_table()
        record: dict[str, Any] = to_record(profile_of({name: table[name].to_numpy() for name in names}, kinds))
        return record


def _reject(manifest: Manifest, faults: list[dict[str, Any]]) -> Manifest:
    for found in faults:
        print(f"rejected: {found['text']}")
    return replace(manifest, status="rejected", faults=tuple(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
