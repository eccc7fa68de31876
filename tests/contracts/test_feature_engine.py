"""The FeatureEngine port."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.feature_engine import SynapseFeatureEngine
from shared.adapters.local import delta_versions
from shared.adapters.local.feature_engine import DuckDBFeatureEngine
from shared.adapters.local.features_job import FeaturesSpec, prepare
from shared.adapters.local.lake import FolderLake
from shared.adapters.system_clock import SystemClock
from shared.definitions.catalog import Catalog, PipelineFolder
from shared.domain.drift import Profile
from shared.domain.landing import LandedFile
from shared.domain.pipelines import Check, Features, Landing, Pipeline
from shared.domain.records import from_record, to_record
from shared.domain.split import is_test
from shared.errors import InvalidRequest, Rejected
from shared.features.features_sql import scoring_sql
from shared.ports.feature_engine import FeatureEngine, FeaturesJob, Manifest
from shared.ports.lake import Lake
from shared.predictions import landed_labels
from shared.settings import ROOT
from tests.contracts.backends import AzureBackend, LocalBackend
from tests.standin import StandIn, Storage
from tests.standin.blobs import Blobs

COLUMNS = {"id": "string", "amount": "double?", "visits": "int", "label": "string"}
SQL = "SELECT id, coalesce(amount, 0) AS amount, visits, label FROM landed"

without_pool = pytest.mark.without_pool


class Harness:
    """What the tests do with a lake, on every backend."""

    lake: Lake
    engine: FeatureEngine
    pause = 0.005
    """Seconds between two looks at a job."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def land(self, path: str, data: bytes) -> LandedFile:
        info = self.lake.write(path, data)
        return LandedFile(path=path, etag=info.etag, size=info.size, at=info.modified)

    def landed(self, path: str) -> LandedFile:
        info = self.lake.stat(path)
        assert info is not None
        return LandedFile(path=path, etag=info.etag, size=info.size, at=info.modified)

    def land_commits(self, folder: str, batches: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """Land a Delta table, one commit for each of ``batches``."""
        where = self.folder(folder)
        for rows in batches:
            write_deltalake(where, pa.Table.from_pylist([dict(row) for row in rows]), mode="append",
                            partition_by=["visits"])  # fmt: skip

    def prepare(self, job: FeaturesJob) -> Manifest:
        """The job's whole work. Raises Rejected where the job would fail."""
        raise NotImplementedError

    def folder(self, path: str) -> str:
        """A folder of the lake on this machine, as it is now."""
        return self.lake.uri(path)

    def rows(self, folder: str) -> list[dict[str, Any]]:
        return pq.read_table(self.folder(folder)).to_pylist()

    def profile(self, manifest: Manifest) -> Profile:
        return from_record(Profile, json.loads(self.lake.read(manifest.profile)))


class LocalFeatures(Harness):
    """The laptop's engine."""

    def __init__(self, backend: LocalBackend) -> None:
        super().__init__(backend.home)
        self.lake: FolderLake = backend.lake()
        self.engine = DuckDBFeatureEngine(self.home, self.lake)

    def prepare(self, job: FeaturesJob) -> Manifest:
        """Without a process of its own."""
        return prepare(job, self.lake, self.home / "work", SystemClock())


class AzureFeatures(Harness):
    """The engine of Azure, with a Spark pool that runs the batches; jobs go all the way through it."""

    pause = 0.1

    def __init__(self, backend: AzureBackend, home: Path) -> None:
        super().__init__(home)
        self.lake = backend.lake()
        self.engine = SynapseFeatureEngine("ws", "spark", self.lake, AppCredential())
        self._times = 0

    def prepare(self, job: FeaturesJob) -> Manifest:
        # A job's name is used once; a test may run the same work again.
        self._times += 1
        job = replace(job, name=f"{job.name}-{self._times}")
        self.engine.submit(job)
        status = _ended(self, job)
        if status.state == "failed":
            raise Rejected(status.reason)
        return from_record(Manifest, json.loads(self.lake.read(f"{job.output}/manifest.json")))

    def folder(self, path: str) -> str:
        copy = self.home / "copies" / path
        for info in self.lake.list(f"{path}/"):
            place = self.home / "copies" / info.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.lake.read(info.path))
        return str(copy)

    def land_commits(self, folder: str, batches: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        super().land_commits(folder, batches)
        for file in (self.home / "copies" / folder).rglob("*"):
            if file.is_file():
                self.lake.write(str(file.relative_to(self.home / "copies")), file.read_bytes())


@pytest.fixture(params=["local", "azure"])
def features(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    if request.param == "local":
        return LocalFeatures(LocalBackend(tmp_path))
    backend: AzureBackend = request.getfixturevalue("storage_backend")
    azure: StandIn = request.getfixturevalue("azure")
    storage: Storage = request.getfixturevalue("azurite")
    azure.spark.blobs = Blobs(storage, "", azure.certificates.bundle)
    return AzureFeatures(backend, tmp_path)


@pytest.fixture
def laptop(local: LocalBackend) -> LocalFeatures:
    """For what only the laptop's engine has: a process of its own."""
    return LocalFeatures(local)


def pipeline(**landing: Any) -> Pipeline:
    features = landing.pop("features", Features(key="id", label="label"))
    return Pipeline(
        name="shop", landing=Landing(**{"path": "landing/shop", "columns": COLUMNS, **landing}), features=features
    )


def job(
    files: Sequence[LandedFile],
    *,
    earlier: Sequence[LandedFile] = (),
    run: str = "shop-b1",
    sql: str = SQL,
    of: Pipeline | None = None,
    min_rows: int = 0,
) -> FeaturesJob:
    return FeaturesJob(
        name=f"{run}-features",
        pipeline=of or pipeline(),
        run=run,
        sql=sql,
        files=tuple(files),
        earlier=tuple(earlier),
        fingerprint=f"fingerprint-of-{run}",
        output=f"features/shop/{run}",
        min_rows=min_rows,
    )


def table(count: int, start: int = 0, **changes: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Good rows; ``changes`` maps a column to new values by row number from 1."""
    rows = [
        {"id": f"k{i}", "amount": i / 4, "visits": i % 7, "label": "yes" if i % 3 else "no"}
        for i in range(start, start + count)
    ]
    for column, values in changes.items():
        for number, value in values.items():
            rows[number - 1][column] = value
    return rows


def as_csv(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink)
    return sink.getvalue()


WRITERS: dict[str, Callable[[Sequence[Mapping[str, Any]]], bytes]] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
}


# What a job makes


def test_a_submitted_job_prepares_features_and_writes_the_manifest_last(features: Harness) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(100)))])
    assert features.engine.status(wanted.name) is None
    features.engine.submit(wanted)
    features.engine.submit(wanted)
    manifest = _wait(features, wanted)
    assert (manifest.status, manifest.run, manifest.pipeline) == ("ready", "shop-b1", "shop")
    assert manifest.train_rows + manifest.test_rows == manifest.landed_rows == 100
    assert manifest.columns == {"amount": "double", "visits": "int"}
    assert manifest.landed_columns == COLUMNS
    assert manifest.row_wise
    made = {i.path: i.modified for i in features.lake.list(wanted.output)}
    assert max(made, key=lambda path: made[path]) == f"{wanted.output}/manifest.json"
    names = sorted(re.sub(r"part-[\w.-]+", "part", path.removeprefix(f"{wanted.output}/")) for path in made)
    assert names == ["manifest.json", "profile.json", "test/part", "train/part"]


@without_pool
def test_every_format_gives_the_same_features(features: Harness) -> None:
    rows = table(60, amount={3: None, 17: None})
    results = []
    for name, write in WRITERS.items():
        file = features.land(f"landing/shop/{name}", write(rows))
        manifest = features.prepare(job([file], run=f"shop-{name}", of=pipeline(format=name)))
        assert manifest.status == "ready", manifest.faults
        results.append((features.rows(manifest.train), features.rows(manifest.test), manifest.columns))
    assert results[0] == results[1] == results[2]


def test_a_row_is_held_out_by_its_key_alone_and_stays_so(features: Harness) -> None:
    first = features.land("landing/shop/a.csv", as_csv(table(150)))
    second = features.land("landing/shop/b.csv", as_csv(table(150, start=100)))
    before = features.prepare(job([first]))
    after = features.prepare(job([second], earlier=[first], run="shop-b2"))
    for manifest in (before, after):
        assert all(is_test(row["id"], 0.2) for row in features.rows(manifest.test))
        assert not any(is_test(row["id"], 0.2) for row in features.rows(manifest.train))
    assert {row["id"] for row in features.rows(before.test)} <= {row["id"] for row in features.rows(after.test)}
    assert after.train_rows + after.test_rows == 250
    assert after.landed_rows == 150


def test_the_newest_row_of_a_key_counts(features: Harness) -> None:
    first = features.land("landing/shop/z.csv", as_csv(table(50)))
    second = features.land("landing/shop/a.csv", as_csv(table(50, visits={7: 91, 8: 92}) + table(1, 6, visits={1: 93})))
    manifest = features.prepare(job([second], earlier=[first]))
    visits = {row["id"]: row["visits"] for row in features.rows(manifest.train) + features.rows(manifest.test)}
    assert len(visits) == 50
    assert (visits["k6"], visits["k7"], visits["k8"]) == (93, 92, 1)


def test_of_the_labels_of_a_large_batch_those_are_kept_that_the_log_keeps(
    laptop: LocalFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landed_labels, "MOST", 40)
    first = laptop.land("landing/shop/a.csv", as_csv(table(50)))
    second = laptop.land("landing/shop/b.csv", as_csv(table(100)))
    laptop.prepare(job([second], earlier=[first], run="shop-b2"))
    (found,) = laptop.lake.list("predictions/shop/labels/")
    kept = landed_labels.loads(laptop.lake.read(found.path)).keys()
    assert 20 < len(kept) < 60
    assert kept == {f"k{i}" for i in range(100) if int(landed_labels.rank(f"k{i}")[:8], 16) < landed_labels.limit(100)}


def test_the_labels_of_the_batch_s_own_keys_are_left_for_what_was_predicted_of_them(features: Harness) -> None:
    first = features.land("landing/shop/a.csv", as_csv(table(50)))
    second = features.land("landing/shop/b.csv", as_csv(table(10, start=45, label={1: "no", 2: "maybe"})))
    features.prepare(job([second], earlier=[first], run="shop-b2"))
    (found,) = features.lake.list("predictions/shop/labels/")
    assert abs((landed_labels.landed_at(found.path) - second.at).total_seconds()) < 0.001
    expected = {f"k{i}": "yes" if i % 3 else "no" for i in range(45, 55)} | {"k45": "no", "k46": "maybe"}
    assert landed_labels.loads(features.lake.read(found.path)) == expected


@without_pool
def test_keep_all_gives_every_row_and_features_sql_decides(features: Harness) -> None:
    sql = "SELECT id, count(*) AS times, sum(visits) AS visits, max(label) AS label FROM landed GROUP BY id"
    file = features.land("landing/shop/a.csv", as_csv(table(50) + table(50)))
    manifest = features.prepare(job([file], sql=sql, of=pipeline(keep="all")))
    assert {row["times"] for row in features.rows(manifest.train)} == {2}
    assert manifest.columns == {"times": "int", "visits": "int"}
    assert not manifest.row_wise


@without_pool
def test_repeated_rows_are_dropped_by_distinct(features: Harness) -> None:
    file = features.land("landing/shop/a.csv", as_csv(table(50) + table(50)))
    sql = "SELECT DISTINCT id, visits, label FROM landed"
    manifest = features.prepare(job([file], sql=sql, of=pipeline(keep="all")))
    assert manifest.train_rows + manifest.test_rows == 50
    assert manifest.landed_rows == 100


@without_pool
def test_the_manifest_is_kept_under_the_fingerprint_of_its_input(features: Harness) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(50)))])
    manifest = features.prepare(wanted)
    known = features.lake.read(f"features/shop/by-input/{wanted.fingerprint}.json")
    assert from_record(Manifest, json.loads(known)) == manifest


@pytest.mark.gap("azure", "not yet: Spark prepares all that has landed anew, with the same result")
def test_a_batch_is_added_to_the_features_of_what_landed_before(features: Harness) -> None:
    first = features.land("landing/shop/a.csv", as_csv(table(50)))
    before = job([first])
    features.prepare(before)
    second = job([features.land("landing/shop/b.csv", as_csv(table(20, 40)))], earlier=[first], run="shop-b2")
    made = features.prepare(replace(second, base=f"features/shop/by-input/{before.fingerprint}.json"))
    assert made.train_rows + made.test_rows == 60
    assert made.prepared == "added 20 landed rows to features/shop/shop-b1"


def test_a_file_that_was_replaced_since_is_read_but_not_kept_as_that_input(features: Harness) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(50)))])
    features.land("landing/shop/a.csv", as_csv(table(70)))
    assert features.prepare(wanted).landed_rows == 70
    assert features.lake.stat(f"features/shop/by-input/{wanted.fingerprint}.json") is None


@without_pool
def test_the_reference_profile_is_of_training_rows(features: Harness) -> None:
    rows = table(100, amount={1: None})
    file = features.land("landing/shop/a.csv", as_csv(rows))
    sql = "SELECT id, amount, visits, CASE WHEN visits > 3 THEN 'often' ELSE 'seldom' END AS kind, label FROM landed"
    manifest = features.prepare(job([file], sql=sql))
    profile = features.profile(manifest)
    assert profile.rows == manifest.train_rows
    assert {name: column.kind for name, column in profile.columns.items()} == {
        "amount": "numeric", "visits": "numeric", "kind": "categorical",
    }  # fmt: skip
    kept = [row for row in rows if not is_test(str(row["id"]), 0.2)]
    assert profile.columns["visits"].mean == pytest.approx(sum(row["visits"] for row in kept) / len(kept))
    assert profile.columns["amount"].reference.nulls == sum(row["amount"] is None for row in kept)


@without_pool
def test_dates_times_and_booleans_keep_their_types(features: Harness) -> None:
    rows = [
        {
            "id": i,
            "day": f"2024-01-{i % 28 + 1:02}",
            "at": f"2024-01-01T{i % 24:02}:00:00+01:00",
            "on": i % 2 == 0,
            "label": i % 3 == 0,
        }
        for i in range(40)
    ]
    file = features.land("landing/shop/a.csv", as_csv(rows))
    manifest = features.prepare(job([file], sql="SELECT * FROM landed", of=pipeline(columns={})))
    assert manifest.landed_columns == {
        "id": "int?", "day": "date?", "at": "timestamp?", "on": "boolean?", "label": "boolean?",
    }  # fmt: skip
    assert manifest.columns == {"day": "date", "at": "timestamp", "on": "boolean"}
    row = next(row for row in features.rows(manifest.train) + features.rows(manifest.test) if row["id"] == 5)
    assert row["at"] == datetime(2024, 1, 1, 4)
    version = DeltaTable(features.folder(manifest.table), version=manifest.table_version)
    assert pa.table(version.to_pyarrow_table()).num_rows == 40


@without_pool
def test_types_are_found_from_all_files_and_later_ones_must_fit(features: Harness) -> None:
    shop = pipeline(columns={})
    first = features.land("landing/shop/a.csv", as_csv(table(40, amount={n: n for n in range(1, 41)})))
    second = features.land("landing/shop/b.csv", as_csv(table(40, start=40)))
    third = features.land("landing/shop/c.csv", as_csv(table(40, start=80, visits={5: "many"})))
    assert features.prepare(job([first], of=shop)).landed_columns["amount"] == "int?"
    assert features.prepare(job([second], earlier=[first], of=shop, run="r2")).landed_columns["amount"] == "double?"
    rejected = features.prepare(job([third], earlier=[first, second], of=shop, run="r3"))
    (fault,) = rejected.faults
    assert (fault["rule"], fault["column"], fault["rows"]) == (
        "type", "visits", [{"file": "landing/shop/c.csv", "row": 5, "value": "many"}],
    )  # fmt: skip


@without_pool
def test_codes_with_leading_zeros_are_text(features: Harness) -> None:
    rows = [{**row, "zip": f"0{n}234"} for n, row in enumerate(table(40))]
    file = features.land("landing/shop/a.csv", as_csv(rows))
    assert features.prepare(job([file], of=pipeline(columns={}))).landed_columns["zip"] == "string?"


@without_pool
def test_a_csv_may_use_semicolons_and_a_byte_order_mark(features: Harness) -> None:
    file = features.land(
        "landing/shop/a.csv", b"\xef\xbb\xbf" + as_csv(table(40), delimiter=";").replace(b"\n", b"\r\n")
    )
    assert features.prepare(job([file])).status == "ready"


@without_pool
def test_a_batch_below_its_minimum_is_short_and_makes_nothing(features: Harness) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(30)))], min_rows=31)
    manifest = features.prepare(wanted)
    assert (manifest.status, manifest.landed_rows, manifest.faults) == ("short", 30, ())
    assert [i.path for i in features.lake.list("features/")] == [f"{wanted.output}/manifest.json"]


@without_pool
def test_without_new_files_what_landed_before_is_prepared(features: Harness) -> None:
    file = features.land("landing/shop/a.csv", as_csv(table(50)))
    manifest = features.prepare(job([], earlier=[file]))
    assert (manifest.status, manifest.landed_rows, manifest.train_rows + manifest.test_rows) == ("ready", 0, 50)


@without_pool
def test_a_delta_commit_stands_for_the_rows_that_it_added(features: Harness) -> None:
    shop = pipeline(format="delta")
    features.land_commits("landing/shop/table", [table(40), table(40, start=40)])
    commits = [features.landed(f"landing/shop/table/_delta_log/{n:020}.json") for n in (0, 1)]
    first = features.prepare(job(commits[:1], of=shop))
    assert (first.status, first.landed_rows) == ("ready", 40)
    parts = [features.landed(i.path) for i in features.lake.list("landing/shop/table/visits")]
    second = features.prepare(job([*parts, commits[1]], earlier=commits[:1], of=shop, run="r2"))
    assert second.status == "ready", second.faults
    assert (second.landed_rows, second.train_rows + second.test_rows) == (40, 80)


# Bad input


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


BAD_FILES: dict[str, tuple[str, bytes, str, str]] = {
    "empty": ("csv", b"", "empty_file", "is empty"),
    "header only": ("csv", b"id,amount,visits,label\n", "empty_file", "has no rows"),
    "half a line": ("csv", as_csv(table(40)).rsplit(b",", 2)[0], "unreadable", "Columns: 4 Found: 2"),
    "open quote": ("csv", as_csv(table(40)) + b'k99,1,1,"yes\n', "unreadable", "unterminated quote"),
    "not utf-8": ("csv", as_csv(table(40)) + b"k99,1,1,\xff\xfe\n", "unreadable", "utf-8"),
    "binary": ("csv", as_parquet(table(40)), "unreadable", "cannot be read as csv"),
    "no header": ("csv", as_csv(table(40)).split(b"\n", 1)[1], "missing_column", "has no column id"),
    "another table": ("csv", b"x\n1\n", "missing_column", "has no column id, amount, visits, label. It has x."),
    "other columns": ("csv", b"id,ammount,visits,label\nk1,1,1,yes\n", "missing_column", "ammount may be meant"),
    "column twice": ("csv", b"id,amount,visits,label,ID\nk1,1,1,yes,k1\n", "unreadable", "two columns are called id"),
    "reserved": ("csv", b"id,amount,visits,label,landfall_row\nk1,1,1,yes,1\n", "reserved_column", "reserved"),
    "half a parquet": ("parquet", _cut(as_parquet(table(400))), "unreadable", "cannot be read as parquet"),
    "csv as parquet": ("parquet", as_csv(table(40)), "unreadable", "cannot be read as parquet"),
    "parquet without rows": ("parquet", as_parquet(table(1))[:0], "empty_file", "is empty"),
    "half a json line": ("jsonl", as_jsonl(table(40))[:-9], "unreadable", "Malformed JSON"),
    "json lists": ("jsonl", b"[1]\n[2]\n", "unreadable", "no objects"),
    "json without a column": ("jsonl", as_jsonl([{"id": "k1", "label": "no"}]), "missing_column", "no column visits"),
    "half a delta commit": ("delta", b'{"add": {"path": "pa', "unreadable", "cannot be read as delta"),
    "no delta commit": ("delta", b'["add"]', "unreadable", "no commit of a Delta table"),
    "delta outside": ("delta", b'{"add": {"path": "%2e%2e/../x.parquet"}}', "unreadable", "outside of the table"),
    "delta part missing": ("delta", b'{"add": {"path": "x.parquet"}}', "unreadable", "cannot be read as delta"),
}  # fmt: skip


@without_pool
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_rejects_the_batch_and_is_named(features: Harness, name: str) -> None:
    kind, data, rule, text = BAD_FILES[name]
    path = "landing/shop/_delta_log/00000000000000000000.json" if kind == "delta" else f"landing/shop/bad.{kind}"
    good = [] if kind == "delta" else [features.land(f"landing/shop/good.{kind}", WRITERS[kind](table(40)))]
    wanted = job([*good, features.land(path, data)], of=pipeline(format=kind))
    manifest = features.prepare(wanted)
    assert manifest.status == "rejected"
    fault = next(fault for fault in manifest.faults if fault["rule"] == rule)
    assert text in fault["text"]
    assert all(row["file"] == path for found in manifest.faults for row in found["rows"])
    assert [i.path for i in features.lake.list("features/")] == [f"{wanted.output}/manifest.json"]


BAD_ROWS: dict[str, tuple[list[dict[str, Any]], Check | None, str, str, list[tuple[int, str | None]]]] = {
    "type": (table(40, visits={4: "many", 9: "1.5"}), None, "type", "visits", [(4, "many"), (9, "1.5")]),
    "null": (table(40, visits={4: None}), None, "null", "visits", [(4, None)]),
    "nan": (table(40, amount={2: "NaN", 3: "inf"}), None, "finite", "amount", [(2, "nan"), (3, "inf")]),
    "null share": (
        table(40, amount={2: None, 3: "NA", 4: " "}), Check(column="amount", max_null_share=0.04),
        "max_null_share", "amount", [(2, None), (3, None), (4, None)],
    ),
    "between": (
        table(40, visits={6: 121}), Check(column="visits", between=(0, 120)), "between", "visits", [(6, "121")],
    ),
    "allowed": (
        table(40, label={5: "maybe"}), Check(column="label", allowed=("yes", "no")), "allowed", "label", [(5, "maybe")],
    ),
    "unique": (table(40, id={8: "k0"}), Check(column="id", unique=True), "unique", "id", [(1, "k0"), (8, "k0")]),
    "no such column": (table(40), Check(column="colour", unique=True), "check", "colour", []),
}  # fmt: skip


@without_pool
@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_reject_the_batch_with_their_count_place_and_value(features: Harness, name: str) -> None:
    rows, check, rule, column, places = BAD_ROWS[name]
    good = features.land("landing/shop/a.csv", as_csv(table(20, start=100)))
    bad = features.land("landing/shop/b.csv", as_csv(rows))
    manifest = features.prepare(job([good, bad], of=pipeline(checks=(check,) if check else ())))
    assert manifest.status == "rejected"
    (fault,) = manifest.faults
    assert (fault["rule"], fault["column"]) == (rule, column)
    assert [(row["file"], row["row"], row["value"]) for row in fault["rows"]] == [
        ("landing/shop/b.csv", row, value) for row, value in places
    ]
    assert fault["count"] == (1 if rule in ("unique", "check") else len(places))


@without_pool
def test_a_null_key_rejects_the_batch_also_where_nulls_are_allowed(features: Harness) -> None:
    file = features.land("landing/shop/a.csv", as_csv(table(40, id={3: None})))
    manifest = features.prepare(job([file], of=pipeline(columns={**COLUMNS, "id": "string?"})))
    assert [(fault["rule"], fault["count"]) for fault in manifest.faults] == [("key", 1)]


@without_pool
def test_a_bound_on_a_column_that_turns_out_to_be_text_rejects_the_batch(features: Harness) -> None:
    shop = pipeline(columns={}, checks=(Check(column="label", between=(0, 1)),))
    (fault,) = features.prepare(job([features.land("landing/shop/a.csv", as_csv(table(40)))], of=shop)).faults
    assert (fault["rule"], fault["column"]) == ("between", "label")


def test_all_faults_of_a_batch_are_told_at_once(features: Harness) -> None:
    rows = table(40, visits={4: "many"}, label={5: None}, amount={6: "inf"})
    manifest = features.prepare(job([features.land("landing/shop/a.csv", as_csv(rows))]))
    assert {fault["rule"] for fault in manifest.faults} == {"type", "null", "finite"}


@without_pool
def test_a_fault_shows_a_few_rows_and_counts_all(features: Harness) -> None:
    rows = table(40, visits=dict.fromkeys(range(1, 31), "x"))
    (fault,) = features.prepare(job([features.land("landing/shop/a.csv", as_csv(rows))])).faults
    assert (fault["count"], len(fault["rows"])) == (30, 5)
    assert "30 of 40 rows" in fault["text"]


@without_pool
def test_earlier_files_are_not_checked_again(features: Harness) -> None:
    old = features.land("landing/shop/a.csv", as_csv(table(40, visits={4: 999})))
    new = features.land("landing/shop/b.csv", as_csv(table(40, start=40)))
    checked = pipeline(checks=(Check(column="visits", between=(0, 120)),))
    assert features.prepare(job([new], earlier=[old], of=checked)).status == "ready"


def test_a_file_that_is_gone_rejects_the_batch_and_an_earlier_one_is_left_out(features: Harness) -> None:
    old = features.land("landing/shop/a.csv", as_csv(table(40)))
    new = features.land("landing/shop/b.csv", as_csv(table(40, start=40)))
    features.lake.delete(old.path)
    manifest = features.prepare(job([new], earlier=[old]))
    assert manifest.train_rows + manifest.test_rows == 40
    features.lake.delete(new.path)
    rejected = features.prepare(job([new], run="r2"))
    assert [fault["rule"] for fault in rejected.faults] == ["missing_file"]


@without_pool
@pytest.mark.parametrize(
    ("rows", "sql", "rule"),
    [
        (table(40, label=dict.fromkeys(range(1, 41), "yes")), SQL, "label"),
        (table(40), "SELECT id, visits, CASE WHEN visits > 2 THEN label END AS label FROM landed", "label"),
        (table(40), "SELECT id, visits, label FROM landed WHERE visits > 100", "no_features"),
        (table(40), "SELECT CASE WHEN visits > 2 THEN id END AS id, visits, label FROM landed", "key"),
        (table(1), SQL, "split"),
        (table(40, amount={3: 1e200}), "SELECT id, amount * amount AS big, label FROM landed", "finite"),
    ],
    ids=["one class", "null label", "no rows", "null key", "nothing held out", "infinite"],
)
def test_features_that_nothing_can_be_learned_from_are_not_made(
    features: Harness, rows: list[dict[str, Any]], sql: str, rule: str
) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(rows))], sql=sql)
    manifest = features.prepare(wanted)
    assert manifest.status == "rejected"
    assert rule in {fault["rule"] for fault in manifest.faults}


@without_pool
def test_two_rows_of_a_key_in_the_result_reject_the_batch(features: Harness) -> None:
    file = features.land("landing/shop/a.csv", as_csv(table(40) + table(3, visits={1: 5, 2: 5, 3: 5})))
    (fault,) = features.prepare(job([file], of=pipeline(keep="all"))).faults
    assert (fault["rule"], fault["count"]) == ("key", 3)
    assert {row["key"] for row in fault["rows"]} <= {"k0", "k1", "k2"}


@without_pool
@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT id, visits FROM landed", "gives no column label"),
        ("SELECT id, visitors, label FROM landed", "visitors"),
        ("SELECT id, visits, label FROM landed WHERE", "not SQL"),
        ("SELECT id, [visits] AS list, label FROM landed", "gives list as INTEGER"),
        ("SELECT id, visits AS landfall_row, label FROM landed", "reserved"),
        ("SELECT id, random() AS r, label FROM landed", "uses random()"),
        ("SELECT id, CAST(label AS INTEGER) AS visits, label FROM landed", "does not run"),
    ],
)
def test_a_fault_of_features_sql_fails_the_job_and_does_not_blame_the_batch(
    features: Harness, sql: str, text: str
) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(40)))], sql=sql)
    with pytest.raises(Rejected, match=text.replace("(", r"\(").replace(")", r"\)").replace("INTEGER", "BIGINT")):
        features.prepare(wanted)
    assert list(features.lake.list("features/")) == []


def test_a_failed_job_says_why(features: Harness) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(40)))], sql="SELECT id, visits FROM landed")
    features.engine.submit(wanted)
    status = _ended(features, wanted)
    assert status.state == "failed"
    assert "features.sql gives no column label" in status.reason


# Crashes


class _DyingLake:
    """A lake whose process dies before it writes a file of that name."""

    def __init__(self, lake: Any, before: str) -> None:
        self._lake, self._before = lake, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> Any:
        if self._before in path:
            raise SystemExit("died")
        return self._lake.write(path, data, overwrite=overwrite)


@pytest.mark.parametrize("before", ["profile.json", "by-input", "manifest.json"])
def test_a_job_that_died_and_runs_again_leaves_one_set(laptop: LocalFeatures, before: str) -> None:
    wanted = job([laptop.land("landing/shop/a.csv", as_csv(table(100)))])
    with pytest.raises(SystemExit):
        prepare(wanted, _DyingLake(laptop.lake, before), laptop.home / "work", SystemClock())
    assert laptop.lake.stat(f"{wanted.output}/manifest.json") is None
    _check_one_set(laptop, wanted, laptop.prepare(wanted), rows=100)


def test_a_killed_process_that_runs_again_leaves_one_set(laptop: LocalFeatures) -> None:
    wanted = job([laptop.land("landing/shop/a.csv", as_csv(table(60_000)))])
    spec = FeaturesSpec(
        job=wanted,
        lake=str(laptop.home / "lake"),
        account=laptop.lake.account,
        container=laptop.lake.container,
        work=str(laptop.home / "work"),
    )
    (laptop.home / "spec.json").write_text(json.dumps(to_record(spec)))
    command = [sys.executable, "-m", "shared.adapters.local.features_job", str(laptop.home / "spec.json")]
    process = subprocess.Popen(command, cwd=ROOT)
    commit = Path(laptop.lake.uri("features/shop/table/_delta_log/00000000000000000000.json"))
    for _ in _patience():
        if commit.exists():
            break
    process.kill()
    process.wait()
    assert laptop.lake.stat(f"{wanted.output}/manifest.json") is None
    subprocess.run(command, cwd=ROOT, check=True)
    manifest = from_record(Manifest, json.loads(laptop.lake.read(f"{wanted.output}/manifest.json")))
    _check_one_set(laptop, wanted, manifest, rows=60_000)
    assert list((laptop.home / "work").iterdir()) == []


def test_a_job_that_has_its_manifest_changes_nothing(features: Harness) -> None:
    wanted = job([features.land("landing/shop/a.csv", as_csv(table(100)))])
    first = features.prepare(wanted)
    before = [(i.path, i.etag) for i in features.lake.list("features/")]
    assert features.prepare(wanted) == first
    assert [(i.path, i.etag) for i in features.lake.list("features/")] == before


def test_each_run_pins_its_own_version_of_the_table(features: Harness) -> None:
    first = features.prepare(job([features.land("landing/shop/a.csv", as_csv(table(100)))]))
    second = features.prepare(job([features.land("landing/shop/b.csv", as_csv(table(50)))], run="r2"))
    assert [first.table_version, second.table_version] == [0, 1]
    for manifest, rows in ((first, 100), (second, 50)):
        pinned = DeltaTable(features.folder(manifest.table), version=manifest.table_version)
        assert pa.table(pinned.to_pyarrow_table()).num_rows == rows


def test_of_runs_that_make_a_table_at_once_each_pins_its_own_rows(tmp_path: Path) -> None:
    together = Barrier(2)

    def commit(rows: int) -> int:
        content = pa.table({"id": list(range(rows))})
        pq.write_table(content, tmp_path / f"{rows}.parquet")
        together.wait()
        files = [tmp_path / f"{rows}.parquet"]
        return delta_versions.commit(tmp_path / "table", files, content.schema, {"landfall.run": f"r{rows}"})

    with ThreadPoolExecutor(2) as threads:
        versions = list(threads.map(commit, (1, 2)))
    pinned = [DeltaTable(tmp_path / "table", version=version).to_pyarrow_table().num_rows for version in versions]
    assert (sorted(versions), pinned) == ([0, 1], [1, 2])


def test_a_table_without_timestamps_may_get_some(laptop: LocalFeatures) -> None:
    file = laptop.land("landing/shop/a.csv", as_csv(table(100)))
    laptop.prepare(job([file]))
    sql = "SELECT id, TIMESTAMP '2024-01-01 12:00:00' AS at, label FROM landed"
    manifest = laptop.prepare(job([file], run="r2", sql=sql))
    pinned = DeltaTable(laptop.folder(manifest.table), version=manifest.table_version)
    assert pa.table(pinned.to_pyarrow_table())["at"].to_pylist() == [datetime(2024, 1, 1, 12)] * 100


def test_a_laptop_stores_the_rows_of_a_run_once(laptop: LocalFeatures) -> None:
    manifest = laptop.prepare(job([laptop.land("landing/shop/a.csv", as_csv(table(100)))]))
    exported = {
        p.stat().st_ino for side in (manifest.train, manifest.test) for p in Path(laptop.folder(side)).iterdir()
    }
    assert {p.stat().st_ino for p in Path(laptop.folder(manifest.table)).glob("*.parquet")} == exported


def test_data_larger_than_the_memory_go_to_the_disk(laptop: LocalFeatures) -> None:
    columns = {"id": "string", "note": "string", "label": "string"}
    sink = io.BytesIO()
    ids = [f"k{i:06}" for i in range(300_000)]
    landed = {"id": ids, "note": [i * 8 for i in ids], "label": ["yes", "no"] * 150_000}
    pq.write_table(pa.table(landed), sink)
    file = laptop.land("landing/shop/a.parquet", sink.getvalue())
    wanted = job([file], sql="SELECT * FROM landed", of=pipeline(format="parquet", columns=columns))
    manifest = prepare(wanted, laptop.lake, laptop.home / "work", SystemClock(), memory=56)
    assert manifest.train_rows + manifest.test_rows == 300_000


def _check_one_set(features: Harness, wanted: FeaturesJob, manifest: Manifest, rows: int) -> None:
    assert manifest.status == "ready"
    assert manifest.table_version == 0
    assert DeltaTable(features.folder(manifest.table)).version() == 0
    made = [i.path for i in features.lake.list(wanted.output)]
    assert sum(path.endswith(".parquet") for path in made) == 2
    assert not any("_temporary" in path for path in made)
    assert len(features.rows(manifest.train)) + len(features.rows(manifest.test)) == rows


# Single rows


TYPES = {"id": "string", "amount": "double?", "visits": "int", "day": "date?", "on": "boolean?"}


def test_rows_are_prepared_in_their_order(features: Harness) -> None:
    rows: list[dict[str, Any]] = [
        {"id": f"k{i}", "visits": i % 5, "amount": None if i % 2 else i / 2} for i in range(200)
    ]
    sql = "SELECT visits * 2 AS twice, coalesce(amount, 0) AS amount FROM landed"
    assert features.engine.prepare_rows(sql, TYPES, rows) == [
        {"twice": row["visits"] * 2, "amount": row["amount"] or 0.0} for row in rows
    ]
    assert features.engine.prepare_rows(sql, TYPES, []) == []


def test_equal_rows_stay_apart_under_distinct(features: Harness) -> None:
    rows = [{"visits": 1}, {"visits": 1}, {"visits": 2}]
    prepared = features.engine.prepare_rows("SELECT DISTINCT visits FROM landed", {"visits": "int"}, rows)
    assert prepared == rows


def test_a_star_leaves_out_columns_that_a_raw_row_does_not_have(features: Harness) -> None:
    sql = scoring_sql("SELECT *, visits * 2 AS twice FROM landed", "label", "id")
    assert features.engine.prepare_rows(sql, {"visits": "int"}, [{"visits": 3}]) == [{"visits": 3, "twice": 6}]


def test_text_that_reads_as_its_type_is_taken(features: Harness) -> None:
    row = {"id": 7, "amount": "2.5", "visits": 3.0, "day": "2024-02-03", "on": "true"}
    (prepared,) = features.engine.prepare_rows("SELECT * FROM landed", TYPES, [row])
    assert prepared == {"id": "7", "amount": 2.5, "visits": 3, "day": datetime(2024, 2, 3).date(), "on": True}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("visits", "many"), ("visits", 1.5), ("visits", True), ("visits", 2**70), ("visits", float("nan")),
        ("amount", float("inf")), ("amount", "nan"), ("amount", [1]), ("day", "soon"), ("day", 5),
        ("on", "perhaps"), ("on", 3), ("id", {"a": 1}), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_with_its_row_and_column(features: Harness, column: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        features.engine.prepare_rows("SELECT visits FROM landed", TYPES, [{"visits": 1}, {"visits": 1, column: value}])
    (fault,) = caught.value.faults
    assert (fault["row"], fault["column"]) == (1, column)
    assert column in str(caught.value)


def test_a_row_that_training_left_out_is_refused_not_dropped(features: Harness) -> None:
    sql = "SELECT visits FROM landed WHERE visits BETWEEN 18 AND 100"
    with pytest.raises(InvalidRequest, match="visits") as caught:
        features.engine.prepare_rows(sql, TYPES, [{"visits": 20}, {"visits": 7}, {"visits": None}])
    assert [fault["row"] for fault in caught.value.faults] == [1, 2]


def test_a_query_over_several_rows_cannot_score(features: Harness) -> None:
    with pytest.raises(Rejected, match="cannot score raw rows"):
        features.engine.prepare_rows("SELECT max(visits) AS visits FROM landed", TYPES, [{"visits": 1}])


def test_a_column_that_is_not_given_is_refused(features: Harness) -> None:
    with pytest.raises(InvalidRequest, match="colour"):
        features.engine.prepare_rows("SELECT colour FROM landed", TYPES, [{"visits": 1}])


@pytest.fixture
def raw_rows(tmp_path: Path) -> Iterator[dict[str, bytes]]:
    command = [sys.executable, str(ROOT / "samples/bank_customers.py"), "--rows", "2000", "--seed", "3", "--out"]
    subprocess.run([*command, str(tmp_path / "bank.csv")], check=True)
    telco = (ROOT / "samples/telco_churn.csv").read_bytes()
    yield {"customer-churn": telco, "bank-customers": (tmp_path / "bank.csv").read_bytes()}


@pytest.mark.parametrize("name", ["customer-churn", pytest.param("bank-customers", marks=without_pool)])
def test_scoring_a_raw_row_gives_the_features_that_training_saw(
    features: Harness, raw_rows: dict[str, bytes], name: str
) -> None:
    folder = Catalog(ROOT / "pipelines").get(name)
    of, sql = folder.pipeline, scoring_sql(folder.sql, folder.pipeline.features.label, folder.pipeline.features.key)
    file = features.land(f"{of.landing.path}/a.csv", raw_rows[name])
    manifest = features.prepare(replace(job([file], sql=folder.sql, of=of)))
    assert manifest.status == "ready", manifest.faults
    assert manifest.row_wise
    trained = {str(row[of.features.key]): row for row in features.rows(manifest.train) + features.rows(manifest.test)}
    raw = {row[of.features.key]: row for row in csv.DictReader(io.StringIO(raw_rows[name].decode()))}
    rows = [{k: v for k, v in raw[key].items() if k != of.features.label} for key in trained]
    columns = {k: v for k, v in manifest.landed_columns.items() if k != of.features.label}
    prepared = features.engine.prepare_rows(sql, columns, rows)
    assert len(prepared) == len(trained) > 1000
    for key, row in zip(trained, prepared, strict=True):
        assert row == {name: trained[key][name] for name in manifest.columns}


@without_pool
def test_the_banks_recipe_is_followed(features: Harness, raw_rows: dict[str, bytes]) -> None:
    folder: PipelineFolder = Catalog(ROOT / "pipelines").get("bank-customers")
    file = features.land("landing/bank-customers/a.csv", raw_rows["bank-customers"])
    manifest = features.prepare(job([file], sql=folder.sql, of=folder.pipeline))
    rows = {row["CustomerId"]: row for row in features.rows(manifest.train) + features.rows(manifest.test)}
    raw = list(csv.DictReader(io.StringIO(raw_rows["bank-customers"].decode())))
    kept = {int(row["CustomerId"]): row for row in raw if 18 <= int(row["Age"]) <= 100}
    assert rows.keys() == kept.keys()
    assert len(kept) < len({row["CustomerId"] for row in raw}) < len(raw)
    for key, row in rows.items():
        income, age = float(kept[key]["Income"] or 0), int(kept[key]["Age"])
        assert (row["Income"], row["Age"]) == (income, age)
        assert row["IncomeCategory"] == ("Low" if income < 30000 else "Medium" if income < 80000 else "High")
        assert row["AgeGroup"] == ("Young" if age < 30 else "Middle" if age < 50 else "Senior")
    assert any(row["Income"] == 0 for row in rows.values())


def _patience(seconds: float = 120, pause: float = 0.005) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(pause)
    raise AssertionError(f"nothing happened for {seconds} s")


def _ended(features: Harness, wanted: FeaturesJob) -> Any:
    for _ in _patience(pause=features.pause):
        status = features.engine.status(wanted.name)
        assert status is not None
        if status.ended:
            return status


def _wait(features: Harness, wanted: FeaturesJob) -> Manifest:
    status = _ended(features, wanted)
    assert status.state == "completed", status
    return from_record(Manifest, json.loads(features.lake.read(f"{wanted.output}/manifest.json")))
