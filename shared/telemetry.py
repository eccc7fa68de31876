"""What the loop shows while it runs: a log line and a span for each signal, a span for each call of a port.

All carry the same ids: the signal's key, the pipeline and the run. Nothing but names is recorded, no rows and no
content. Without :func:`start` there are only the log lines, and OpenTelemetry is not even imported.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, get_origin, get_type_hints

from shared.domain import signals
from shared.domain.ledger import Run
from shared.domain.redaction import without_secrets
from shared.errors import Rejected
from shared.ports import Ports
from shared.ports.clock import Clock

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

NAMES = ("alias", "deployment", "endpoint", "job", "model", "name", "output", "path", "prefix", "subject", "version")
"""Arguments of ports that say which thing a call is about."""
LONGEST = 300

_log = logging.getLogger("landfall.signals")
_ids: ContextVar[dict[str, str] | None] = ContextVar("ids", default=None)
_tracer: Tracer | None = None

P = ParamSpec("P")


class Handled(Protocol):
    """What became of a signal."""

    @property
    def pipeline(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...


H = TypeVar("H", bound=Handled)


def start(provider: TracerProvider | None) -> None:
    """Make spans with ``provider`` from now on; with None make none."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer("landfall")


def observed(handle: Callable[P, H]) -> Callable[P, H]:
    """The function that handles a queue message (its first argument), with a span around it and a log line after."""

    @wraps(handle)
    def handling(*args: P.args, **kwargs: P.kwargs) -> H:
        ids, began = _ids_of(str(args[0])), time.perf_counter()
        token = _ids.set(ids)
        line: dict[str, str] = {"outcome": "raised"}
        try:
            with _span(f"signal {ids['signal'].partition(':')[0]}") as span:
                outcome = handle(*args, **kwargs)
                ids["pipeline"] = outcome.pipeline or ids["pipeline"]
                line = {"outcome": outcome.outcome, "reason": outcome.reason}
                if span is not None:
                    span.set_attributes({**_attributes(ids), "landfall.outcome": outcome.outcome})
            return outcome
        except Exception as error:
            line["reason"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            _ids.reset(token)
            line = {**ids, **line, "ms": str(round((time.perf_counter() - began) * 1000))}
            level = logging.WARNING if line["outcome"] == "raised" else logging.INFO
            _log.log(level, json.dumps({key: _shown(value) for key, value in line.items()}))

    return handling


def traced(ports: Ports) -> Ports:
    """The same ports; each call of theirs makes a span, ``Lake.write`` and the like."""
    protocols = get_type_hints(Ports)
    return replace(
        ports,
        **{name: _Traced(protocol, getattr(ports, name)) for name, protocol in protocols.items() if protocol != Clock},
    )


class _Traced:
    """An adapter of which every method of its port is a span. An iterator ends its span when it is used up."""

    def __init__(self, port: type, adapter: Any) -> None:
        self._port = port
        self._adapter = adapter

    def __getattr__(self, method: str) -> Any:
        found, declared = getattr(self._adapter, method), getattr(self._port, method, None)
        if declared is None:
            return found
        signature, name = inspect.signature(declared), f"{self._port.__name__}.{method}"
        lazy = get_origin(get_type_hints(declared).get("return")) is Iterator

        @wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(self, *args, **kwargs).arguments
            _notice(given.values())
            if lazy:
                return _spanned(name, _about(given), found(*args, **kwargs))
            with _span(name, _about(given)) as span:
                result = found(*args, **kwargs)
                _notice((result,))
                if span is not None:
                    span.set_attributes(_attributes(_ids.get()))
                return result

        return call


def _spanned(name: str, about: dict[str, str], items: Iterator[Any]) -> Iterator[Any]:
    # Not the current span: between two items the caller does other things.
    span = _tracer.start_span(name, attributes={**_attributes(_ids.get()), **about}) if _tracer else None
    try:
        yield from items
    except Exception as error:
        _failed(span, error)
        raise
    finally:
        if span is not None:
            span.end()


@contextmanager
def _span(name: str, about: dict[str, str] | None = None) -> Iterator[Span | None]:
    if _tracer is None:
        yield None
        return
    attributes = {**_attributes(_ids.get()), **(about or {})}
    with _tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            _failed(span, error)
            raise


def _failed(span: Span | None, error: Exception) -> None:
    if span is not None:
        from opentelemetry.trace import StatusCode

        span.set_status(StatusCode.ERROR, _shown(f"{type(error).__name__}: {error}"))


def _notice(values: Any) -> None:
    """Remember which run this is about, when the signal does not say it: the last one that went by."""
    ids = _ids.get()
    if ids is None or "named" in ids:
        return
    for value in values:
        run = value.id if isinstance(value, Run) else getattr(value, "run", "")
        if isinstance(run, str) and run:
            ids["run"] = run


def _ids_of(message: str) -> dict[str, str]:
    try:
        signal = signals.from_message(message)
    except Rejected:
        return {"signal": "unreadable", "pipeline": "", "run": ""}
    run = str(getattr(signal, "run", ""))
    ids = {"signal": signal.claim_key, "pipeline": str(getattr(signal, "pipeline", "")), "run": run}
    return {**ids, "named": "signal"} if run else ids


def _attributes(ids: dict[str, str] | None) -> dict[str, str]:
    return {f"landfall.{key}": _shown(value) for key, value in (ids or {}).items() if value and key != "named"}


def _about(given: dict[str, Any]) -> dict[str, str]:
    named = {key: value if isinstance(value, str) else getattr(value, "name", None) for key, value in given.items()}
    return {f"landfall.{key}": _shown(value) for key, value in named.items() if key in NAMES and isinstance(value, str)}


def _shown(text: str) -> str:
    return without_secrets(text)[:LONGEST]
