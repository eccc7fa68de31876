"""What landed texts become."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from shared.features.column_types import cleaned, typed

TEXTS = [
    "0", "-0", "+7", "007", "-12", "12.", "12.0", "1.5", "1e3", " 5 ", "\t5", "5\n", "1_000", "1,000", "0x10", "0b1",
    "", " ", "NA", "N/A", "NULL", "null", "None", "nan", "NaN", "inf", "-Infinity", "9223372036854775807",
    "9223372036854775808", "-9223372036854775808", "1e308", "1e400", ".5", "5.", "true", "12a", "\u0665", "- 5", "--5",
]  # fmt: skip
SLOW = {
    "int": "CASE WHEN regexp_full_match({0}, '[+-]?[0-9]+([.]0*)?') THEN TRY_CAST({0} AS BIGINT) END",
    "double": "TRY_CAST({0} AS DOUBLE)",
}
"""What a number in text is, said as plainly as possible."""


@pytest.mark.parametrize("kind", SLOW)
def test_the_quick_way_reads_numbers_as_the_plain_one(kind: str) -> None:
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT unnest(?) AS v", [TEXTS])
    readings = ", ".join(
        f"CAST({reading} AS VARCHAR)" for reading in (typed("v", "VARCHAR", kind), SLOW[kind].format(cleaned("v")))
    )
    rows: list[tuple[Any, ...]] = con.execute(f"SELECT v, {readings} FROM t").fetchall()
    assert [(v, quick) for v, quick, _ in rows] == [(v, plain) for v, _, plain in rows]
    assert any(quick is None for _, quick, _ in rows)
