"""A text of a raw row is scored as the value that it would have landed as, or refused where it would be none."""

from __future__ import annotations

import duckdb
import pytest

from shared.errors import InvalidRequest
from shared.features.column_types import typed
from shared.features.raw_rows import RawRows

TEXTS = {
    "date": ("2024-1-5", "2024-01-05", " 2024-01-05 ", "20240105", "2024-W05-3", "2024-01-05T00:00:00", "0001-01-01"),
    "timestamp": (
        "2024-01-05 3:04:05", "2024-01-05 03:04", "2024-01-05", "2024-1-5 03:04:05", "2024-01-05T03:04:05Z",
        "2024-01-05T03:04:05+02", "2024-01-05T03:04:05.123456", "20240105T030405", "2024-01-05 03:04:05 UTC",
        "2024-01-05 03:04:05 Europe/Berlin", "2024-W05-3",
    ),
    "int": (
        "1_000", "１２", "+5", "5.", "5.0", "1e3", "05", "9223372036854775807", "-9223372036854775808",
        "9223372036854775808", "9007199254740993.0", " 7 ", "\t7", "0x10", "",
    ),
    "double": ("1_000.5", "1e3", "１.5", ".5", "5.", "1.7976931348623157e308", "0x1p3", "1,5", "NA"),
    "boolean": ("yes", "Y", "T", "1", "1.0", "on", "TRUE", "0", "n", "F", "null"),
}  # fmt: skip


@pytest.fixture(scope="module")
def raw_rows() -> RawRows:
    return RawRows()


@pytest.fixture(scope="module")
def landing() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in TEXTS.items() for text in texts])
def test_a_text_is_scored_as_it_lands(
    raw_rows: RawRows, landing: duckdb.DuckDBPyConnection, kind: str, text: str
) -> None:
    expression = typed("x", "VARCHAR", kind)
    (landed,) = landing.execute(f"SELECT {expression} FROM (SELECT ?::VARCHAR AS x)", [text]).fetchone() or ()
    try:
        scored = raw_rows.run("select x from landed", {"x": f"{kind}?"}, [{"x": text}])[0]["x"]
    except InvalidRequest as refused:
        assert landed is None
        assert refused.faults[0]["value"] == text
    else:
        assert scored == landed


def test_a_whole_number_of_64_bits_is_taken_as_it_is(raw_rows: RawRows) -> None:
    for number in (2**63 - 1, -(2**63), 2**53 + 1):
        assert raw_rows.run("select x from landed", {"x": "int"}, [{"x": number}]) == [{"x": number}]
