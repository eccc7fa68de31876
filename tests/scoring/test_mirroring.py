"""Copies of requests to the version that takes over soon: judged, and in nobody's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.signature import SignatureColumn
from shared.errors import Rejected
from shared.loop import Loop
from shared.predictions.prediction_log import LoggedRequest
from shared.scoring import answering
from shared.scoring.mirroring import WAITING, WAITING_ROWS, Mirror
from shared.scoring.model_input import ModelInput
from tests.scoring.models import COLUMNS

NAME = "customer-churn"
ROW = [3, 70.5, "month", True, "2021-02-03T00:00:00"]


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def mirrored(loop: Loop) -> Iterator[Loop]:
    """Half of the requests to version 1 are copied to version 2."""
    loop.ports.endpoints.set_traffic(NAME, {"v1": 100}, mirror={"v2": 50})
    yield loop
    loop.ports.endpoints.set_traffic(NAME, {"v1": 100})


def logged(loop: Loop, prefix: str) -> list[LoggedRequest]:
    loop.predictions.flush()
    now = loop.ports.clock.now()
    window = loop.predictions.window(NAME, now - timedelta(hours=1), now + timedelta(hours=1))
    return [request for request in window if request.request_id.startswith(prefix)]


def ask(loop: Loop, request_id: str, deployment: str | None = None) -> dict[str, Any]:
    body = {"dataframe_split": {"columns": list(COLUMNS), "data": [ROW]}}
    return answering.score(loop, NAME, body, deployment=deployment, request_id=request_id)


def test_copies_are_logged_as_copies_and_returned_to_nobody(mirrored: Loop) -> None:
    answers = [ask(mirrored, f"copied-{number}") for number in range(100)]
    assert {answer["deployment"] for answer in answers} == {"v1"}
    # 50 % of 100 is 50; five standard deviations are 25.
    until(lambda: len([r for r in logged(mirrored, "copied-") if r.mirrored]) >= 25)
    requests = logged(mirrored, "copied-")
    assert {(r.mirrored, r.version) for r in requests} == {(False, "1"), (True, "2")}
    assert sum(not r.mirrored for r in requests) == 100
    since = mirrored.ports.clock.now() - timedelta(hours=1)
    assert mirrored.predictions.health(NAME, "v2", since, None).requests >= 25


def test_who_names_a_deployment_is_not_copied(mirrored: Loop) -> None:
    for number in range(20):
        ask(mirrored, f"named-{number}", "v1")
    assert not any(request.mirrored for request in logged(mirrored, "named-"))


def test_a_copy_that_the_challenger_refuses_is_an_error_of_its_own(
    mirrored: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 here wants a column that nobody sends."""
    known = answering.model_input

    def wants_more(registry: Any, route: Any) -> Any:
        version = known(registry, route)
        if route.version != "2":
            return version
        new = SignatureColumn("new", "double", required=True)
        return ModelInput(route, (*version.signature, new))

    monkeypatch.setattr(answering, "model_input", wants_more)
    for number in range(40):
        ask(mirrored, f"refused-{number}")
    until(lambda: any(request.mirrored for request in logged(mirrored, "refused-")))
    copies = [request for request in logged(mirrored, "refused-") if request.mirrored]
    assert all(copy.error and "new" in copy.error and copy.deployment == "v2" for copy in copies)
    assert mirrored.predictions.health(NAME, "v2", copies[0].at, None).errors == len(copies)


def test_a_copy_that_the_challenger_cannot_prepare_is_an_error_of_its_own(
    mirrored: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = answering.model_input

    def without_manifest(loop: Any, route: Any) -> Any:
        if route.version == "2":
            raise Rejected("features/churn/r2/manifest.json is no manifest")
        return known(loop, route)

    monkeypatch.setattr(answering, "model_input", without_manifest)
    for number in range(40):
        ask(mirrored, f"unprepared-{number}")
    until(lambda: any(request.mirrored for request in logged(mirrored, "unprepared-")))
    (found, *_) = (request for request in logged(mirrored, "unprepared-") if request.mirrored)
    assert found.error == "Rejected: features/churn/r2/manifest.json is no manifest"


def test_copies_to_a_slow_challenger_are_dropped_and_counted_and_nobody_waits() -> None:
    mirror, slow, made = Mirror(), threading.Event(), []
    mirror.send(lambda: slow.wait(20) and None)
    until(lambda: mirror._waiting.empty())
    begun = time.perf_counter()
    for number in range(WAITING + 7):
        mirror.send(lambda number=number: made.append(number))  # type: ignore[misc]
    assert time.perf_counter() - begun < 1
    assert mirror.dropped == 7
    slow.set()
    until(lambda: len(made) == WAITING)
    assert made == list(range(WAITING))


def test_copies_that_wait_hold_few_rows_in_memory_and_one_of_any_size() -> None:
    mirror, begun, slow, made = Mirror(), threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        slow.wait(20)

    mirror.send(wait)
    assert begun.wait(20)
    for rows in (WAITING_ROWS + 1, 1, 1):
        mirror.send(lambda rows=rows: made.append(rows), rows)  # type: ignore[misc]
    assert mirror.dropped == 2
    slow.set()
    until(lambda: made == [WAITING_ROWS + 1])
    for rows in (WAITING_ROWS // 2, WAITING_ROWS // 2):
        mirror.send(lambda rows=rows: made.append(rows), rows)  # type: ignore[misc]
    until(lambda: len(made) == 3)


@pytest.mark.parametrize("error", [RuntimeError("no answer"), SystemExit("a model's own code left")])
def test_a_copy_that_fails_does_not_end_the_copies(error: BaseException) -> None:
    mirror, made = Mirror(), threading.Event()

    def fail() -> None:
        raise error

    mirror.send(fail)
    mirror.send(made.set)
    assert made.wait(20)
