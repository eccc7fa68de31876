"""The features job on Spark, which Synapse runs: ``prepare_features_spark.py <address of its spec>``.

The same as shared.adapters.local.features_job in meaning: the same rows, split, values and faults, and
the manifest last. It may die anywhere and be run again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.domain.records import from_record, to_record
from shared.domain.split import sql_condition
from shared.errors import LandfallError, Rejected
from shared.features import manifests
from shared.features.features_sql import analyse
from shared.features.landed_rows import PROFILE_ROWS, Landed, fault, is_reserved
from shared.ports.feature_engine import FeaturesJob, Manifest
from shared.predictions import landed_labels
from shared.spark.columns import shown
from shared.spark.delta_tables import TableWriter, writer
from shared.spark.expressions import quoted
from shared.spark.lake import SparkLake
from shared.spark.landing import BATCH, PLACE, SparkLanding
from shared.spark.pipelines import KEYS, key_fault
from shared.spark.query import SETTINGS, to_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FILE_ROWS = 2_000_000
"""About so many rows go into one file."""


@dataclass(frozen=True, kw_only=True)
class SparkFeaturesSpec:
    """What the script is given. ``failure`` is the lake path where it says why it failed."""

    job: FeaturesJob
    root: str
    failure: str


def main(arguments: list[str]) -> int:
    """Run the job of a spec; 0 when its manifest is written, ready or not, else 1 after a line that says why."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("landfall-features").getOrCreate()
    folder, _, name = arguments[0].rpartition("/")
    spec = from_record(SparkFeaturesSpec, json.loads(SparkLake(spark, folder).read(name)))
    lake = SparkLake(spark, spec.root)
    try:
        prepare(spark, lake, spec.job, writer(spark))
    except LandfallError as error:
        lake.write(spec.failure, json.dumps({"reason": str(error)}).encode())
        print(error, file=sys.stderr)
        return 1
    finally:
        spark.stop()
    return 0


def prepare(
    spark: SparkSession, lake: SparkLake, job: FeaturesJob, write_table: TableWriter, now: datetime | None = None
) -> Manifest:
    """Make the features of ``job`` and return the manifest; one that is there already stays as it is.

    What is wrong with the data gives a rejected manifest; raises :class:`~shared.errors.Rejected` for what
    is wrong with the pipeline (features.sql above all), so that the batch is not blamed.
    """
    path = manifests.place(job.output)
    if lake.stat(path):
        print(f"{path} is there already: nothing to do")
        return from_record(Manifest, json.loads(lake.read(path)))
    for name, value in SETTINGS.items():
        spark.conf.set(name, value)
    manifest, reusable = _Preparation(spark, lake, job, write_table, now or datetime.now(UTC)).run()
    data = json.dumps(to_record(manifest), indent=1).encode()
    if reusable:
        lake.write(f"features/{job.pipeline.name}/by-input/{job.fingerprint}.json", data)
    lake.write(path, data)
    print(f"{path}: {manifest.status}")
    return manifest


class _Preparation:
    def __init__(
        self, spark: SparkSession, lake: SparkLake, job: FeaturesJob, write_table: TableWriter, now: datetime
    ) -> None:
        self._spark = spark
        self._lake = lake
        self._job = job
        self._write_table = write_table
        self._now = now
        self._features = job.pipeline.features
        self._is_test = sql_condition(quoted(self._features.key), self._features.test_share)
        self._kept: list[DataFrame] = []

    def run(self) -> tuple[Manifest, bool]:
        """The manifest, and whether the same input may use it again."""
        try:
            return self._run()
        finally:
            for frame in self._kept:
                frame.unpersist()

    def _run(self) -> tuple[Manifest, bool]:
        job = self._job
        facts = analyse(job.sql)
        if facts.faults:
            raise Rejected("; ".join(str(found) for found in facts.faults))
        files = SparkLanding(self._spark, self._lake, job.pipeline.landing)
        landed = files.load(
            [(f.path, f.etag, f.size) for f in job.earlier], [(f.path, f.etag, f.size) for f in job.files]
        )
        self._kept += [files.raw, files.rows]
        print(f"read {len(job.files)} landed files with {landed.batch_rows:,} rows; {landed.rows:,} rows in all")
        manifest = Manifest(
            run=job.run,
            pipeline=job.pipeline.name,
            status="rejected",
            fingerprint=job.fingerprint,
            created_at=self._now,
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
        self._view_landed(files.rows, landed)
        columns, features = self._make_features(landed)
        faults, counts = self._check_features(columns, features)
        if faults:
            return _reject(manifest, faults), False
        folder = f"features/{job.pipeline.name}/table"
        mark = {"landfall.run": job.run, "landfall.fingerprint": job.fingerprint}
        version = self._write_table(features, self._lake.uri(folder), mark)
        for side, condition in (("train", f"NOT ({self._is_test})"), ("test", self._is_test)):
            rows = features.where(condition).write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
            rows.mode("overwrite").parquet(self._lake.uri(f"{job.output}/{side}"))
        self._write_labels(files.rows, landed, features)
        profile = f"{job.output}/profile.json"
        self._lake.write(profile, json.dumps(self._profile(columns, features, counts[False])).encode())
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
        ), landed.complete

    def _view_landed(self, rows: DataFrame, landed: Landed) -> None:
        """The view that features.sql reads: all rows, or of each key the row that landed last."""
        key = self._features.key
        columns = [quoted(name) for name in landed.types]
        if self._job.pipeline.landing.keep == "latest":
            if key not in landed.types:
                raise Rejected(
                    f"keep: latest needs the key {key} among the landed columns ({', '.join(landed.types)})."
                    " Write keep: all, or correct features.key"
                )
            newest = ", ".join(f"{name} DESC" for name in PLACE)
            rank = f"row_number() OVER (PARTITION BY {quoted(key)} ORDER BY {newest}) AS landfall_rank"
            rows = rows.selectExpr("*", rank).where("landfall_rank = 1")
        rows.selectExpr(*columns).createOrReplaceTempView("landed")

    def _make_features(self, landed: Landed) -> tuple[dict[str, str], DataFrame]:
        """The result of features.sql, sorted by key, and its columns and their types."""
        query = to_spark(self._job.sql, landed.types)
        if query.faults:
            raise Rejected("; ".join(str(found) for found in query.faults))
        for name in filter(is_reserved, query.columns):
            raise Rejected(f"features.sql gives {name}; names that begin with landfall_ are reserved. Rename it")
        key = self._features.key
        for column in (key, self._features.label):
            if column not in query.columns:
                names = ", ".join(query.columns)
                raise Rejected(f"features.sql gives no column {column}, only {names}. Select it")
        if len(query.columns) == 2:
            raise Rejected(f"features.sql gives nothing but {key} and {self._features.label}. Select a feature")
        if query.columns[key] not in KEYS:
            raise Rejected(key_fault(key, query.columns[key]))
        with _blaming_the_query():
            made = self._spark.sql(query.text).persist()
            self._kept.append(made)
            rows = made.count()
        parts = max(1, round(rows / FILE_ROWS))
        # Sorted, so that the same rows give the same files and a repeated training the same model.
        spread = made.coalesce(1) if parts == 1 else made.repartitionByRange(parts, quoted(key))
        features = spread.sortWithinPartitions(quoted(key)).persist()
        self._kept.append(features)
        return query.columns, features

    def _check_features(
        self, columns: dict[str, str], features: DataFrame
    ) -> tuple[list[dict[str, Any]], dict[bool, int]]:
        """What the result breaks, and the number of training (False) and held-out (True) rows."""
        key, label = quoted(self._features.key), quoted(self._features.label)
        numbers = [name for name, kind in columns.items() if kind == "double"]
        trained = f"CASE WHEN NOT {self._is_test} THEN {label} END"
        measures = [
            "count(*)",
            f"count(*) - count({key})",
            f"count(*) - count({label})",
            f"min({trained}) < max({trained})",
            f"count_if({self._is_test})",
            *(f"count_if({_infinite(quoted(name))})" for name in numbers),
        ]
        found = features.selectExpr(*(f"{m} AS m{i}" for i, m in enumerate(measures))).collect()[0]
        rows, no_key, no_label, classes, test, *infinite = (int(n or 0) for n in found)
        # Alone, because beside others Spark would copy every row for it.
        repeated = rows - no_key - int(features.selectExpr(f"count(DISTINCT {key}) AS n").collect()[0]["n"])
        faults = []
        if rows == 0:
            faults.append(fault("no_features", "features.sql leaves no row over. Land rows that it keeps."))
        if no_key:
            what = f"features.sql gives {no_key:,} rows without the key {self._features.key}."
            faults.append(fault("key", what, column=self._features.key, count=no_key))
        if repeated:
            what = f"features.sql gives {repeated:,} rows more than keys ({self._features.key})."
            times = features.selectExpr("*", f"count(*) OVER (PARTITION BY {key}) AS landfall_times")
            shown_rows = self._shown(times, "landfall_times > 1", columns)
            faults.append(fault("key", what, column=self._features.key, count=repeated, rows=shown_rows))
        if no_label:
            what = f"the label {self._features.label} is null in {no_label:,} of {rows:,} rows of features.sql."
            shown_rows = self._shown(features, f"{label} IS NULL", columns)
            faults.append(fault("label", what, column=self._features.label, count=no_label, rows=shown_rows))
        for name, count in zip(numbers, infinite, strict=True):
            if count:
                what = f"{name}, made by features.sql, is NaN or infinite in {count:,} of {rows:,} rows."
                shown_rows = self._shown(features, _infinite(quoted(name)), columns, name)
                faults.append(fault("finite", what, column=name, count=count, rows=shown_rows))
        if rows and (test == 0 or test == rows):
            side, other = ("held out", "left for training") if test == 0 else ("left for training", "held out")
            what = f"of {rows:,} rows none is {side}: all are {other}. Land more rows."
            faults.append(fault("split", what, count=rows))
        elif rows and not no_label and not classes:
            what = f"all {rows - test:,} training rows have the same {self._features.label}. Land rows of both kinds."
            faults.append(fault("label", what, column=self._features.label, count=rows - test))
        return faults, {False: rows - test, True: test}

    def _shown(
        self, frame: DataFrame, condition: str, columns: dict[str, str], column: str | None = None
    ) -> list[dict[str, Any]]:
        """A sample of result rows, told by their key."""
        key, name = self._features.key, column or self._features.key
        picked = frame.where(condition).orderBy(quoted(key)).limit(5)
        found = picked.selectExpr(f"CAST({quoted(key)} AS STRING) AS k", f"{shown(quoted(name), columns[name])} AS v")
        return [{"file": "", "row": None, "key": row["k"], "value": row["v"]} for row in found.collect()]

    def _write_labels(self, rows: DataFrame, landed: Landed, features: DataFrame) -> None:
        """What the batch says became of its keys; nothing where the key is made by features.sql."""
        key, label, job = quoted(self._features.key), quoted(self._features.label), self._job
        if not landed.batch_rows or self._features.key not in landed.types:
            return
        kept = landed_labels.sql_condition(key, landed.batch_rows)
        batch = rows.where(f"{BATCH} AND {kept}").selectExpr(f"CAST({key} AS STRING) AS landfall_key").distinct()
        said = features.where(kept).selectExpr(f"CAST({key} AS STRING) AS landfall_key", f"{key} AS k", f"{label} AS v")
        found = said.join(batch, ["landfall_key"], "left_semi").collect()
        labels = landed_labels.dumps((row["k"], row["v"]) for row in found)
        self._lake.write(landed_labels.path(job.pipeline.name, job.run, job.files), labels)

    def _profile(self, columns: dict[str, str], features: DataFrame, train_rows: int) -> dict[str, Any]:
        """The reference profile of the training rows, features alone."""
        from shared.domain.drift import profile_of

        names = [name for name in columns if name not in (self._features.key, self._features.label)]
        share = min(1.0, PROFILE_ROWS / train_rows)
        key = quoted(self._features.key)
        # Other digits of the hash than the split takes, or the sample would be one-sided.
        sampled = f"substr(md5(CAST({key} AS STRING)), 9, 8) < '{round(share * 16**8):08x}'"
        where = f"NOT ({self._is_test})" + (f" AND {sampled}" if share < 1 else "")
        epoch = "CAST(unix_micros(CAST({} AS TIMESTAMP)) AS DOUBLE) / 1e6D"
        as_numbers = {"int": "CAST({} AS DOUBLE)", "double": "{}", "date": epoch, "timestamp": epoch}
        kinds = {name: "numeric" if columns[name] in as_numbers else "categorical" for name in names}
        picked = [
            f"{as_numbers.get(columns[name], 'CAST({} AS STRING)').format(quoted(name))} AS {quoted(name)}"
            for name in names
        ]
        table = _collected(features.where(where).orderBy(key).selectExpr(*picked))
        record: dict[str, Any] = to_record(profile_of({name: table[name] for name in names}, kinds))
        return record


class _blaming_the_query:
    """Turns what Spark says of a query into Rejected; what happens to the machines stays what it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException
        from pyspark.errors.exceptions.captured import CapturedException

        if isinstance(error, Py4JJavaError):
            # So comes before Spark 4 what stops a query on a row.
            cause = error.java_exception
            while cause.getCause() is not None:
                cause = cause.getCause()
            said, name = str(cause.getMessage()), cause.getClass().getSimpleName()
            of_the_query = name.startswith("Spark") and name != "SparkException"
        elif isinstance(error, PySparkException):
            said = str(error)
            java = isinstance(error, CapturedException) and type(error).__name__ in (
                "Py4JException",
                "UnknownException",
            )
            of_the_query = not java
        else:
            return
        if of_the_query or "features.sql" in said:
            raise Rejected(f"features.sql does not run: {said.strip().splitlines()[0][:300]}") from error


def _infinite(column: str) -> str:
    return f"(isnan({column}) OR abs({column}) = double('inf'))"


def _collected(frame: DataFrame) -> Any:
    """Columns as numpy arrays."""
    if hasattr(frame, "toArrow"):
        table = frame.toArrow()
        return {name: table[name].to_numpy() for name in table.column_names}
    # Before Spark 4.
    found: Any = frame.toPandas()
    return {name: found[name].to_numpy() for name in found.columns}


def _reject(manifest: Manifest, faults: list[dict[str, Any]]) -> Manifest:
    for found in faults:
        print(f"rejected: {found['text']}")
    return replace(manifest, status="rejected", faults=tuple(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
