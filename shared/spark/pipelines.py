"""What keeps a pipeline from being prepared on Spark."""

from __future__ import annotations

from shared.domain.pipelines import Pipeline
from shared.errors import Fault
from shared.spark.query import to_spark

KEYS = ("string", "int", "date", "boolean")
"""Types of a key whose text, which the split hashes, is the same on every engine."""


def judge(pipeline: Pipeline, sql: str) -> list[Fault]:
    """The faults that ``sql``, valid for DuckDB, has for Spark; "features.sql:line" says where."""
    columns = pipeline.landing.columns
    if not columns:
        return [
            Fault(
                "features.sql:1",
                "cannot be judged for Spark, because what it means hangs on the types of the landed columns",
                "Declare landing.columns, or let landfall check --spark --data FILE find them.",
            )
        ]
    query = to_spark(sql, columns)
    key = pipeline.features.key
    kind = query.columns.get(key)
    if kind is None or kind in KEYS:
        return list(query.faults)
    return [*query.faults, Fault("features.sql:1", key_fault(key, kind), f"Cast {key}.")]


def key_fault(key: str, kind: str) -> str:
    """What is wrong with a key of type ``kind``, none of :data:`KEYS`."""
    return (
        f"the key {key} is a {kind}, whose text, by which rows are held out, differs between engines."
        " Make it text, a whole number or a date"
    )
