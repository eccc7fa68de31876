"""A small function app with every kind of trigger, whose functions tell what they were given."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import azure.functions as func

from shared.domain.signals import FreezeRequested, from_message
from shared.settings import QUEUE


class Seen:
    """What the functions of one app were called with, in order; safe to use from any thread."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, name: str, value: Any) -> None:
        with self._lock:
            self._calls.append((name, value))

    def of(self, name: str) -> list[Any]:
        with self._lock:
            return [value for called, value in self._calls if called == name]

    def wait(self, name: str, count: int = 1, seconds: float = 30.0) -> list[Any]:
        """The values that ``name`` was called with, once there are ``count`` of them."""
        return until(
            lambda: values if len(values := self.of(name)) >= count else None, seconds, f"{count} calls of {name}"
        )


def until(look: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """What ``look`` returns once that is true; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return found


def message(request: str, *, reason: str = "") -> FreezeRequested:
    """A signal for the queue function: by its reason "fail n" n attempts fail, by "sleep s" it takes s seconds."""
    return FreezeRequested(pipeline="churn", request=request, reason=reason)


def build(seen: Seen, *, timer: str = "0 0 0 1 1 *") -> func.FunctionApp:
    """The app. ``timer`` is the schedule of timer_tick and timer_broken."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
    attempts: dict[str, int] = {}

    @app.function_name("event_storage")
    @app.event_grid_trigger(arg_name="event")
    def event_storage(event: func.EventGridEvent) -> None:
        seen.add("event_storage", event)

    @app.function_name("event_azureml")
    @app.event_grid_trigger(arg_name="event")
    def event_azureml(event: func.EventGridEvent) -> None:
        seen.add("event_azureml", event)
        if event.subject.startswith("flaky") and len([e for e in seen.of("event_azureml") if e.id == event.id]) < 3:
            raise RuntimeError("not yet")

    @app.function_name("event_picky")
    @app.event_grid_trigger(arg_name="event")
    @app.queue_output(arg_name="signals", queue_name=QUEUE, connection="AzureWebJobsStorage")
    def event_picky(event: func.EventGridEvent, signals: func.Out[str]) -> None:
        seen.add("event_picky", event.id)
        signals.set(message(event.id).to_message())
        if event.subject == "bad":
            raise RuntimeError("bad event")

    @app.function_name("queue_signals")
    @app.queue_trigger(arg_name="message", queue_name=QUEUE, connection="AzureWebJobsStorage")
    def queue_signals(message: func.QueueMessage) -> None:
        signal = from_message(message.get_body().decode())
        assert isinstance(signal, FreezeRequested)
        attempts[signal.request] = attempt = attempts.get(signal.request, 0) + 1
        seen.add("queue_attempt", (signal.request, attempt))
        how, _, number = signal.reason.partition(" ")
        if how == "sleep":
            time.sleep(float(number))
        if how == "fail" and attempt <= int(number):
            raise RuntimeError(f"failure {attempt} of {signal.request}")
        seen.add("queue_signals", signal.request)

    @app.function_name("queue_poison")
    @app.queue_trigger(arg_name="message", queue_name=f"{QUEUE}-poison", connection="AzureWebJobsStorage")
    def queue_poison(message: func.QueueMessage) -> None:
        seen.add("queue_poison", json.loads(message.get_body())["request"])

    @app.function_name("timer_tick")
    @app.timer_trigger(arg_name="timer", schedule=timer)
    @app.queue_output(arg_name="signals", queue_name=QUEUE, connection="AzureWebJobsStorage")
    def timer_tick(timer: func.TimerRequest, signals: func.Out[list[str]]) -> None:
        seen.add("timer_tick", timer)
        signals.set([message(f"tick-{part}").to_message() for part in "ab"])

    @app.function_name("timer_broken")
    @app.timer_trigger(arg_name="timer", schedule=timer)
    async def timer_broken(timer: func.TimerRequest) -> None:
        seen.add("timer_broken", timer)
        raise RuntimeError("the timer is broken")

    @app.function_name("http_echo")
    @app.route(route="pipelines/{name}/echo/{count:int?}", methods=["GET", "POST"], auth_level=func.AuthLevel.ANONYMOUS)
    def http_echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        told = {
            "function": context.function_name,
            "method": req.method,
            "url": req.url,
            "params": dict(req.params),
            "route": dict(req.route_params),
            "header": req.headers.get("X-Mine"),
            "body": req.get_body().decode(),
        }
        return func.HttpResponse(
            json.dumps(told), status_code=201, mimetype="application/json", headers={"X-Told": "yes"}
        )

    @app.function_name("http_special")
    @app.route(route="pipelines/special/echo", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
    async def http_special(req: func.HttpRequest) -> str:
        return "special"

    @app.function_name("http_rest")
    @app.route(route="files/{*path}", auth_level=func.AuthLevel.ANONYMOUS)
    def http_rest(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(req.route_params.get("path", "nothing"))

    @app.function_name("http_locked")
    @app.route(route="locked")
    def http_locked(req: func.HttpRequest) -> None:
        seen.add("http_locked", req.method)

    @app.function_name("http_admin")
    @app.route(route="for-admin", auth_level=func.AuthLevel.ADMIN)
    def http_admin(req: func.HttpRequest) -> str:
        return "master"

    @app.function_name("http_broken")
    @app.route(route="broken", auth_level=func.AuthLevel.ANONYMOUS)
    def http_broken(req: func.HttpRequest) -> str:
        raise RuntimeError("secret of the inside")

    return app


def event(
    id: str, *, subject: str = "s", kind: str = "Microsoft.Storage.BlobCreated", data: Any = None
) -> dict[str, Any]:
    """An event in the Event Grid schema."""
    return {
        "id": id,
        "topic": "t",
        "subject": subject,
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2026-11-24T08:00:00.1234567Z",
        "data": {"n": 1},
        "dataVersion": "1",
        "metadataVersion": "1",
    }
