"""A table of a Synapse dedicated SQL pool as landed rows: a file that lands names it, and its rows are copied once."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from shared.errors import Rejected
from shared.spark.lake import SparkLake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FOLDER = "spark/tables"
"""Where the copies are in the lake; a copy is whole when its ``taken.json`` is there."""
_TABLE = re.compile(r"[\w$#@ -]+\.[\w$#@ -]+\.[\w$#@ -]+")


class NoTable(Exception):
    """A landed file names no table of a SQL pool."""


def rows_of(spark: SparkSession, lake: SparkLake, path: str, etag: str) -> list[str]:
    """The Parquet files, by their lake paths, that hold the rows of the table that the file ``path`` names.

    They are the rows of when the file was first prepared: another run, and a run again, reads the same.
    Raises NoTable for a file that names none, Rejected where Spark has no connector for SQL pools;
    what the pool itself refuses comes as Spark's own error.
    """
    copy = f"{FOLDER}/{hashlib.sha256(f'{path}{chr(0)}{etag}'.encode()).hexdigest()[:20]}"
    if lake.stat(f"{copy}/taken.json") is None:
        table = _named_in(lake.read(path))
        rows = _reader(spark).synapsesql(table)
        rows.write.mode("overwrite").parquet(lake.uri(f"{copy}/rows"))
        lake.write(f"{copy}/taken.json", json.dumps({"table": table, "path": path, "etag": etag}).encode())
    return [found for found in lake.list(f"{copy}/rows") if found.endswith(".parquet")]


def _named_in(content: bytes) -> str:
    said = json.loads(content)
    table = said.get("table") if isinstance(said, dict) else None
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise NoTable('it names no table: write {"table": "<pool>.<schema>.<table>"}')
    return table


def _reader(spark: SparkSession) -> Any:
    """Spark's reader with the method that Synapse's connector adds to it when it is imported."""
    try:
        import com.microsoft.spark.sqlanalytics  # noqa: F401
    except ImportError:
        raise Rejected(
            "landing.format sql-pool needs the connector that Spark pools of Synapse have; this Spark has none."
            " Land files instead, or prepare the pipeline on Azure"
        ) from None
    return spark.read
