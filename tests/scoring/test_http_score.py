"""The function itself, as the Functions worker calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import azure.functions as func
import pytest

from functions.http_score import http_score
from shared import bootstrap
from shared.errors import Transient
from shared.http_scoring import MAX_BYTES
from shared.loop import Loop

ROW = [3, 70.5, "month", True, "2021-02-03T00:00:00"]


@pytest.fixture(autouse=True)
def served(loop: Loop) -> Iterator[None]:
    bootstrap.use(loop)
    yield
    bootstrap.use(None)


def post(body: Any, name: str = "customer-churn", **headers: str) -> tuple[func.HttpResponse, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = func.HttpRequest(
        "POST", f"/api/pipelines/{name}/score", body=raw, route_params={"name": name},
        headers={key.replace("_", "-"): value for key, value in headers.items()},
    )  # fmt: skip
    response = http_score.build().get_user_function()(request)
    return response, json.loads(response.get_body())


def test_rows_are_answered_with_who_answered_in_the_headers() -> None:
    response, body = post({"data": [ROW]}, x_request_id="abc")
    assert response.status_code == 200
    assert body["predictions"] == ["Yes"]
    assert body["request_id"] == response.headers["x-request-id"] == "abc"
    assert response.headers["x-landfall-model-version"] == "1"
    assert response.headers["x-landfall-deployment"] == "v1"


@pytest.mark.parametrize("header", ["azureml_model_deployment", "x_landfall_deployment"])
def test_a_header_chooses_the_deployment(header: str) -> None:
    response, body = post({"data": [ROW]}, **{header: "v2"})
    assert body["deployment"] == response.headers["x-landfall-deployment"] == "v2"


def test_a_request_without_an_id_gets_one_and_an_unfit_id_is_replaced() -> None:
    ids = {post({"data": [ROW]})[1]["request_id"] for _ in range(2)}
    ids.add(post({"data": [ROW]}, x_request_id="x" * 101)[1]["request_id"])
    ids.add(post({"data": [ROW]}, x_request_id="a\r\nb")[1]["request_id"])
    assert len(ids) == 4
    assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("customer-churn", b"not json", 400, "InvalidRequest"),
        ("customer-churn", b"\xff\xfe", 400, "InvalidRequest"),
        ("customer-churn", b"[" * 100_000, 400, "InvalidRequest"),
        ("customer-churn", b'{"data": [[NaN, 1, "month", true, "2021-02-03"]]}', 400, "InvalidRequest"),
        ("customer-churn", b'{"data": [[' + b"9" * 5_000 + b"]]}", 400, "InvalidRequest"),
        ("customer-churn", {"data": [["x", *ROW[1:]]]}, 400, "InvalidRequest"),
        ("customer-churn", {"data": [ROW] * 10_001}, 413, "TooLarge"),
        ("customer-churn", b" " * (MAX_BYTES + 1), 413, "TooLarge"),
        ("nobody", {"data": [ROW]}, 404, "NotFound"),
        ("../nobody", {"data": [ROW]}, 404, "NotFound"),
        ("idle", {"data": [ROW]}, 409, "Refused"),
    ],
)
def test_what_cannot_be_answered_says_why(name: str, body: Any, status: int, code: str) -> None:
    response, answer = post(body, name)
    assert response.status_code == status
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert "Traceback" not in response.get_body().decode()


def test_faults_name_row_and_column() -> None:
    _, body = post({"data": [ROW, ["x", *ROW[1:]]]})
    assert body["error"]["faults"] == [
        {"row": 1, "column": "tenure", "value": "x", "expected": "int", "problem": "must be a whole number"}
    ]


class Down:
    """Endpoints that fail when they are asked."""

    def __init__(self, loop: Loop, error: Exception) -> None:
        self.routes = loop.ports.endpoints.routes
        self._error = error

    def score(self, *args: Any, **options: Any) -> Any:
        raise self._error


def test_a_deployment_that_does_not_answer_is_asked_again_later_and_logged_as_an_error(loop: Loop) -> None:
    down = replace(loop.ports, endpoints=Down(loop, Transient("no answer")))  # type: ignore[arg-type]
    bootstrap.use(replace(loop, ports=down))
    response, _ = post({"data": [ROW]}, x_request_id="down")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    loop.predictions.flush()
    now = loop.ports.clock.now()
    logged = {r.request_id: r.error for r in loop.predictions.window("customer-churn", now, now.replace(hour=23))}
    assert logged["down"] == "Transient: no answer"


def test_an_unexpected_error_is_logged_under_its_request_and_not_shown(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    down = replace(loop.ports, endpoints=Down(loop, ZeroDivisionError("secret")))  # type: ignore[arg-type]
    bootstrap.use(replace(loop, ports=down))
    response, body = post({"data": [ROW]}, x_request_id="crash")
    assert response.status_code == 500
    assert "secret" not in response.get_body().decode()
    assert "crash" in body["error"]["message"]
    assert "crash" in caplog.text and "ZeroDivisionError" in caplog.text
