"""What features.sql may be."""

from __future__ import annotations

import pytest

from shared.errors import Rejected
from shared.features.features_sql import analyse, passes_on, scoring_sql, without_distinct

LANDED = {"id": "string", "tenure": "int", "charges": "double?", "churn": "string"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, tenure * 2 AS twice FROM landed",
        "SELECT id, CASE WHEN tenure > 3 THEN 'old' ELSE 'new' END AS age FROM landed AS l WHERE l.tenure >= 0",
        "SELECT DISTINCT id, churn FROM landed",
        "SELECT *, charges / nullif(tenure, 0) AS rate FROM landed;",
        "SELECT id, charges + 1 AS more, more * 2 AS twice FROM landed",
        "-- a comment\nSELECT id FROM landed",
    ],
)
def test_a_query_that_makes_each_row_from_one_landed_row_is_row_wise(sql: str) -> None:
    facts = analyse(sql, LANDED)
    assert facts.faults == ()
    assert facts.row_wise


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, count(*) AS n FROM landed GROUP BY id",
        "SELECT max(tenure) AS longest FROM landed",
        "SELECT id, tenure - avg(tenure) OVER () AS above FROM landed",
        "SELECT a.id FROM landed AS a JOIN landed AS b ON a.id = b.id",
        "SELECT a.id FROM landed AS a, landed AS b",
        "SELECT id FROM landed LIMIT 5",
        "SELECT id FROM landed ORDER BY tenure",
        "SELECT DISTINCT ON (id) id, tenure FROM landed",
        "SELECT id, (SELECT max(tenure) FROM landed) AS longest FROM landed",
        "SELECT id FROM (SELECT * FROM landed)",
        "WITH recent AS (SELECT * FROM landed) SELECT id FROM recent",
        "SELECT id FROM landed QUALIFY row_number() OVER (PARTITION BY id ORDER BY tenure) = 1",
        "SELECT id, unnest([1, 2]) AS copy FROM landed",
        "SELECT histogram(tenure) AS h FROM landed",
    ],
)
def test_a_query_that_looks_at_other_rows_is_allowed_but_not_row_wise(sql: str) -> None:
    facts = analyse(sql, LANDED)
    assert facts.faults == ()
    assert not facts.row_wise


@pytest.mark.parametrize(
    ("sql", "where", "what"),
    [
        ("", "features.sql:1", "holds 0 statements"),
        ("SELECT id FROM landed; SELECT 2", "features.sql:1", "holds 2 statements"),
        ("DROP TABLE landed", "features.sql:1", "is not a SELECT"),
        ("SELECT id FROM landed UNION ALL SELECT id FROM landed", "features.sql:1", "is not a SELECT"),
        ("SELECT id,\n  tenure\nFROM landed WHRE x", "features.sql:3", "not SQL"),
        ("SELECT id\nFROM customers", "features.sql:2", "reads from customers"),
        ("SELECT id FROM landed,\n read_csv('secret.csv')", "features.sql:2", "reads from READ_CSV('secret.csv')"),
        ("SELECT id FROM 'secret.parquet'", "features.sql:1", "secret.parquet"),
        ("SELECT 1 AS id", "features.sql:1", "does not read from landed"),
        ("SELECT id,\n random() AS r FROM landed", "features.sql:2", "uses random()"),
        ("SELECT id,\n\n now() AS t FROM landed", "features.sql:3", "uses now()"),
        ("SELECT id, age(since) AS t FROM landed", "features.sql:1", "uses age(since)"),
        ("SELECT id, current_localtime() AS t FROM landed", "features.sql:1", "uses current_localtime()"),
        ("SELECT id, current_date AS d FROM landed", "features.sql:1", "uses current_date"),
        ("SELECT id, uuid() AS u FROM landed", "features.sql:1", "uses uuid()"),
        ("SELECT id FROM landed USING SAMPLE 10%", "features.sql:1", "takes a sample"),
        ("SELECT id,\n tenur AS t FROM landed", "features.sql:2", "there is no landed column tenur"),
    ],
)
def test_a_fault_names_its_line(sql: str, where: str, what: str) -> None:
    facts = analyse(sql, LANDED)
    assert not facts.row_wise
    assert any(f.where == where and what.lower() in f.what.lower() for f in facts.faults), facts.faults
    assert all(f.cure for f in facts.faults)


def test_a_misspelt_column_is_told_the_nearest_one() -> None:
    (fault,) = analyse("SELECT id, tenur FROM landed", LANDED).faults
    assert fault.cure == "Did you mean tenure?"


def test_all_faults_are_told_at_once() -> None:
    assert len(analyse("SELECT tenur, random() AS r FROM customers", LANDED).faults) == 4


def test_columns_are_not_judged_while_the_landed_ones_are_unknown() -> None:
    assert analyse("SELECT anything FROM landed").faults == ()


def test_reads_names_the_landed_columns_unless_a_star_hides_them() -> None:
    assert analyse("SELECT id, charges / tenure AS rate FROM landed").reads == {"id", "charges", "tenure"}
    assert analyse("SELECT * FROM landed").reads is None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT id, tenure, churn FROM landed", "SELECT tenure FROM landed"),
        (
            "SELECT id, tenure, churn = 'Yes' AS leaves FROM landed",
            "SELECT tenure, churn = 'Yes' AS leaves FROM landed",
        ),
        ("SELECT DISTINCT id, tenure, churn FROM landed", "SELECT tenure FROM landed"),
        ("SELECT * FROM landed", "SELECT * EXCLUDE (churn, id) FROM landed"),
        (
            "SELECT * EXCLUDE (tenure), tenure + 1 AS t FROM landed",
            "SELECT * EXCLUDE (tenure, churn, id), tenure + 1 AS t FROM landed",
        ),
        ("SELECT id, churn, * EXCLUDE (id, churn) FROM landed", "SELECT * EXCLUDE (id, churn) FROM landed"),
        ("SELECT id, tenure, churn FROM landed WHERE churn IS NOT NULL", "SELECT tenure FROM landed"),
        (
            "SELECT id, tenure, churn FROM landed WHERE churn <> '' AND tenure > 0",
            "SELECT tenure FROM landed WHERE tenure > 0",
        ),
    ],
)
def test_scoring_needs_neither_label_nor_key_nor_filters_on_the_label(sql: str, expected: str) -> None:
    assert scoring_sql(sql, "churn", "id") == expected


def test_a_computed_label_takes_its_column_out_of_the_filter() -> None:
    sql = "SELECT id, tenure, churn = 'Yes' AS leaves FROM landed WHERE churn IN ('Yes', 'No') AND tenure > 0"
    assert scoring_sql(sql, "leaves", "id") == "SELECT tenure FROM landed WHERE tenure > 0"


def test_a_query_that_is_not_row_wise_cannot_score() -> None:
    with pytest.raises(Rejected, match="cannot score raw rows"):
        scoring_sql("SELECT id, count(*) AS n FROM landed GROUP BY id", "n", "id")


@pytest.mark.parametrize(
    ("sql", "passed_on"),
    [
        ("SELECT DISTINCT id, tenure + 1 FROM landed", True),
        ("SELECT l.id FROM landed AS l", True),
        ("SELECT * FROM landed", True),
        ("SELECT * REPLACE (tenure + 1 AS tenure) FROM landed", True),
        ("SELECT * EXCLUDE (id), id FROM landed", True),
        ("SELECT upper(id) AS id FROM landed", False),
        ("SELECT churn AS id, id AS churn FROM landed", False),
        ("SELECT * REPLACE (upper(id) AS id) FROM landed", False),
        ("SELECT * EXCLUDE (id), upper(id) AS id FROM landed", False),
        ("SELECT *, upper(id) AS id FROM landed", False),
        ("SELECT id, COLUMNS('churn') FROM landed", False),
        ("SELECT id, count(*) AS n FROM landed GROUP BY id", False),
        ("SELECT id, age(since, until) AS t FROM landed", True),
        ("SELECT id, regexp_split_to_table(colour, 'e') AS part FROM landed", False),
        ("SELECT * FROM landed UNPIVOT (value FOR name IN (a, b))", False),
        ("SELECT id, a FROM landed AS l(a, id)", False),
        ("SELECT tenure FROM landed", False),
    ],
)
def test_a_key_that_the_query_leaves_as_it_landed_is_known(sql: str, passed_on: bool) -> None:
    assert passes_on(sql, "id") is passed_on


def test_a_query_without_its_distinct_is_otherwise_the_same() -> None:
    assert without_distinct("SELECT DISTINCT id, tenure FROM landed;") == "SELECT id, tenure FROM landed"
    assert without_distinct("-- as it is\nSELECT id  FROM landed ;") == "-- as it is\nSELECT id  FROM landed"
