"""The held-out rows are the same for every engine and every run."""

from __future__ import annotations

import duckdb
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.split import is_test, sql_condition, threshold

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SHARES = st.floats(0, 1)
DUCKDB = duckdb.connect()


@given(st.lists(KEYS, min_size=1, max_size=20), SHARES)
def test_duckdb_holds_out_the_same_rows(keys: list[str], share: float) -> None:
    numbered = "select unnest($1) as key, unnest(range(len($1))) as place"
    query = f"select {sql_condition('key', share)} from ({numbered}) order by place"
    found = DUCKDB.execute(query, [keys]).fetchall()
    assert [row[0] for row in found] == [is_test(key, share) for key in keys]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), SHARES)
def test_whole_number_keys_split_by_their_digits(keys: list[int], share: float) -> None:
    for key in keys:
        found = DUCKDB.execute(f"select {sql_condition('$1::bigint', share)}", [key]).fetchone()
        assert found == (is_test(str(key), share),)


@given(KEYS, SHARES, SHARES)
def test_a_larger_share_only_adds_rows(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not is_test(key, small) or is_test(key, large)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_is_kept(share: float) -> None:
    rows = 20_000
    held_out = sum(is_test(f"customer-{number}", share) for number in range(rows))
    spread = (rows * share * (1 - share)) ** 0.5
    assert abs(held_out - rows * share) < 4 * spread


def test_nothing_and_everything_can_be_held_out() -> None:
    keys = [str(number) for number in range(1000)]
    assert not any(is_test(key, 0.0) for key in keys)
    assert all(is_test(key, 1.0) for key in keys)


def test_rows_stay_on_their_side_in_every_release() -> None:
    # md5 of these keys begins with 4e3b1849, 007a04dc, c4ca4238: another split would let customers change sides.
    assert threshold(0.2) == "33333333"
    assert [is_test(key, 0.2) for key in ("7590-VHVEG", "5575-GNVDE", "1")] == [False, True, False]
    assert [is_test(key, 0.5) for key in ("7590-VHVEG", "5575-GNVDE", "1")] == [True, True, False]


def test_spark_gets_a_cast_that_it_knows() -> None:
    spark = sqlglot.transpile(sql_condition("customer_id", 0.2), read="duckdb", write="spark")[0]
    assert "AS STRING" in spark
    assert (
        sqlglot.parse_one(sql_condition("customer_id", 0.2), read="spark").find(sqlglot.exp.Cast).to.this.name == "TEXT"
    )
