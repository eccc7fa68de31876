"""Requests that are numbers alone: read into a matrix, they are answered, refused and logged as by the long way."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import fast_json
from shared.errors import InvalidRequest
from shared.ports.endpoint_service import Route
from shared.ports.model_registry import SignatureColumn
from shared.predictions import prediction_log
from shared.scoring import number_rows
from shared.scoring.model_input import ModelInput, RawInput, rows_of
from shared.scoring.request_forms import MAX_ROWS, keys_of

NAMES = ("a", "b")
SIGNATURE = tuple(SignatureColumn(name, "double", required=True) for name in NAMES)
VERSION = ModelInput(Route("v1", "m", "1", 100), SIGNATURE, raw=RawInput({"id": "int"}))

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(1 - 2**53, 2**53 - 1).map(str),
    st.sampled_from(["0", "-0", "-0.0", "1E2", "1e-400", "2.2250738585072011e-308",
                     "0.1000000000000000055511151231257"]),
)  # fmt: skip
ODD = st.sampled_from(
    ["null", "true", '"a"', "[1]", "[]", "{}", '{"a": 1, "b": 2}', "NaN", "-Infinity", "1e400", "01", "1.", "+1", "",
     "9007199254740993", "18446744073709551615", "18446744073709551616", "1" * 400, "1 2", '"]]"', '"\\ud800"']
)  # fmt: skip
SPACE = st.sampled_from(["", " ", "\n", "\r\n\t", "\x0b"])
PLAIN = st.sampled_from(
    ['{"data": ROWS}', '{"inputs": ROWS}', '{"data": ROWS, "keys": KEYS}', '{"keys": KEYS, "inputs": ROWS}',
     '{"dataframe_split": {"columns": COLUMNS, "data": ROWS}}',
     '{"dataframe_split": {"data": ROWS, "columns": COLUMNS}}',
     '{"keys": KEYS, "dataframe_split": {"data": ROWS, "columns": COLUMNS}}']
)  # fmt: skip
FORMS = st.one_of(PLAIN, PLAIN, st.sampled_from(
    ['{"d\\u0061ta": ROWS}', "ROWS",
     '{"data": ROWS, "data": [[1, 2]]}', '{"data": [[1, 2]], "data": ROWS}', '{"data": ROWS, "inputs": ROWS}',
     '{"dataframe_split": {"columns": COLUMNS, "data": ROWS, "index": KEYS}}', '{"dataframe_split": ROWS}',
     '{"dataframe_split": {"data": [[1, 2]], "columns": COLUMNS, "data": ROWS}}',
     '{"dataframe_split": ["columns", "data"]}',
     '\ufeff{"data": ROWS}', '{"data": ROWS} {}', '{"data": ROWS,}', '{"data": ROWS', '{"date": ROWS}', '{"data": ROW}',
     '{"data": {"a": ROW}}', '{"inputs": {"a": ROW, "b": ROW}}', '{"data": [{"a": 1, "b": 2}]}', '{"data": [ROWS]}']
))  # fmt: skip
COLUMNS = st.one_of(st.just('["a", "b"]'), st.sampled_from(
    ['["b", "a"]', '["a"]', '["a", "b", "c"]', '["a", "a"]', '["a", "id"]', '["]]", "[["]',
     '["a", ["b"]]', '["a", 1]', "[]", '"ab"', "null"]
))  # fmt: skip
KEYS = st.sampled_from(
    ['["k", "l"]', "[1, 2]", "[1.5, 18446744073709551616]", '["]]", 2]', "null", '{"k": 1}', "[[1], [2]]", "[]", "[3]",
     '[{"a": 1, "a": 2}, null]', "1", "[true, false]"]
)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    space = draw(SPACE) if draw(st.booleans()) else ""

    def listed(values: list[str]) -> str:
        return f"[{space}{f'{space},'.join(values)}{space}]"

    odd = draw(st.sampled_from([NUMBERS, NUMBERS, NUMBERS, st.one_of(NUMBERS, ODD)]))
    width = draw(st.sampled_from([2, 2, 2, 1, 3]))
    widths = [width] * 2 if draw(st.integers(0, 4)) else [width, 5 - width]
    rows = [listed([draw(odd) for _ in range(n)]) for n in widths]
    text = draw(FORMS).replace("ROWS", listed(rows)).replace("ROW", rows[0])
    text = text.replace("COLUMNS", draw(COLUMNS)).replace("KEYS", draw(KEYS))
    return text.encode(draw(st.sampled_from(["utf-8"] * 9 + ["utf-16"])), "surrogatepass")


@pytest.fixture(autouse=True, scope="module")
def of_any_length() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_rows, "FEWEST_BYTES", 0)
        patch.setattr(number_rows, "LONGEST_NUMBER", 200)
        yield


def outcome(payload: Any) -> tuple[Any, ...]:
    """What the model gets, and the log keeps; or what the caller is told."""
    nothing: Any = None
    folder: Any = SimpleNamespace(pipeline=SimpleNamespace(features=SimpleNamespace(key="id", label="label")))
    try:
        columns, rows = rows_of(nothing, folder, VERSION, payload)
        keys = keys_of(payload, "id", len(rows))
    except InvalidRequest as error:
        return str(error), error.faults
    matrix = np.asarray(rows, dtype="float64")
    written = json.loads(fast_json.dumps({"rows": rows, "keys": keys}, default=prediction_log._plain))
    return columns, matrix.shape, matrix.tobytes(), written, [list(row) for row in rows], keys


@given(bodies())
def test_both_ways_give_the_same(body: bytes) -> None:
    request = number_rows.read(body)
    try:
        payload = fast_json.loads(body)
    except (ValueError, RecursionError):
        assert request is None
        return
    if request is not None:
        short, long = outcome(request), outcome(payload)
        assert short == long
        # The log has each number as it came, 1 as 1 and 1.0 as 1.0.
        assert len(short) == 2 or repr(short[3]) == repr(long[3])


@pytest.mark.parametrize(
    "body",
    [{"data": [[1, 2.5]] * 500}, {"inputs": [[-1, 1e9]] * 500, "keys": list(range(500))},
     {"dataframe_split": {"columns": NAMES, "data": [[0.1, 3]] * 500}}],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_numbers_become_a_matrix_in_every_thread(body: Any, indent: int | None) -> None:
    text = json.dumps(body, indent=indent).encode()
    with ThreadPoolExecutor(3) as pool:
        read = list(pool.map(number_rows.read, [text] * 20))
    assert None not in read
    assert {repr(outcome(request)) for request in read} == {repr(outcome(read[0]))}
    assert outcome(read[0]) == outcome(json.loads(text))


@pytest.mark.parametrize(
    "rows", ["[[1, 2]], 3", "[1, 2], [3]", "[1, null], [1, 2]", "[1, 9007199254740993], [1, 2]", "[1, 1e400], [1, 2]",
             '[1, "2"], [1, 2]', "[1, [2]], [1, 2]", "[1, 2], [1, true]", "[], []", "[1," + " " * 999 + "2]"]
)  # fmt: skip
def test_what_may_be_wrong_is_for_the_long_way(rows: str) -> None:
    assert number_rows.read(b'{"data": [%s]}' % rows.encode()) is None


def test_too_many_rows_are_refused_by_the_long_way() -> None:
    request = number_rows.read(json.dumps({"data": [[1, 2]] * (MAX_ROWS + 1)}).encode())
    assert request is not None
    assert outcome(request)[0].startswith(f"data has {MAX_ROWS + 1} rows")


def test_without_the_parser_there_is_the_long_way_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_rows, "_simdjson", lambda: None)
    assert number_rows.read(b'{"data": [[1, 2]]}') is None
