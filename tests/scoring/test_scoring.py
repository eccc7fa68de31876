"""Requests of every form, right and wrong, against real models."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidRequest, Missing, Refused
from shared.loop import Loop
from shared.scoring.answering import score
from shared.scoring.faults import MAX_FAULTS
from shared.scoring.request_forms import MAX_ROWS, TooManyRows
from tests.scoring.models import COLUMNS, customers, landed

ROW = [3, 70.5, "month", True, "2021-02-03T00:00:00"]
RECORD = dict(zip(COLUMNS, ROW, strict=True))
RAW = {"customer_id": "c1", "months": 3, "cents": 7050, "contract": "month", "senior": True, "since": "2021-02-03"}


def ask(loop: Loop, payload: Any, name: str = "customer-churn", **options: Any) -> dict[str, Any]:
    return score(loop, name, payload, request_id="r1", **options)


def faults(loop: Loop, payload: Any, name: str = "customer-churn") -> tuple[dict[str, Any], ...]:
    with pytest.raises(InvalidRequest) as caught:
        ask(loop, payload, name)
    json.dumps(caught.value.faults, allow_nan=False)
    return caught.value.faults


FORMS = {
    "data": {"data": [ROW, ROW]},
    "records": {"dataframe_records": [RECORD, RECORD]},
    "split": {"dataframe_split": {"columns": list(COLUMNS), "data": [ROW, ROW]}},
    "split with an index": {"dataframe_split": {"index": [7, 8], "columns": list(COLUMNS), "data": [ROW, ROW]}},
    "inputs as records": {"inputs": [RECORD, RECORD]},
    "inputs as columns": {"inputs": {name: [value, value] for name, value in RECORD.items()}},
    "inputs as lists": {"inputs": [ROW, ROW]},
    "columns in another order": {"dataframe_records": [dict(reversed(RECORD.items()))] * 2},
    "key and label beside the features": {"dataframe_records": [{**RECORD, "customer_id": "c1", "churn": "?"}] * 2},
    "landed columns": {"dataframe_records": [RAW, RAW]},
    "landed columns with the label": {"dataframe_records": [{**RAW, "churn": None}] * 2},
    "landed columns without the key": {"dataframe_records": [{k: v for k, v in RAW.items() if k != "customer_id"}] * 2},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_answer(loop: Loop, form: str) -> None:
    answer = ask(loop, FORMS[form])
    assert answer == ask(loop, FORMS["data"])
    assert answer["predictions"] == ["Yes", "Yes"]
    assert answer["classes"] == ["No", "Yes"]
    assert [sum(row) for row in answer["probabilities"]] == pytest.approx([1, 1])
    assert answer["model"] == {"name": "customer-churn", "version": "1"}
    assert (answer["deployment"], answer["request_id"]) == ("v1", "r1")


def test_values_may_be_null_where_training_had_nulls(loop: Loop) -> None:
    given_null = ask(loop, {"dataframe_records": [{**RECORD, "contract": None}]})
    left_out = ask(loop, {"dataframe_records": [{k: v for k, v in RECORD.items() if k != "contract"}]})
    assert given_null == left_out
    raw = {k: v for k, v in RAW.items() if k != "contract"}
    assert ask(loop, {"dataframe_records": [raw]}) == given_null


def test_a_whole_number_is_a_double_and_a_double_that_is_whole_an_int(loop: Loop) -> None:
    assert ask(loop, {"data": [[3.0, 70, *ROW[2:]]]}) == ask(loop, {"data": [[3, 70.0, *ROW[2:]]]})


def test_a_time_with_an_offset_is_the_same_time_in_utc(loop: Loop) -> None:
    assert ask(loop, {"data": [[*ROW[:4], "2021-02-03T02:00:00+02:00"]]}) == ask(loop, {"data": [ROW]})


def test_a_regression_answers_without_probabilities(loop: Loop) -> None:
    answer = ask(loop, {"data": [[3, 70.5]]}, "spend")
    assert answer["predictions"] == [pytest.approx(846)]
    assert answer["probabilities"] is None and answer["classes"] is None


@pytest.mark.parametrize(
    ("value", "column", "problem"),
    [
        ("3", 0, "must be a whole number"),
        (True, 0, "must be a whole number"),
        (2.5, 0, "must be a whole number"),
        (2**63, 0, "beyond the range"),
        (10**400, 0, "beyond the range"),
        (None, 0, "a value is required"),
        ([3], 0, "must be a whole number"),
        ("70.5", 1, "must be a number"),
        (math.nan, 1, "must be a finite number"),
        (-math.inf, 1, "must be a finite number"),
        (10**400, 1, "beyond the range of a double"),
        (False, 1, "must be a number"),
        (7, 2, "must be text"),
        ("\ud800", 2, "half of a surrogate pair"),
        (1, 3, "must be true or false"),
        ("true", 3, "must be true or false"),
        ("yesterday", 4, "must be a time"),
        (1612310400, 4, "must be a time"),
        ("0001-01-01T00:00:00+05:00", 4, "beyond the calendar"),
    ],
)
def test_a_wrong_value_is_named_with_its_row_and_column(loop: Loop, value: Any, column: int, problem: str) -> None:
    wrong = list(ROW)
    wrong[column] = value
    (fault,) = faults(loop, {"data": [ROW, wrong]})
    assert (fault["row"], fault["column"]) == (1, COLUMNS[column])
    assert problem in fault["problem"]
    assert {"value", "expected"} <= fault.keys()


def test_every_wrong_value_is_named_in_the_order_of_rows_up_to_a_limit(loop: Loop) -> None:
    found = faults(loop, {"data": [["x", "y", *ROW[2:]]] * 80})
    assert len(found) == MAX_FAULTS
    assert [(f["row"], f["column"]) for f in found[:3]] == [(0, "tenure"), (0, "monthly"), (1, "tenure")]
    with pytest.raises(InvalidRequest, match=r"row 0, column tenure: .*\(and 159 more\)"):
        ask(loop, {"data": [["x", "y", *ROW[2:]]] * 80})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, "must be a JSON object"),
        ([ROW], "must be a JSON object"),
        ({}, "is empty: it must have exactly one of data"),
        ({"data": [ROW], "inputs": [ROW]}, "has data and inputs"),
        ({"date": [ROW]}, "unknown key date; did you mean data?"),
        ({"data": [ROW], "params": {}}, "unknown key params"),
        ({"data": []}, "data has no rows"),
        ({"data": "abc"}, "data must be a list of rows"),
        ({"data": ROW}, "row 0: must be a list of 5 values"),
        ({"data": [ROW, ROW[:3]]}, "row 1: has 3 values instead of 5"),
        ({"data": [[]]}, "row 0: has 0 values instead of 5"),
        ({"dataframe_records": {}}, "dataframe_records must be a list"),
        ({"dataframe_records": [RECORD, ROW]}, "row 1: must be an object"),
        ({"dataframe_records": [{}]}, "have no columns"),
        ({"dataframe_split": {"data": [ROW]}}, "must be an object with columns and data"),
        ({"dataframe_split": {"columns": ["tenure"] * 5, "data": [ROW]}}, "names tenure twice"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, "must be a list of names"),
        ({"dataframe_split": {"columns": list(COLUMNS), "data": []}}, "has no rows"),
        ({"dataframe_split": {"columns": list(COLUMNS), "data": [[1]]}}, "has 1 values instead of 5"),
        ({"inputs": {}}, "inputs has no columns"),
        ({"inputs": {"tenure": 3}}, "must be a list with a value per row"),
        ({"inputs": {"tenure": [3], "monthly": []}}, "has 0 values, the first column has 1"),
        ({"inputs": {"tenure": [], "monthly": []}}, "has no rows"),
        ({"inputs": [RECORD, 3]}, "row 1: must be an object"),
        ({"dataframe_records": [{**RECORD, "tenur": 1}]}, "column tenur: there is no such column; did you mean tenure"),
        ({"dataframe_records": [{"tenure": 3, "monthly": 1.0}]}, "column senior: the column is missing"),
        ({"dataframe_records": [{"months": 3, "cents": 1}]}, "column senior: the landed column is missing"),
        ({"dataframe_records": [{**RAW, "monthly": 70.5}]}, "column monthly: send the model's columns or the landed"),
        ({"dataframe_records": [{**RAW, "cent": 1}]}, "column cent: there is no such column; did you mean cents"),
        ({"dataframe_records": [{**RAW, "months": "three"}]}, "row 0, column months: 'three' is no int"),
        ({"dataframe_records": [RAW, {**RAW, "months": 200}]}, "row 1: features.sql keeps only rows where months"),
        ({"dataframe_records": [{**RAW, "contract": "\udfff"}]}, "half of a surrogate pair"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_read_says_why(loop: Loop, payload: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("(", r"\(").replace("?", r"\?")):
        ask(loop, payload)


def test_raw_rows_are_refused_where_features_sql_looks_at_other_rows(loop: Loop) -> None:
    with pytest.raises(InvalidRequest, match=r"aggregates, joins, sorts or looks at other rows.*tenure, monthly"):
        ask(loop, {"dataframe_records": [RAW]}, "rule")
    assert ask(loop, {"data": [ROW]}, "rule")["predictions"] == ["Yes"]


def test_more_rows_than_a_request_may_have_are_sent_to_batch_scoring(loop: Loop) -> None:
    with pytest.raises(TooManyRows, match="batch scoring"):
        ask(loop, {"data": [ROW] * (MAX_ROWS + 1)})
    assert len(ask(loop, {"data": [ROW] * MAX_ROWS})["predictions"]) == MAX_ROWS


def test_a_deployment_can_be_chosen_whatever_its_traffic(loop: Loop) -> None:
    answer = ask(loop, {"data": [ROW]}, deployment="v2")
    assert (answer["deployment"], answer["model"]["version"]) == ("v2", "2")


def test_requests_follow_the_split_and_say_who_answered(loop: Loop) -> None:
    loop.ports.endpoints.set_traffic("customer-churn", {"v1": 50, "v2": 50})
    try:
        versions = Counter(ask(loop, {"data": [ROW]})["model"]["version"] for _ in range(60))
    finally:
        loop.ports.endpoints.set_traffic("customer-churn", {"v1": 100})
    # 60 fair coins: fewer than 10 of a side has a chance of 1 in 10 million.
    assert min(versions["1"], versions["2"]) >= 10


def test_what_does_not_exist_is_missing_and_what_does_not_serve_is_refused(loop: Loop) -> None:
    with pytest.raises(Missing, match="nobody"):
        ask(loop, {"data": [ROW]}, "nobody")
    with pytest.raises(Missing, match="no deployment v9: it has v1, v2"):
        ask(loop, {"data": [ROW]}, deployment="v9")
    with pytest.raises(Refused, match="idle has no live model yet"):
        ask(loop, {"data": [ROW]}, "idle")
    with pytest.raises(Refused, match=r"v1 of endpoint broken failed: .*model.pkl"):
        ask(loop, {"data": [[1, 2]]}, "broken", deployment="v1")


def test_features_and_landed_rows_of_the_same_customers_are_answered_alike(loop: Loop) -> None:
    frame = customers(500, seed=9)
    raw = landed(frame)
    features = json.loads(frame.to_json(orient="split", date_format="iso"))
    records = json.loads(raw.to_json(orient="records", date_format="iso"))
    given_features = ask(loop, {"dataframe_split": features})
    given_raw = ask(loop, {"dataframe_records": records})
    assert given_raw["predictions"] == given_features["predictions"]
    assert len(set(given_raw["predictions"])) == 2


KEYED = {
    "model's columns": {"dataframe_records": [{**RECORD, "customer_id": "c1"}, {**RECORD, "customer_id": "c2"}]},
    "landed columns": {"inputs": [{**RAW, "customer_id": "c1"}, {**RAW, "customer_id": "c2"}]},
    "columns": {"inputs": {**{n: [v, v] for n, v in RECORD.items()}, "customer_id": ["c1", "c2"]}},
    "split": {"dataframe_split": {"columns": [*COLUMNS, "customer_id"], "data": [[*ROW, "c1"], [*ROW, "c2"]]}},
    "beside lists": {"data": [ROW, ROW], "keys": ["c1", "c2"]},
    "beside names": {"dataframe_records": [RECORD, RECORD], "keys": ["c1", "c2"]},
    "none": {"data": [ROW, ROW]},
    "second row alone": {"dataframe_records": [RECORD, {**RECORD, "customer_id": "c2"}]},
}
LOGGED = {"none": None, "second row alone": [None, "c2"]}


@pytest.mark.parametrize("form", KEYED)
def test_the_key_of_each_row_is_logged_wherever_a_request_names_it(loop: Loop, form: str) -> None:
    answer = score(loop, "customer-churn", KEYED[form], request_id=f"keyed {form}")
    assert answer["predictions"] == ["Yes", "Yes"]
    loop.predictions.flush()
    now = loop.ports.clock.now()
    logged = loop.predictions.window("customer-churn", now - timedelta(hours=1), now + timedelta(seconds=1))
    (request,) = (request for request in logged if request.request_id == f"keyed {form}")
    assert request.keys == LOGGED.get(form, ["c1", "c2"])
    assert request.columns == list(COLUMNS)


@pytest.mark.parametrize("keys", [["c1"], "c1", {"c1": 1}])
def test_keys_that_are_not_one_a_row_are_refused(loop: Loop, keys: Any) -> None:
    assert faults(loop, {"data": [ROW, ROW], "keys": keys}) == ({"field": "keys", "problem": "not a key for each row"},)


def test_request_and_answer_are_logged(loop: Loop) -> None:
    loop.ports.clock.advance(timedelta(hours=3))  # type: ignore[attr-defined]
    at = loop.ports.clock.now()
    answer = score(loop, "customer-churn", {"data": [ROW]}, request_id="logged")
    with pytest.raises(InvalidRequest):
        score(loop, "customer-churn", {"data": [["x", *ROW[1:]]]}, request_id="refused")
    loop.predictions.flush()
    (request,) = loop.predictions.window("customer-churn", at, at + timedelta(seconds=1))
    assert (request.request_id, request.deployment, request.version) == ("logged", "v1", "1")
    assert (request.columns, request.rows) == (list(COLUMNS), [ROW])
    assert request.predictions == answer["predictions"]
    assert request.probability == [answer["probabilities"][0][1]]
    assert request.milliseconds > 0 and request.error is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CELL = JSON | st.sampled_from(ROW)
NAMES = st.sampled_from([*COLUMNS, *RAW, "churn", "other"])
ROWS = st.lists(st.tuples(*[st.just(v) | CELL for v in ROW]).map(list) | st.lists(CELL, max_size=6) | JSON, max_size=3)
RECORDS = st.lists(
    st.dictionaries(NAMES, CELL, max_size=6)
    | st.tuples(st.just(RECORD), st.dictionaries(NAMES, CELL, max_size=2)).map(lambda two: {**two[0], **two[1]})
    | st.tuples(st.just(RAW), st.dictionaries(NAMES, CELL, max_size=2)).map(lambda two: {**two[0], **two[1]}),
    max_size=3,
)
PAYLOAD = (
    JSON
    | st.fixed_dictionaries({"data": ROWS})
    | st.fixed_dictionaries({"dataframe_records": RECORDS})
    | st.fixed_dictionaries({"inputs": ROWS | RECORDS | st.dictionaries(NAMES, st.lists(CELL, max_size=2) | JSON)})
    | st.fixed_dictionaries(
        {"dataframe_split": st.fixed_dictionaries({"columns": st.lists(NAMES | JSON, max_size=6), "data": ROWS | JSON})}
    )
    | st.dictionaries(st.sampled_from(["data", "inputs", "dataframe_records", "other"]), JSON, max_size=2)
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PAYLOAD)
def test_any_json_is_answered_or_refused_in_words(loop: Loop, payload: Any) -> None:
    try:
        answer = ask(loop, payload)
    except InvalidRequest as error:
        assert str(error)
        json.dumps(error.faults, allow_nan=False)
    else:
        json.dumps(answer, allow_nan=False)
        assert len(answer["predictions"]) >= 1
