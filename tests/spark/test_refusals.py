"""What is not proven equal is refused with its line and a cure, or stops the job where only the data can tell."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from shared.spark.query import to_spark
from tests.spark.engines import LANDED, Engines

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark")

REFUSED = {
    "CAST(x AS VARCHAR)": ("double to string", "Round it"),
    "CAST(x AS FLOAT)": ("casts to REAL", "DOUBLE"),
    "CAST(x AS DECIMAL(10, 2))": ("casts to DECIMAL", "DOUBLE"),
    "CAST(ts AS TIMESTAMPTZ)": ("casts to TIMESTAMPTZ", "TIMESTAMP"),
    "CAST(s AS BOOLEAN)": ("string to boolean", "CASE"),
    "CAST(1.5 AS INTEGER)": ("decimal to int", "Round"),
    "s || x": ("makes text of x", "whole numbers"),
    "concat(s, x)": ("makes text of x", "whole numbers"),
    "i + s": ("a string", "Cast"),
    "i = s": ("int and string together", "Cast one side"),
    "b = 1": ("boolean and int together", "Cast one side"),
    "d = s": ("date and string together", "Cast one side"),
    "coalesce(i, 'none')": ("int and string together", "Cast one side"),
    "CASE WHEN i THEN 1 END": ("where boolean is proven", "Cast"),
    "x // 2": ("where int is proven", "Cast"),
    "substring(s, i, 2)": ("a start that is no whole number", "the number itself"),
    "substring(s, 0, 2)": ("a start that is no whole number of at least 1", "the number itself"),
    "substring(s, -2)": ("a start", "the number itself"),
    "left(s, -1)": ("a length", "the number itself"),
    "round(x, -2)": ("a number of places", "the number itself"),
    "trim(s, 'x')": ("with expression", "docs/spark.md"),
    "s LIKE 'a\\_b'": ("pattern", "backslashes"),
    "s LIKE t": ("no text in quotes", "Write the text"),
    "s ILIKE 'É%'": ("pattern", "plain letters"),
    "s LIKE 'a' ESCAPE '!'": ("ESCAPE", "docs/spark.md"),
    "s SIMILAR TO 'a'": ("SIMILAR TO", "regexp_full_match"),
    "s GLOB 'a*'": ("GLOB", "LIKE"),
    "regexp_matches(s, '(?i)a')": ("regular expression", "letters"),
    "regexp_matches(s, 'a++')": ("regular expression", "letters"),
    "regexp_matches(s, '\\bx')": ("regular expression", "letters"),
    "regexp_matches(s, 'a', 'i')": ("with flag", "docs/spark.md"),
    "regexp_replace(s, 'a', 'b')": ("the first match only", "'g'"),
    "regexp_replace(s, '(a)', '\\1', 'g')": ("a group", "plain text"),
    "strlen(s)": ("strlen(s)", "docs/spark.md"),
    "strftime(d, '%Y')": ("STRFTIME", "year("),
    "strptime(s, '%Y')": ("STRPTIME", "ISO dates"),
    "monthname(d)": ("MONTHNAME", "docs/spark.md"),
    "date_diff('week', d, e)": ("counts week", "days // 7"),
    "date_sub('day', d, e)": ("date_sub", "docs/spark.md"),
    "date_trunc('decade', d)": ("decade", "year"),
    "extract(century FROM d)": ("century", "year"),
    "ts - till": ("a timestamp", "date_diff"),
    "d + INTERVAL (j) DAY": ("shifts by", "INTERVAL 3 DAY"),
    "ts AT TIME ZONE 'Europe/Berlin'": ("AT TIME ZONE", "offset"),
    "log(3, x)": ("base 3", "log10"),
    "md5(i)": ("where string is proven", "Cast"),
    "hash(s)": ("hash(s)", "docs/spark.md"),
    "[i, j]": ("[i, j]", "one column for each"),
    "s[1]": ("s[", "substring"),
    "list_transform([i], a -> a + 1)": ("LIST_TRANSFORM", "docs/spark.md"),
    "(SELECT max(x) FROM landed)": ("SELECT", "CTE"),
    "i IN (SELECT j FROM landed)": ("subquery", "CTE"),
    "row_number() OVER (PARTITION BY grp)": ("no order", "ORDER BY"),
    "lag(x) OVER ()": ("no order", "ORDER BY"),
    "sum(x) OVER (ORDER BY d RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND CURRENT ROW)": ("frame", "ROWS"),
    "median(x) OVER (PARTITION BY grp)": ("over a window", "CTE"),
    "first_value(x IGNORE NULLS) OVER (ORDER BY id)": ("IGNORE NULLS", "row_number"),
    "max(x ORDER BY id)": ("ORDER BY", "docs/spark.md"),
    "string_agg(s, ',')": ("LISTAGG", "count"),
    "list(s)": ("ARRAY_AGG(s)", "count"),
    "any_value(s)": ("ANY_VALUE", "window"),
    "first(s)": ("FIRST(s)", "window"),
    "mode(s)": ("MODE(s)", "window"),
    "arg_max(s, x)": ("ARG_MAX", "window"),
    "approx_count_distinct(s)": ("APPROX", "count(DISTINCT"),
    "sum(b)": ("where int or double is proven", "Cast"),
    "sum(0.1)": ("a decimal", "::DOUBLE"),
    "sum(DISTINCT j)": ("DISTINCT", "CTE"),
    "max(x, 2)": ("with count", "docs/spark.md"),
    "corr(x, y)": ("CORR", "docs/spark.md"),
    "3.14159265358979323846": ("more digits than a double holds", "e0"),
    "j * 0.1 * 0.123456789 * 0.123456789": ("digits", "::DOUBLE"),
    "99999999999999999999": ("beyond BIGINT", "1e20"),
    "NULL": ("null in every row", "Leave it out"),
    "i & 1": ("&", "docs/spark.md"),
    "COLUMNS('a.*')": ("COLUMNS", "Name the columns"),
}

QUERIES = {
    "SELECT id, i FROM landed\nORDER BY x\nLIMIT 10": ("LIMIT", "QUALIFY", 3),
    "SELECT DISTINCT ON (grp) id, grp FROM landed": ("DISTINCT ON", "row_number()", 1),
    "SELECT a.id FROM landed a\nFULL JOIN landed b ON a.id = b.id": ("joins", "LEFT JOIN", 2),
    "SELECT a.id FROM landed a JOIN landed b USING (id)": ("joins", "ON", 1),
    "SELECT a.id FROM landed a ASOF JOIN landed b ON a.id >= b.id": ("joins", "ON", 1),
    "SELECT id FROM landed a JOIN landed b ON a.id = b.id": ("more than one table", "the table before it", 1),
    "SELECT grp, count(*) AS n FROM landed GROUP BY CUBE (grp)": ("CUBE", "docs/spark.md", 1),
    "SELECT id,\n i * 2 FROM landed": ("without a name", "AS", 2),
    "SELECT id, i AS ID FROM landed": ("two columns called ID", "differently", 1),
    "WITH RECURSIVE c AS (SELECT id FROM landed) SELECT id FROM c": ("recursive", "recursion", 1),
    "WITH c AS (SELECT id FROM landed UNION SELECT id FROM landed) SELECT id FROM c": ("no SELECT", "UNION", 1),
    "SELECT id, abs(i) AS i FROM landed GROUP BY id, i": ("two things i", "differently", 1),
    "SELECT id, unnest([1, 2]) AS u FROM landed": ("UNNEST", "docs/spark.md", 1),
}


@pytest.mark.parametrize("expression", REFUSED)
def test_an_expression_that_is_not_proven_is_refused_with_its_line_and_a_cure(expression: str) -> None:
    what, cure = REFUSED[expression]
    found = to_spark(f"SELECT\n  id,\n  {expression} AS refused\nFROM landed", LANDED)
    assert (found.text, found.columns) == ("", {})
    (fault,) = found.faults
    assert fault.where == "features.sql:3"
    assert what.lower() in fault.what.lower()
    assert cure.lower() in fault.cure.lower()


@pytest.mark.parametrize("sql", QUERIES)
def test_a_query_that_is_not_proven_is_refused(sql: str) -> None:
    what, cure, line = QUERIES[sql]
    faults = to_spark(sql, LANDED).faults
    assert faults, sql
    assert what.lower() in faults[0].what.lower()
    assert cure in faults[0].cure
    assert faults[0].where == f"features.sql:{line}"


def test_all_faults_are_told_at_once() -> None:
    sql = "SELECT id,\n strlen(s) AS a,\n list(i) AS b,\n x::FLOAT AS c\nFROM landed\nWHERE s GLOB 'a'"
    assert [fault.where for fault in to_spark(sql, LANDED).faults] == [
        f"features.sql:{line}" for line in (2, 3, 4, 6)
    ]  # fmt: skip


STOPS: dict[str, tuple[str, Any]] = {
    "ln(x)": ("x", -1.0),
    "log10(x)": ("x", 0.0),
    "sqrt(x)": ("x", -4.0),
    "pow(x, -1)": ("x", 0.0),
    "upper(s)": ("s", "ﬁve"),
    "lower(s)": ("s", "\ua7dc"),
    "TRY_CAST(s AS DOUBLE)": ("s", "1_000"),
    "TRY_CAST(s AS INTEGER)": ("s", "1e3"),
    "CAST(s AS DOUBLE)": ("s", "many"),
    "CAST(s AS DATE)": ("s", "31.01.2024"),
    "TRY_CAST(s AS TIMESTAMP)": ("s", "2024-01-31 10:00:00+01:00"),
    "i * 4": ("i", 2**62),
    "CAST(i AS INTEGER)": ("i", 2**40),
    "CAST(x AS BIGINT)": ("x", 1e30),
    "sum(i) OVER ()": ("i", 2**62),
    "d + 2000000": ("d", datetime.date(9999, 12, 31)),
}
"""Expressions and a value for which DuckDB fails, or gives what Spark cannot."""


@pytest.mark.parametrize("expression", STOPS)
def test_a_value_that_the_engines_would_treat_differently_stops_spark(
    spark: SparkSession, tmp_path: Path, expression: str
) -> None:
    column, value = STOPS[expression]
    engines = Engines(spark, tmp_path)
    kinds = {"id": "int", column: LANDED[column]}
    engines.land(pa.table({"id": [1, 2, 3, 4], column: [None, value, value, value]}))
    with pytest.raises(Exception, match=r"features\.sql|OVERFLOW|overflow|out of range|CAST|SPARK") as caught:
        engines.on_spark(f"SELECT id, {expression} AS v FROM landed", landed=kinds)
    assert "Error" in type(caught.value).__name__ or "Exception" in type(caught.value).__name__
