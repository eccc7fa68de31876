"""Writes a pipeline's Delta table and tells the version: by Spark on Synapse, by delta-rs where Spark has no Delta."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from shared.errors import Rejected

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TableWriter = Callable[["DataFrame", str, Mapping[str, str]], int]
"""(rows, address of the table, mark) → version. A version that carries the mark already is taken again."""
ATTEMPTS = 5


def writer(spark: SparkSession) -> TableWriter:
    """The writer that this Spark allows. Raises :class:`~shared.errors.Rejected` when there is none."""
    jvm: Any = spark._jvm
    try:
        jvm.java.lang.Class.forName("io.delta.sql.DeltaSparkSessionExtension")
    except Exception:  # noqa: BLE001 - py4j's error for a class that is not there
        try:
            import deltalake  # noqa: F401
        except ImportError:
            raise Rejected("neither Spark's Delta nor the package deltalake is there to write the table") from None
        return by_delta_rs
    return by_spark


def by_spark(rows: DataFrame, uri: str, mark: Mapping[str, str]) -> int:
    """Write with Spark's own Delta."""
    spark, said = rows.sparkSession, json.dumps(dict(mark), sort_keys=True)
    for attempt in range(1, ATTEMPTS + 1):
        known = _marked(spark, uri, said)
        if known is not None:
            return known
        try:
            options = {"overwriteSchema": "true", "userMetadata": said}
            rows.write.format("delta").mode("overwrite").options(**options).save(uri)
        except Exception as error:
            # Another run of the pipeline has committed in between.
            if "Concurrent" not in str(error) or attempt == ATTEMPTS:
                raise
    version = _marked(spark, uri, said)
    if version is None:
        raise RuntimeError(f"the table {uri} was written, but its history does not show it")
    return version


def _marked(spark: SparkSession, uri: str, said: str) -> int | None:
    from pyspark.sql.utils import AnalysisException

    try:
        history = spark.sql(f"DESCRIBE HISTORY delta.`{uri}`")
        found = history.where(history["userMetadata"] == said).select("version").collect()
    except AnalysisException:
        return None
    return int(found[0]["version"]) if found else None


def by_delta_rs(rows: DataFrame, uri: str, mark: Mapping[str, str]) -> int:
    """Write with delta-rs, from this process: for tables that it can hold in memory."""
    import deltalake
    from deltalake.exceptions import CommitFailedError

    local = uri.removeprefix("file://") if uri.startswith("file:///") else uri.removeprefix("file:")
    for attempt in range(1, ATTEMPTS + 1):
        if deltalake.DeltaTable.is_deltatable(local):
            for commit in deltalake.DeltaTable(local).history():
                if all(commit.get(name) == value for name, value in mark.items()):
                    return int(commit["version"])
        try:
            deltalake.write_deltalake(
                local,
                rows.toArrow(),
                mode="overwrite",
                schema_mode="overwrite",
                commit_properties=deltalake.CommitProperties(custom_metadata=dict(mark)),
            )
        except CommitFailedError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the loop returns or raises")
