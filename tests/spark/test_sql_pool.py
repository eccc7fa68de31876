"""Tables of a Synapse SQL pool as an input. The connector is not to be had here: its one method is played."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.landing import LandedFile
from shared.errors import Rejected
from shared.spark.sql_pool import FOLDER
from tests.contracts.test_feature_engine import LocalBackend, LocalFeatures, job, pipeline, table
from tests.spark.test_features_job import SparkFeatures

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark")
NAMED = "com.microsoft.spark.sqlanalytics"
SHOP = pipeline(format="sql-pool")


@pytest.fixture
def features(spark: SparkSession, tmp_path: Path) -> SparkFeatures:
    return SparkFeatures(spark, tmp_path)


@pytest.fixture
def pool(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Tables by name. As with the connector, importing its package gives Spark's reader the method."""
    from pyspark.sql import DataFrameReader

    tables: dict[str, list[dict[str, Any]]] = {}
    names = NAMED.split(".")
    for depth in range(1, len(names) + 1):
        module = ModuleType(".".join(names[:depth]))
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def synapsesql(reader: DataFrameReader, name: str) -> Any:
        schema = "id STRING, amount DECIMAL(10,2), visits INT, label STRING"
        rows = [(row["id"], None, row["visits"], row["label"]) for row in tables[name]]
        return spark.createDataFrame(rows, schema)

    monkeypatch.setattr(DataFrameReader, "synapsesql", synapsesql, raising=False)
    yield tables


def ask(
    features: SparkFeatures | LocalFeatures, name: str, text: str = '{"table": "pool.dbo.customers"}'
) -> LandedFile:
    return features.land(f"landing/shop/{name}", text.encode())


def test_a_file_that_names_a_table_stands_for_its_rows(
    features: SparkFeatures, pool: dict[str, list[dict[str, Any]]]
) -> None:
    pool["pool.dbo.customers"] = table(50)
    manifest = features.prepare(job([ask(features, "monday.json")], of=SHOP))
    assert (manifest.status, manifest.landed_rows) == ("ready", 50), manifest.faults
    assert manifest.columns == {"amount": "double", "visits": "int"}
    assert {row["id"] for row in features.rows(manifest.train) + features.rows(manifest.test)} == {
        row["id"] for row in pool["pool.dbo.customers"]
    }


def test_the_rows_stay_those_of_when_the_file_landed_and_a_later_file_brings_newer_ones(
    features: SparkFeatures, pool: dict[str, list[dict[str, Any]]]
) -> None:
    pool["pool.dbo.customers"] = table(50)
    monday = ask(features, "monday.json")
    features.prepare(job([monday], of=SHOP))
    pool["pool.dbo.customers"] = table(51, visits={1: 99})
    again = features.prepare(job([monday], of=SHOP, run="r2"))
    assert again.landed_rows == 50
    tuesday = ask(features, "tuesday.json", '{"table": "pool.dbo.customers", "why": "nightly load"}')
    later = features.prepare(job([tuesday], earlier=[monday], of=SHOP, run="r3"))
    visits = {row["id"]: row["visits"] for row in features.rows(later.train) + features.rows(later.test)}
    assert (len(visits), visits["k0"], visits["k1"]) == (51, 99, 1)
    assert len([info for info in features.lake.list(f"{FOLDER}/") if info.path.endswith("taken.json")]) == 2


@pytest.mark.parametrize("text", ["[]", '{"table": 7}', '{"table": "customers"}', '{"table": "a.b.c; DROP"}', "{", "x"])
def test_a_file_that_names_no_table_rejects_the_batch(
    features: SparkFeatures, pool: dict[str, list[dict[str, Any]]], text: str
) -> None:
    manifest = features.prepare(job([ask(features, "bad.json", text)], of=SHOP))
    assert [(fault["rule"], fault["rows"][0]["file"]) for fault in manifest.faults] == [
        ("unreadable", "landing/shop/bad.json")
    ]


def test_a_rule_that_the_table_breaks_rejects_the_batch(
    features: SparkFeatures, pool: dict[str, list[dict[str, Any]]]
) -> None:
    pool["pool.dbo.customers"] = table(40, label={3: None})
    manifest = features.prepare(job([ask(features, "a.json")], of=SHOP))
    assert [(fault["rule"], fault["column"], fault["count"]) for fault in manifest.faults] == [("null", "label", 1)]


def test_where_there_is_no_pool_the_job_fails_in_words(features: SparkFeatures, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="needs the connector that Spark pools of Synapse have"):
        features.prepare(job([ask(features, "a.json")], of=SHOP))
    laptop = LocalFeatures(LocalBackend(tmp_path / "laptop"))
    with pytest.raises(Rejected, match="a laptop has no SQL pool"):
        laptop.prepare(replace(job([ask(laptop, "a.json")], of=SHOP)))
