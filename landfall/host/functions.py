"""The functions of an app as its decorators describe them, and how one of them is called."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import azure.functions as func

from shared.errors import LandfallError

log = logging.getLogger("landfall.host")

EVENT_GRID, QUEUE, TIMER, HTTP = "eventGridTrigger", "queueTrigger", "timerTrigger", "httpTrigger"

PROMPT_CALLS, PROMPT_BYTES = 10, 8 * 1024
PROMPT_SECONDS = 0.001
"""A function is prompt after so many calls in a row of at most so many bytes and seconds of work."""
LONGEST_WAIT = 0.01
"""Seconds that a call on the host's loop may last for the function to go on as prompt."""

_loaded: WeakKeyDictionary[func.FunctionApp, dict[str, HostedFunction]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class HostedFunction:
    """One function: ``kind`` is its trigger's type, ``trigger`` the trigger's settings, ``parameter`` what the
    trigger's value is passed as, ``outputs`` maps parameters to the queues that they are put on."""

    name: str
    kind: str
    trigger: Mapping[str, Any]
    parameter: str
    outputs: Mapping[str, str]
    call: Callable[..., Any]
    wants_context: bool
    is_async: bool


def load(app: func.FunctionApp) -> dict[str, HostedFunction]:
    """The functions of ``app`` by name. Raises ValueError for a binding that a laptop does not have."""
    # An app builds its functions only once.
    if app not in _loaded:
        functions = [_hosted(function) for function in app.get_functions()]
        _loaded[app] = {function.name: function for function in functions}
    return _loaded[app]


def _hosted(function: func.Function) -> HostedFunction:
    name, trigger = str(function.get_function_name()), function.get_trigger()
    if trigger is None:
        raise ValueError(f"function {name} has no trigger")
    settings = trigger.get_dict_repr()
    kind = settings["type"]
    if kind not in (EVENT_GRID, QUEUE, TIMER, HTTP):
        raise ValueError(f"function {name} has a {kind}; a laptop has Event Grid, queue, timer and HTTP triggers")
    outputs = {}
    for binding in (binding.get_dict_repr() for binding in function.get_bindings() if binding is not trigger):
        if binding["type"] == "queue":
            outputs[binding["name"]] = binding["queueName"]
        elif binding["type"] != "http":
            raise ValueError(f"function {name} has a {binding['type']} binding; a laptop has queue outputs only")
    call = function.get_user_function()
    return HostedFunction(
        name=name,
        kind=kind,
        trigger=settings,
        parameter=settings["name"],
        outputs=outputs,
        call=call,
        wants_context="context" in inspect.signature(call).parameters,
        is_async=inspect.iscoroutinefunction(call),
    )


class Output(func.Out[Any]):
    """What a function puts into an output binding: a text, bytes, a queue message or a list of them."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value

    def messages(self) -> list[str]:
        """The queue messages, none when nothing was set."""
        values = self._value if isinstance(self._value, list | tuple) else [self._value]
        return [_text(value) for value in values if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, func.QueueMessage):
        value = value.get_body()
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise TypeError(f"a queue output takes text, bytes or a QueueMessage, not {type(value).__name__}")
    return value


class Invoker:
    """Calls functions: plain ones in ``pool``, async ones on the host's loop; outputs go out when one has succeeded.

    A plain HTTP or Event Grid function that was prompt of late is called on the loop, too: to hand a call to a thread
    and its answer back costs more than a fraction of a millisecond of work. One that dawdles goes back to the pool.
    """

    def __init__(self, pool: Executor, put: Callable[[str, Sequence[str]], Awaitable[None]], folder: Path) -> None:
        self._pool = pool
        self._put = put
        self._folder = folder
        self._prompt: dict[str, int] = {}

    async def __call__(self, function: HostedFunction, value: Any) -> Any:
        """What the function returns; raises what it raises, after a line in the log."""
        begun = time.perf_counter()
        arguments, outputs = self._arguments(function, value)
        try:
            if function.is_async:
                result = await function.call(**arguments)
            elif self._is_prompt(function, value):
                result = self._timed(function, value, arguments, LONGEST_WAIT)
            else:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(self._pool, self._timed, function, value, arguments)
            for queue, output in outputs:
                if messages := output.messages():
                    await self._put(queue, messages)
        except Exception as error:
            _failed(function, begun, error)
            raise
        _succeeded(function, begun)
        return result

    def _is_prompt(self, function: HostedFunction, value: Any) -> bool:
        return self._prompt.get(function.name, 0) >= PROMPT_CALLS and _is_short(function, value)

    def _timed(
        self, function: HostedFunction, value: Any, arguments: Mapping[str, Any], longest: float = math.inf
    ) -> Any:
        """Call the function and note whether it was prompt; threads that wait for each other do not count as work."""
        if function.kind not in (HTTP, EVENT_GRID):
            return function.call(**arguments)
        begun, work = time.perf_counter(), time.thread_time()
        try:
            return function.call(**arguments)
        finally:
            if _is_short(function, value):
                prompt = time.thread_time() - work <= PROMPT_SECONDS and time.perf_counter() - begun <= longest
                self._prompt[function.name] = self._prompt.get(function.name, 0) + 1 if prompt else 0

    def _arguments(self, function: HostedFunction, value: Any) -> tuple[dict[str, Any], list[tuple[str, Output]]]:
        arguments: dict[str, Any] = {function.parameter: value}
        outputs = []
        for parameter, queue in function.outputs.items():
            arguments[parameter] = output = Output()
            outputs.append((queue, output))
        if function.wants_context:
            arguments["context"] = SimpleNamespace(
                invocation_id=str(uuid.uuid4()), function_name=function.name, function_directory=str(self._folder)
            )
        return arguments, outputs


def _is_short(function: HostedFunction, value: Any) -> bool:
    """An event is: how much there may be in one is for its sender to say."""
    return function.kind == EVENT_GRID or (
        isinstance(value, func.HttpRequest) and len(value.get_body()) <= PROMPT_BYTES
    )


def _succeeded(function: HostedFunction, begun: float) -> None:
    if log.isEnabledFor(logging.DEBUG):
        log.debug("function=%s outcome=succeeded ms=%.1f", function.name, (time.perf_counter() - begun) * 1000)


def _failed(function: HostedFunction, begun: float, error: Exception) -> None:
    # An error of the loop's own says all in its text; any other is a fault of the code and needs its traceback.
    log.warning(
        "function=%s outcome=failed ms=%.1f error=%s: %s",
        function.name,
        (time.perf_counter() - begun) * 1000,
        type(error).__name__,
        error,
        exc_info=None if isinstance(error, LandfallError) else error,
    )
