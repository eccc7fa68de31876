"""Where plain functions are called: in a thread, or on the host's loop when that is quicker and safe."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from landfall.host import functions
from landfall.host.functions import HTTP, PROMPT_BYTES, PROMPT_CALLS, QUEUE, HostedFunction, Invoker


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may keep a prompt function from going on for a while."""
    monkeypatch.setattr(functions, "LONGEST_WAIT", 0.5)


def threads_of(call: Callable[[Any], Any], values: list[Any], kind: str = HTTP) -> list[str]:
    """Where each call in turn was made: in the pool or on the loop."""
    seen: list[str] = []

    def noted(req: Any) -> Any:
        seen.append("pool" if threading.current_thread().name.startswith("pool") else "loop")
        return call(req)

    function = HostedFunction(
        name="f", kind=kind, trigger={}, parameter="req", outputs={}, call=noted, wants_context=False, is_async=False
    )

    async def ask() -> None:
        with ThreadPoolExecutor(2, "pool") as pool:
            invoke = Invoker(pool, lambda queue, text: None, Path())
            for value in values:
                await asyncio.gather(invoke(function, value), return_exceptions=True)

    asyncio.run(ask())
    return seen


def request(body: bytes = b"{}") -> func.HttpRequest:
    return func.HttpRequest("POST", "/api/f", body=body)


def answer(req: Any) -> str:
    return "ok"


def test_a_function_that_was_prompt_of_late_is_called_on_the_loop() -> None:
    where = threads_of(answer, [request()] * (PROMPT_CALLS + 5))
    assert where == ["pool"] * PROMPT_CALLS + ["loop"] * 5


def test_one_that_works_long_stays_in_the_pool() -> None:
    def works(req: Any) -> None:
        end = time.thread_time() + 0.003
        while time.thread_time() < end:
            pass

    assert set(threads_of(works, [request()] * (PROMPT_CALLS + 5))) == {"pool"}


def test_one_that_begins_to_wait_goes_back_to_the_pool() -> None:
    calls = iter(range(1000))

    def waits_once(req: Any) -> None:
        if next(calls) == PROMPT_CALLS + 1:
            time.sleep(0.6)

    where = threads_of(waits_once, [request()] * (2 * PROMPT_CALLS + 4))
    assert where == ["pool"] * PROMPT_CALLS + ["loop"] * 2 + ["pool"] * PROMPT_CALLS + ["loop"] * 2


def test_a_long_body_is_always_for_the_pool() -> None:
    short, long = request(), request(b" " * (PROMPT_BYTES + 1))
    where = threads_of(answer, [short] * PROMPT_CALLS + [long, short, long, short])
    assert where[-4:] == ["pool", "loop", "pool", "loop"]


def test_only_http_functions_are_called_on_the_loop() -> None:
    assert set(threads_of(answer, [func.QueueMessage(body="m")] * (PROMPT_CALLS + 5), QUEUE)) == {"pool"}


def test_what_it_raises_on_the_loop_is_raised_and_does_not_count_against_it() -> None:
    def raises(req: Any) -> None:
        raise ValueError("bad")

    # More than it takes: on a busy machine a call may be late, which counts against it.
    assert "loop" in threads_of(raises, [request()] * (PROMPT_CALLS * 4))
