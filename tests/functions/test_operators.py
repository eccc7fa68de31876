"""What people ask for over HTTP: which bodies are taken, and which are refused before they do any harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import azure.functions as func
import pytest

from functions.http_approve import http_approve
from functions.http_drift import http_drift
from functions.http_freeze import http_freeze
from functions.http_pin import http_pin
from functions.http_retrain import http_retrain
from functions.http_rollback import http_rollback
from shared import bootstrap
from shared.domain.signals import ApprovalGiven, FreezeRequested, PinRequested, Signal
from tests.functions.test_trigger_functions import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.pipeline("churn")
    bootstrap.use(world.loop)
    yield world
    bootstrap.use(None)


def post(function: Any, body: object) -> tuple[int, dict[str, Any]]:
    """The status and the answer of an operator's function for a body, given as JSON text or as what it holds."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = func.HttpRequest("POST", "/", headers={}, params={}, route_params={"name": "churn"}, body=raw)
    answer = function(request)
    return answer.status_code, json.loads(answer.get_body())


def asked(world: World) -> Signal:
    (signal,) = world.sent()
    return signal


@pytest.mark.parametrize("value", ["false", "no", 0, 1, None, [], {}])
@pytest.mark.parametrize(("function", "field"), [(http_approve, "approved"), (http_freeze, "frozen")])
def test_only_true_and_false_are_taken_for_yes_and_no(world: World, function: Any, field: str, value: object) -> None:
    body = {field: value, **({"version": "2"} if field == "approved" else {})}
    status, answer = post(function, body)
    assert status == 400
    assert f"'{field}' of the request body must be true or false" in answer["error"]["message"]
    assert world.sent() == []


def test_false_turns_down_and_thaws(world: World) -> None:
    assert post(http_approve, {"version": "2", "approved": False})[0] == 202
    assert cast(ApprovalGiven, asked(world)).approved is False
    assert post(http_freeze, {"frozen": False})[0] == 202
    assert cast(FreezeRequested, asked(world)).frozen is False


@pytest.mark.parametrize("function", [http_approve, http_pin, http_rollback])
@pytest.mark.parametrize("version", [None, True, 2.5, ["2"], {"version": "2"}])
def test_a_version_is_a_text_or_a_whole_number(world: World, function: Any, version: object) -> None:
    status, answer = post(function, {"version": version})
    assert status == 400
    assert "'version' of the request body must be a text or a whole number" in answer["error"]["message"]
    assert world.sent() == []


def test_a_version_may_be_a_number(world: World) -> None:
    assert post(http_pin, {"version": 2, "request": 7})[0] == 202
    signal = cast(PinRequested, asked(world))
    assert (signal.version, signal.request) == ("2", "7")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"no json", b"\xff", b"[]"])
def test_a_body_that_is_no_object_is_refused_however_deep(world: World, body: bytes) -> None:
    status, answer = post(http_freeze, body)
    assert (status, answer["error"]["code"]) == (400, "Rejected")
    assert world.sent() == []


def test_a_repeated_request_to_look_for_drift_is_one_request(world: World) -> None:
    keys = set()
    for _ in range(2):
        status, answer = post(http_drift, {"request": "r1"})
        assert status == 202
        keys.add(answer["signal"])
        world.clock.advance(timedelta(seconds=5))
    assert keys == {"DriftCheckDue:churn/r1"}


@pytest.mark.parametrize("function", [http_approve, http_drift, http_freeze, http_pin, http_retrain, http_rollback])
def test_who_asked_for_it_and_why_goes_with_the_request(world: World, function: Any) -> None:
    body = {"by": "ada", "reason": "a new price list", **({"version": "2"} if function is http_approve else {})}
    assert post(function, body)[0] == 202
    signal: Any = asked(world)
    assert (signal.by, signal.reason) == ("ada", "a new price list")
