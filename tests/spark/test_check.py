"""`landfall check --spark`: what it refuses, and what it compares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from landfall.check import check, check_for_spark
from landfall.two_engines import compare, compare_rows
from shared.definitions.catalog import Catalog, PipelineFolder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark")

YAML = """
name: shop
landing: {{path: landing/shop, columns: {columns}}}
features: {{key: {key}, label: label, test_share: 0.5}}
"""
COLUMNS = "{id: string, amount: double, label: string}"


def pipeline(root: Path, sql: str, *, columns: str = COLUMNS, key: str = "id") -> PipelineFolder:
    folder = root / "pipelines" / "shop"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(YAML.format(columns=columns, key=key))
    (folder / "features.sql").write_text(sql)
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "environment.yml").write_text("dependencies: [python=3.11]\n")
    return Catalog(root / "pipelines").get("shop")


def test_the_shipped_pipelines_are_proven() -> None:
    from shared.settings import ROOT

    assert check_for_spark(ROOT / "pipelines") == []


def test_what_is_not_proven_is_told_with_its_file_line_and_cure(tmp_path: Path) -> None:
    pipeline(tmp_path, "SELECT id,\n  strlen(id) AS long,\n  label\nFROM landed")
    assert check(tmp_path / "pipelines") == []
    (fault,) = check_for_spark(tmp_path / "pipelines", ["shop"])
    assert fault.where == "pipelines/shop/features.sql:2"
    assert "strlen(id)" in fault.what.lower()
    assert "docs/spark.md" in fault.cure


def test_a_key_whose_text_is_not_the_same_everywhere_is_refused(tmp_path: Path) -> None:
    pipeline(tmp_path, "SELECT amount, label FROM landed", key="amount")
    (fault,) = check_for_spark(tmp_path / "pipelines")
    assert "the key amount is a double" in fault.what


def test_columns_without_types_cannot_be_judged(tmp_path: Path) -> None:
    pipeline(tmp_path, "SELECT id, label FROM landed", columns="{}")
    (fault,) = check_for_spark(tmp_path / "pipelines")
    assert "--data FILE" in fault.cure


ROWS = "id,amount,label\n" + "".join(f"k{i},{i / 7},{'yes' if i % 3 else 'no'}\n" for i in range(60))


def landed(home: Path, text: str) -> list[str]:
    file = home / "lake" / "landing/shop/a.csv"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return ["landing/shop/a.csv"]


@pytest.mark.parametrize("columns", [COLUMNS, "{}"])
def test_both_engines_run_and_agree(spark: SparkSession, tmp_path: Path, columns: str) -> None:
    folder = pipeline(tmp_path, "SELECT id, round(amount, 1) AS amount, label FROM landed", columns=columns)
    faults, line = compare(folder, landed(tmp_path, ROWS), tmp_path, spark)
    assert faults == []
    assert line == "shop: DuckDB and Spark agree on 60 rows of landing/shop/a.csv"


def test_data_that_is_rejected_is_told(spark: SparkSession, tmp_path: Path) -> None:
    folder = pipeline(tmp_path, "SELECT id, label FROM landed")
    faults, line = compare(folder, landed(tmp_path, "id,label\nk1,yes\n"), tmp_path, spark)
    assert "no features could be compared: landing/shop/a.csv has no column amount" in faults[0].what
    assert line == "shop: nothing to compare"


def test_data_that_only_one_engine_takes_is_told(spark: SparkSession, tmp_path: Path) -> None:
    folder = pipeline(tmp_path, "SELECT id, amount, label FROM landed")
    faults, _ = compare(folder, landed(tmp_path, ROWS + "k99,1_000,yes\n"), tmp_path, spark)
    assert "ready for DuckDB" in faults[0].what
    assert "rejected for Spark (amount is no double in 1 of 61 rows)" in faults[0].what


def test_a_column_that_differs_is_named_with_its_line_and_a_row(tmp_path: Path) -> None:
    folder = pipeline(tmp_path, "SELECT id,\n  amount,\n  label\nFROM landed")
    ours = pa.table({"id": ["a", "b"], "amount": [1.0, 2.0], "label": ["x", "y"]})
    theirs = pa.table({"id": ["a", "b"], "amount": [1.0 + 1e-15, 2.001], "label": ["x", "y"]})
    (fault,) = compare_rows(folder, ours, theirs, "train")
    assert fault.where == "pipelines/shop/features.sql:2"
    assert "amount differs between DuckDB and Spark in 1 of 2 rows of train, such as id b: 2.0 and 2.001" in fault.what
    assert compare_rows(folder, ours, ours, "train") == []
    (fault,) = compare_rows(folder, ours, theirs.slice(1), "test")
    assert "the rows of test are not the same" in fault.what
