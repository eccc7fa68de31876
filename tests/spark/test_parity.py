"""Both engines on the shipped pipelines and on awkward landings: the same manifest, rows, split, values and profile."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.definitions.catalog import Catalog
from shared.domain.pipelines import Features, Landing, Pipeline
from shared.domain.records import to_record
from shared.errors import Rejected
from shared.ports.feature_engine import FeaturesJob, Manifest
from shared.settings import ROOT
from tests.spark.engines import same
from tests.spark.test_features_job import SparkFeatures

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark")
MILLION = 1_000_000
CREATED = ("created_at", "run", "fingerprint", "table_version", "train", "test", "profile")


@pytest.fixture
def features(spark: SparkSession, tmp_path: Path) -> SparkFeatures:
    return SparkFeatures(spark, tmp_path)


def both(features: SparkFeatures, job: FeaturesJob) -> tuple[Manifest, Manifest]:
    """The manifests of DuckDB and of Spark for the same job, each in a folder of its own."""
    ours = replace(job, run=f"{job.run}-duckdb", output=f"{job.output}-duckdb", fingerprint="duckdb")
    theirs = replace(job, run=f"{job.run}-spark", output=f"{job.output}-spark", fingerprint="spark")
    return features.prepare_with_duckdb(ours), features.prepare(theirs)


def assert_same(features: SparkFeatures, duck: Manifest, spark: Manifest) -> None:
    """What a training would see is the same."""
    told = [{name: v for name, v in to_record(m).items() if name not in CREATED} for m in (duck, spark)]
    assert told[0] == told[1]
    if duck.status != "ready":
        return
    for side in ("train", "test"):
        assert_same_tables(*(_table(features, getattr(m, side)) for m in (duck, spark)))
    profiles = [to_record(features.profile(m)) for m in (duck, spark)]
    assert _equal(*profiles), profiles


def _table(features: SparkFeatures, folder: str) -> pa.Table:
    return pq.read_table(features.lake.uri(folder))


def assert_same_tables(duck: pa.Table, spark: pa.Table) -> None:
    """The same columns, and row by row, in their order, the same values to 1e-12."""
    assert duck.schema.names == spark.schema.names
    assert [str(t) for t in duck.schema.types] == [str(t) for t in spark.schema.types]
    assert duck.num_rows == spark.num_rows
    for name in duck.schema.names:
        a, b = duck[name].combine_chunks(), spark[name].combine_chunks()
        if not a.equals(b):
            different = [(x, y) for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True) if not same(x, y)]
            assert different == [], name


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return same(a, b)


def bank_rows(path: Path, rows: int) -> bytes:
    command = [sys.executable, str(ROOT / "samples/bank_customers.py"), "--rows", str(rows), "--seed", "3"]
    subprocess.run([*command, "--out", str(path)], check=True)
    return path.read_bytes()


def shipped(features: SparkFeatures, name: str, *files: tuple[str, bytes], form: str = "csv") -> FeaturesJob:
    folder = Catalog(ROOT / "pipelines").get(name)
    pipeline = replace(folder.pipeline, landing=replace(folder.pipeline.landing, format=form))  # type: ignore[arg-type]
    landed = [features.land(f"{pipeline.landing.path}/{file}", data) for file, data in files]
    return FeaturesJob(
        name="job", pipeline=pipeline, run="r", sql=folder.sql, files=tuple(landed), earlier=(),
        fingerprint="f", output=f"features/{name}/r",
    )  # fmt: skip


def test_telco_churn_is_the_same_on_both_engines(features: SparkFeatures) -> None:
    job = shipped(features, "customer-churn", ("telco.csv", (ROOT / "samples/telco_churn.csv").read_bytes()))
    duck, spark = both(features, job)
    assert duck.train_rows > 5000
    assert_same(features, duck, spark)


def test_bank_customers_are_the_same_on_both_engines(features: SparkFeatures, tmp_path: Path) -> None:
    data = bank_rows(tmp_path / "bank.csv", 20_000)
    duck, spark = both(features, shipped(features, "bank-customers", ("bank.csv", data)))
    assert duck.train_rows > 10_000
    assert_same(features, duck, spark)


@pytest.mark.slow
def test_a_million_rows_are_the_same_on_both_engines(features: SparkFeatures, tmp_path: Path) -> None:
    data = bank_rows(tmp_path / "bank.parquet", MILLION)
    duck, spark = both(features, shipped(features, "bank-customers", ("bank.parquet", data), form="parquet"))
    assert duck.landed_rows == MILLION
    assert_same(features, duck, spark)


# Awkward landings

COLUMNS = {
    "id": "string", "amount": "double?", "visits": "int?", "on": "boolean?", "day": "date?", "seen": "timestamp?",
    "note": "string?", "label": "string",
}  # fmt: skip
LINES = [
    'k1,1.5,1,true,2024-02-29,2024-02-29T10:00:00Z,"two\nlines",yes',
    'k2,-0.5,-7,false,1969-12-31,1969-12-31 23:59:59.5,"a ""quoted"" word",no',
    "k3,,,,,,,no",
    'k4,1e3,3.0,yes,2024-1-5,2024-01-05 01:00:00+05:30,"",yes',
    "k5,.5,+4,NO,1582-10-10,2024-01-05,  blanks kept  ,yes",
    "k6,NA,N/A,NULL,None,null,NA,no",
    "k7, 12.25 , 5 , t , 2024-03-31 ,2024-03-31 02:30:00+0100,naïve 日本語 🤦🏼‍♂️,yes",
    "k8,5.,007,0,2000-02-29,2024-12-31 23:59:59.999999,'single',no",
    'K8,123456789.123456789,-0,f,2999-12-31,2024-06-30T12:00,4"x,yes',
    "\u00a0k9,-1E-3,9223372036854775807,1,0001-01-01,2024-01-01 00:00:00 UTC,tab\there,no",
    "k10,0.1,0,n,2024-12-30,2024-01-01 00:00:00-03,back\\slash,yes",
    'straße,2.675,2,y,2024-12-29,2023-01-01 00:00,back\\"x,no',
]
SQL = """
SELECT id, amount, round(amount, 2) AS rounded, amount / visits AS ratio, visits, visits // 2 AS half,
    visits % 3 AS rest, "on", day, date_diff('day', day, DATE '2024-03-01') AS days, seen,
    date_trunc('month', seen) AS month, extract(dow FROM day) AS weekday, trim(note) AS note,
    length(note) AS long, coalesce(upper(note), '-') AS upper,
    note || '!' AS loud, concat(note, '!') AS louder, CAST(amount / 1000 AS INTEGER) AS many, label
FROM landed
"""


def awkward(features: SparkFeatures, data: bytes, columns: dict[str, str] | None = None, **options: Any) -> FeaturesJob:
    landing = Landing(path="landing/shop", columns=COLUMNS if columns is None else columns, **options)
    pipeline = Pipeline(name="shop", landing=landing, features=Features(key="id", label="label", test_share=0.4))
    file = features.land(f"landing/shop/a.{landing.format}", data)
    return FeaturesJob(
        name="job",
        pipeline=pipeline,
        run="r",
        sql=SQL,
        files=(file,),
        earlier=(),
        fingerprint="f",
        output="features/shop/r",
    )  # fmt: skip


def test_awkward_text_reads_the_same_on_both_engines(features: SparkFeatures) -> None:
    lines = [",".join(COLUMNS), *LINES, *(f"m{i},{i / 7},{i},true,2024-01-01,,x,yes" for i in range(20))]
    duck, spark = both(features, awkward(features, "\n".join(lines).encode()))
    assert duck.status == "ready", duck.faults
    assert_same(features, duck, spark)


def test_awkward_json_reads_the_same_on_both_engines(features: SparkFeatures) -> None:
    lines = [
        '{"id": "k1", "amount": 1.5, "visits": 2, "on": true, "day": "2024-02-29", "note": "a \\"b\\" \\u00e9",'
        ' "label": "yes"}',
        '{"label": "no", "id": "k2", "amount": "12.5", "visits": "7", "seen": "2024-01-01T00:00:00+02:00"}',
        '{"id": "k3", "amount": null, "visits": 3.0, "on": "no", "note": "", "label": "no"}',
        "",
        *(f'{{"id": "m{i}", "amount": {i / 8}, "visits": {i}, "on": 0, "label": "yes"}}' for i in range(20)),
    ]
    duck, spark = both(features, awkward(features, "\n".join(lines).encode(), format="jsonl"))
    assert duck.status == "ready", duck.faults
    assert_same(features, duck, spark)


def test_types_that_are_found_are_the_same_on_both_engines(features: SparkFeatures) -> None:
    header = ",".join(COLUMNS)
    lines = [f"k{i},{i / 4},{i},true,2024-01-{i + 1:02},2024-01-01 {i:02}:00:00+01:00,0{i},{i % 2}" for i in range(20)]
    duck, spark = both(features, awkward(features, "\n".join([header, *lines, "z1,,NA,,,,,no"]).encode(), columns={}))
    assert duck.status == "ready", duck.faults
    assert_same(features, duck, spark)


def test_every_type_of_parquet_is_the_same_on_both_engines(features: SparkFeatures, tmp_path: Path) -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal

    count = 24
    table = pa.table(
        {
            "id": [f"k{i}" for i in range(count)],
            "amount": pa.array([Decimal(i) / 8 if i else None for i in range(count)], pa.decimal128(12, 3)),
            "visits": pa.array([i - 9 for i in range(count)], pa.int16()),
            "on": pa.array([i % 2 == 0 for i in range(count)]),
            "day": pa.array([date(2024, 1, 1 + i) for i in range(count)]),
            "seen": pa.array(
                [datetime(2024, 3, 30 + i % 2, i % 24, tzinfo=UTC) for i in range(count)],
                pa.timestamp("us", "Europe/Berlin"),
            ),
            "note": pa.array([f"n{i}" for i in range(count)]).dictionary_encode(),
            "label": ["yes" if i % 3 else "no" for i in range(count)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    for columns in (COLUMNS, {}):
        job = awkward(features, (tmp_path / "a.parquet").read_bytes(), columns, format="parquet")
        duck, spark = both(features, replace(job, output=f"features/shop/r{len(columns)}"))
        assert duck.status == "ready", duck.faults
        assert_same(features, duck, spark)


@pytest.mark.parametrize(
    "line",
    [
        "k1,1_000,1,true,2024-01-01,,x,yes",
        'k1,1.5,1,true,2024-01-01,, "x",yes',
        "k1,1.5,1,true,2024-01-01,2024-01-01 24:00:00,x,yes",
        'k1,1.5,1,true,2024-01-01,,"x"y,yes',
    ],
)
def test_what_only_duckdb_may_read_rejects_the_batch_on_spark(features: SparkFeatures, line: str) -> None:
    lines = [",".join(COLUMNS), line, *(f"m{i},{i / 7},{i},true,2024-01-01,,x,yes" for i in range(20))]
    assert features.prepare(awkward(features, "\n".join(lines).encode())).status == "rejected"


def test_a_type_that_only_duckdb_may_find_is_asked_for(features: SparkFeatures) -> None:
    lines = ["id,amount,label", "k1,1_000,yes", *(f"m{i},{i / 7},yes" for i in range(20))]
    with pytest.raises(Rejected, match=r"Declare amount in landing\.columns"):
        features.prepare(awkward(features, "\n".join(lines).encode(), columns={}))


def test_a_query_that_is_not_proven_fails_the_job_and_does_not_blame_the_batch(features: SparkFeatures) -> None:
    lines = [",".join(COLUMNS), *(f"m{i},{i / 7},{i},true,2024-01-01,,x,yes" for i in range(20))]
    job = awkward(features, "\n".join(lines).encode())
    with pytest.raises(Rejected, match=r"features\.sql:2: uses STRLEN\(note\)|features\.sql:2: uses strlen"):
        features.prepare(replace(job, sql="SELECT id, label,\n strlen(note) AS n FROM landed"))
    with pytest.raises(Rejected, match="the key id is a double"):
        features.prepare(replace(job, sql="SELECT amount AS id, amount, label FROM landed"))
    with pytest.raises(Rejected, match="does not run"):
        features.prepare(replace(job, sql="SELECT id, CAST(note AS INTEGER) AS n, label FROM landed"))
    assert list(features.lake.list("features/")) == []
