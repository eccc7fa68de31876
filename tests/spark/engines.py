"""Both engines on the same landed rows."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from shared.features.column_types import type_of
from shared.spark.query import to_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LANDED = {
    "id": "int", "i": "int?", "j": "int?", "n": "int?", "x": "double?", "y": "double?", "p": "double?", "s": "string?",
    "t": "string?", "num": "string?", "word": "string?", "b": "boolean?", "c": "boolean?", "d": "date?", "e": "date?",
    "ts": "timestamp?", "till": "timestamp?", "MixedCase": "int?", "order": "string?", "grp": "string?",
}  # fmt: skip
ARROW = {
    "string": pa.string(), "int": pa.int64(), "double": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}  # fmt: skip

_INTS = [None, 0, 1, -1, 2, -2, 3, 7, -7, 100, -100, 10**6, -(10**6), 2**31 - 1, -(2**31), 10**12, -(10**12) + 1]
_SMALL = [None, 0, 1, -1, 2, 3, -3, 5, 12, -12]
_DOUBLES = [
    None, 0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.5, 0.1, 0.2, 0.3, 1.005, 2.675, -1.005, 1e-9, -1e-9, 123456.789,
    -123456.785, 0.49999999999999994, 4503599627370495.5, 1e15, -1e15, 1e17, 12345.6789, 1 / 3, 2 / 3, 29.99, 30000.0,
    99999.995,
]  # fmt: skip
_POSITIVE = [None, 0.5, 1.0, 2.0, 1e-5, 1e5, 3.7, 100.0, 0.1, 1234.5678]
_TEXTS = [
    None,
    "",
    " ",
    "a",
    "A",
    "abc",
    "ABC",
    " padded ",
    "\tx\t",
    "naïve",
    "NAÏVE",
    "straße",
    "İstanbul",
    "ΑΣ ΣΑ",
    "日本語",
    "🤦🏼\u200d♂️",
    "e\u0301",
    "é",
    "a-b-c",
    "a--c",
    "it's",
    'say "so"',
    "back\\slash",
    "100%",
    "under_score",
    "Fiber optic",
    "x\ny",
    "x\r\ny",
    "x\n",
    "a.b",
    "12ab34",
    "Ωmega",
    "NULL",
    "nan",
    "true",
    "zzz",
    "Z",
    "\u00a0nb\u00a0",
    "\u2028",
    "a$b",
]
_NUMBERS = [
    None,
    "1",
    "-1",
    "+5",
    " 12 ",
    "12.5",
    "-0.5",
    ".5",
    "5.",
    "1000000",
    "007",
    "",
    "abc",
    "1.2.3",
    "-",
    "1,5",
    "2.5",
    "3.49",
]
_WORDS = [None, "Yes", "No", "yes", "Month-to-month", "One year", "Two year", "DSL", "2024-01-31", "2024-01-31 10:00"]
_DATES = [
    None,
    date(2024, 2, 29),
    date(2024, 1, 1),
    date(2023, 12, 31),
    date(1970, 1, 1),
    date(1969, 12, 31),
    date(1900, 3, 1),
    date(2000, 2, 29),
    date(2026, 1, 4),
    date(2026, 11, 24),
    date(1582, 10, 10),
    date(2999, 12, 31),
    date(2021, 1, 3),
]
_TIMES = [
    None,
    datetime(2024, 2, 29, 23, 59, 59, 999999),
    datetime(2024, 3, 1),
    datetime(1970, 1, 1),
    datetime(1969, 12, 31, 23, 59, 59, 500000),
    datetime(1900, 1, 1, 12, 30),
    datetime(2024, 3, 31, 1, 30),
    datetime(2024, 3, 31, 2, 30),
    datetime(2024, 10, 27, 2, 30),
    datetime(2026, 11, 24, 9, 0, 0, 123000),
    datetime(2000, 1, 1, 0, 0, 0, 1),
    datetime(2023, 12, 31, 22, 0),
    datetime(1582, 10, 5),
]


def awkward_rows(count: int = 400) -> pa.Table:
    """Rows of every kind of value in every column, in chance combinations that are the same each time."""
    chance = random.Random(7)
    values: dict[str, list[Any]] = {
        "i": _INTS, "j": _SMALL, "n": _SMALL, "x": _DOUBLES, "y": _DOUBLES, "p": _POSITIVE, "s": _TEXTS, "t": _TEXTS,
        "num": _NUMBERS, "word": _WORDS, "b": [None, True, False], "c": [None, True, False], "d": _DATES, "e": _DATES,
        "ts": _TIMES, "till": _TIMES, "MixedCase": _SMALL, "order": _WORDS, "grp": ["a", "b", "ä", None, "A"],
    }  # fmt: skip
    columns: dict[str, list[Any]] = {"id": list(range(count))}
    for name, pool in values.items():
        # Every value at least once, then any.
        columns[name] = [*pool, *(chance.choice(pool) for _ in range(count - len(pool)))]
        chance.shuffle(columns[name])
    return pa.table({n: pa.array(columns[n], ARROW[LANDED[n].removesuffix("?")]) for n in LANDED})


class Engines:
    """DuckDB and Spark with a view ``landed`` of the same rows."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self._folder = folder
        self.duck = duckdb.connect()
        for setting in (
            "TimeZone = 'UTC'",
            "error_on_division_by_zero = false",
            "ieee_floating_point_ops = false",
            "threads = 1",
        ):
            self.duck.execute(f"SET {setting}")
        self._made = 0

    def land(self, rows: pa.Table) -> None:
        """Make ``rows`` what landed."""
        path = self._folder / f"landed-{self._made}.parquet"
        self._made += 1
        pq.write_table(rows, path)
        self.duck.execute("CREATE OR REPLACE TABLE landed AS SELECT * FROM read_parquet(?)", [str(path)])
        frame = self.spark.read.parquet(str(path)).repartition(2)
        for name, kind in frame.dtypes:
            if kind == "timestamp_ntz":
                frame = frame.withColumn(name, frame[f"`{name}`"].cast("timestamp"))
        frame.createOrReplaceTempView("landed")

    def on_duck(self, sql: str, key: str = "id") -> tuple[list[dict[str, Any]], dict[str, str | None]]:
        """Rows in key order, and the column types."""
        sql = sql.rstrip(";")
        types = {row[0]: type_of(row[1]) for row in self.duck.execute(f"DESCRIBE {sql}").fetchall()}
        stored = {"double": "DOUBLE", "int": "BIGINT"}
        picked = ", ".join(
            f'CAST("{n}" AS {stored[k]}) AS "{n}"' if k in stored else f'"{n}"' for n, k in types.items()
        )
        found = self.duck.sql(f"SELECT {picked} FROM ({sql})").to_arrow_table().to_pylist()
        return _sorted(found, key), types

    def on_spark(
        self, sql: str, key: str = "id", landed: dict[str, str] = LANDED
    ) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
        """The same of the translated query."""
        translated = to_spark(sql, landed)
        assert not translated.faults, translated.faults
        path = self._folder / f"result-{self._made}"
        self._made += 1
        self.spark.sql(translated.text).write.parquet(str(path))
        return _sorted(pq.read_table(path).to_pylist(), key), dict(translated.columns)


def _sorted(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row[key] is not None, str(type(row[key])), row[key]))


def same(a: Any, b: Any) -> bool:
    """Equal to 1e-12; NaN is NaN; times are in UTC."""
    if isinstance(a, datetime) and isinstance(b, datetime):
        return _utc(a) == _utc(b)
    if isinstance(a, float) or isinstance(b, float):
        if a is None or b is None:
            return a is b
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return a == b or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-300)
    return type(a) is type(b) and bool(a == b)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


__all__ = ["LANDED", "Engines", "awkward_rows", "same", "timedelta"]
