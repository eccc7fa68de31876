"""HTTP functions: routes, keys, limits and answers as the Functions host has them."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from landfall.host import LaptopHost
from landfall.host.keys import load
from tests.functions.tiny_app import Seen


def test_a_function_sees_the_request_and_its_answer_arrives(client: httpx.Client, host: LaptopHost) -> None:
    path = "/api/pipelines/churn%20a%2Fb/echo/7?x=1&x=2&y=%C3%A4"
    answer = client.post(path, content=b"body", headers={"X-Mine": "me"})
    assert answer.status_code == 201
    assert (answer.headers["content-type"], answer.headers["x-told"]) == ("application/json", "yes")
    assert answer.json() == {
        "function": "http_echo",
        "method": "POST",
        "url": host.url + path,
        "params": {"x": "1,2", "y": "ä"},
        "route": {"name": "churn a/b", "count": "7"},
        "header": "me",
        "body": "body",
    }


def test_an_optional_parameter_may_be_left_out_and_a_constraint_refuses(client: httpx.Client) -> None:
    assert client.get("/api/pipelines/churn/echo").json()["route"] == {"name": "churn"}
    assert client.get("/api/Pipelines/churn/ECHO/").status_code == 201
    assert client.get("/api/pipelines/churn/echo/seven").status_code == 404


def test_a_literal_route_wins_over_a_parameter(client: httpx.Client) -> None:
    answer = client.get("/api/pipelines/special/echo")
    assert (answer.text, answer.headers["content-type"]) == ("special", "text/plain; charset=utf-8")
    assert client.post("/api/pipelines/special/echo").status_code == 201


def test_a_catch_all_takes_the_rest_of_the_path(client: httpx.Client) -> None:
    assert client.get("/api/files/a/b/c.txt").text == "a/b/c.txt"
    assert client.delete("/api/files").text == "nothing"


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/api/pipelines/x/echo"), ("HEAD", "/api/pipelines/x/echo"), ("GET", "/api/none"), ("GET", "/none")],
)
def test_an_unknown_path_or_method_is_404(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 404


def test_head_has_the_headers_without_the_body(client: httpx.Client) -> None:
    answer = client.head("/api/files/abc")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "3", b"")


def test_keys_open_what_their_level_allows(client: httpx.Client, host: LaptopHost, seen: Seen) -> None:
    assert client.get("/api/locked").status_code == 401
    assert client.get("/api/locked", headers={"x-functions-key": "wrong-ä".encode()}).status_code == 401
    for key in (host.keys.function, host.keys.master):
        assert client.get("/api/locked", headers={"x-functions-key": key}).status_code == 204
        assert client.get("/api/locked", params={"code": key}).status_code == 204
    assert client.get("/api/for-admin", headers={"x-functions-key": host.keys.function}).status_code == 401
    assert client.get("/api/for-admin", headers={"x-functions-key": host.keys.master}).text == "master"
    assert len(seen.of("http_locked")) == 4


def test_keys_are_made_once_and_kept_from_others(tmp_path: Path) -> None:
    first = load(tmp_path / "new")
    assert load(tmp_path / "new") == first
    assert first.master != first.function
    assert stat.S_IMODE((tmp_path / "new" / "keys.json").stat().st_mode) == 0o600
    assert first.master not in repr(first)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["keys.json"]


def test_a_raising_function_is_500_and_tells_nothing_of_the_inside(client: httpx.Client) -> None:
    answer = client.get("/api/broken")
    assert (answer.status_code, answer.content) == (500, b"")


def test_a_body_over_the_limit_is_413_announced_or_not(run_host: Callable[..., LaptopHost]) -> None:
    host = run_host(body_limit=1000)
    with httpx.Client(base_url=host.url, trust_env=False) as client:
        assert client.post("/api/files/x", content=b"a" * 1000).status_code == 200
        assert client.post("/api/files/x", content=b"a" * 1001).status_code == 413
        assert client.post("/api/files/x", content=(b"a" * 400 for _ in range(4))).status_code == 413
        assert client.post("/api/pipelines/p/echo", content=(b"a" * 400 for _ in range(2))).json()["body"] == "a" * 800


def test_admin_runs_a_timer_now_and_any_other_trigger_with_its_input(
    client: httpx.Client, host: LaptopHost, seen: Seen
) -> None:
    client.headers["x-functions-key"] = host.keys.master
    assert client.post("/admin/functions/timer_tick", json={}).status_code == 202
    assert seen.wait("timer_tick")[0].past_due is False
    assert sorted(seen.wait("queue_signals", 2)) == ["tick-a", "tick-b"]
    event = {"id": "by-hand", "subject": "s", "eventType": "T", "data": {}}
    assert client.post("/admin/functions/event_storage", json={"input": json.dumps(event)}).status_code == 202
    assert seen.wait("event_storage")[0].id == "by-hand"
    assert client.post("/admin/functions/event_storage", json={"input": "no json"}).status_code == 400
    assert client.post("/admin/functions/http_echo", json={}).status_code == 400
    assert client.post("/admin/functions/nobody", json={}).status_code == 404


def test_admin_asks_for_the_master_key(client: httpx.Client, host: LaptopHost, seen: Seen) -> None:
    for key in ("", "wrong", host.keys.function):
        headers = {"x-functions-key": key}
        assert client.post("/admin/functions/timer_tick", headers=headers).status_code == 401
        assert client.get("/admin/host/status", headers=headers).status_code == 401
    status = client.get("/admin/host/status", params={"code": host.keys.master}).json()
    assert status["state"] == "Running"
    assert seen.of("timer_tick") == []


def test_the_front_page_names_the_functions(client: httpx.Client) -> None:
    assert "http_echo" in client.get("/").text
