"""Every short way of a scoring request against the long one."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import fast_json
from shared.domain.signature import SignatureColumn
from shared.errors import InvalidRequest
from shared.ports.endpoint_service import Route
from shared.scoring import values as value_checks
from shared.scoring.faults import Faults
from shared.scoring.model_input import ModelInput, rows_of

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just("\ud800"),
    st.floats(1e307, 1.7e308), st.sampled_from(["2024-01-01", 0, 1, 1.0, -1e308]),
)  # fmt: skip
COLUMNS = st.lists(
    st.tuples(st.sampled_from(["string", "int", "double", "boolean", "date", "timestamp", "any"]), st.booleans()),
    min_size=1, max_size=4,
)  # fmt: skip


@given(st.data())
def test_columns_that_are_looked_at_as_one_pass_as_each_would(data: st.DataObject) -> None:
    signature = [SignatureColumn(f"c{i}", type_, required) for i, (type_, required) in enumerate(data.draw(COLUMNS))]
    fitting = {"string": st.text(max_size=2), "int": st.integers(-5, 5), "double": st.floats(-9, 9)}
    columns = [
        data.draw(st.lists(fitting.get(c.type, VALUES) if data.draw(st.booleans()) else VALUES, min_size=2, max_size=2))
        for c in signature
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]

    def one_by_one() -> list[tuple[Any, ...]]:
        faults = Faults()
        checked = [value_checks.check(c, values, faults) for c, values in zip(signature, columns, strict=True)]
        faults.first.sort(key=lambda fault: str(fault.get("row", "")).zfill(6))
        faults.check()
        return list(zip(*checked, strict=True))

    assert outcome(lambda: value_checks.valid(signature, columns)) == outcome(one_by_one)
    assert outcome(lambda: value_checks.valid(signature, columns, rows)) == outcome(one_by_one)


def outcome(work: Any) -> object:
    try:
        return repr([tuple(row) for row in work()])
    except InvalidRequest as error:
        return str(error), error.faults


@given(st.lists(st.floats()))
def test_a_sum_tells_whether_all_numbers_are_finite_or_leaves_it_to_a_look_at_each(values: list[float]) -> None:
    """A sum of finite numbers may be too large for a number: then each is looked at."""
    if value_checks._finite(values):
        assert all(map(math.isfinite, values))


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=12,
)


@given(TREES)
def test_json_is_read_as_the_standard_library_reads_it(tree: Any) -> None:
    text = json.dumps(tree)
    assert repr(fast_json.loads(text)) == repr(json.loads(text))
    assert repr(fast_json.loads(text.encode())) == repr(json.loads(text.encode()))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nul", b'{"a": 1,}', b"\xff\xfe", b"[1] [2]", b'"\xed\xa0\x80"', b"[" * 100_000]
)
def test_what_is_no_json_is_refused_in_the_same_words(text: bytes) -> None:
    def read(loads: Any) -> str:
        try:
            return repr(loads(text))
        except (ValueError, RecursionError) as error:
            return f"{type(error).__name__}: {error}"

    assert read(fast_json.loads) == read(json.loads)


@given(TREES.filter(lambda tree: "nan" not in repr(tree) and "inf" not in repr(tree)))
def test_json_is_written_so_that_the_same_is_read(tree: Any) -> None:
    assert json.loads(fast_json.dumps(tree)) == json.loads(json.dumps(tree))


def test_json_has_whatever_the_log_may_hold() -> None:
    record = {"at": datetime(2026, 1, 1, 12, 0, 0, 7, tzinfo=UTC), "rows": [(2**70, Decimal("1.5"), "\ud800")]}
    plain = {"at": "2026-01-01T12:00:00.000007+00:00", "rows": [[2**70, "1.5", "\ud800"]]}

    def text(value: Any) -> str:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    assert json.loads(fast_json.dumps(record, default=text)) == plain
    for part in ({"at": record["at"]}, {"d": Decimal("1.5")}):
        assert json.loads(fast_json.dumps(part, default=text)) == json.loads(json.dumps(part, default=text))
    assert fast_json.dumps([math.nan, math.inf]) == b"[null,null]"


@given(
    st.lists(st.lists(st.one_of(st.floats(-9, 9), st.integers(-9, 9), VALUES), min_size=2, max_size=2), min_size=1),
    st.booleans(),
)
def test_rows_of_one_type_are_taken_as_they_are_or_looked_at_by_columns(rows: list[list[Any]], required: bool) -> None:
    signature = tuple(SignatureColumn(name, "double", required) for name in ("a", "b"))
    version = ModelInput(Route("v1", "m", "1", 100), signature)
    assert version.alike
    loop: Any = None
    by_position = outcome(lambda: rows_of(loop, loop, version, {"data": rows})[1])
    assert by_position == outcome(lambda: value_checks.valid(signature, list(zip(*rows, strict=True))))
