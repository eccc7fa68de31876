"""Dataclasses to JSON objects and back: the form in which signals and ledger entries are stored."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_PLAIN = (str, int, float, bool)


def to_record(value: Any) -> Any:
    """JSON-ready form of a dataclass: times as ISO 8601 text, durations as seconds."""
    if value is None or type(value) in _PLAIN:
        return value
    stored = _stored(typing.cast(Any, type(value)))
    if stored is not None:
        return {name: to_record(getattr(value, name)) for name in stored}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {key: to_record(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_record(item) for item in value]
    return value


def from_record(cls: type[T], record: dict[str, Any]) -> T:
    """The dataclass ``cls`` from what :func:`to_record` made of it.

    Fields that ``cls`` does not know are ignored and missing ones take their defaults, so that
    entries written by an older or newer release stay readable.
    """
    hints = _hints(typing.cast(Any, cls))
    return cls(**{name: _restore(hints[name], value) for name, value in record.items() if name in hints})


@cache
def _stored(cls: type) -> tuple[str, ...] | None:
    """The fields that are stored, None for what is no dataclass."""
    if not dataclasses.is_dataclass(cls):
        return None
    return tuple(f.name for f in dataclasses.fields(cls) if f.metadata.get("stored", True))


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


@cache
def _as_it_is(hint: Any) -> bool:
    """True for what JSON itself gives back: rows of a logged request are many values."""
    if hint is Any or hint in _PLAIN:
        return True
    origin, arguments = _parts(hint)
    if origin in (types.UnionType, typing.Union):
        return all(a is types.NoneType or _as_it_is(a) for a in arguments)
    return origin in (list, dict) and _as_it_is(arguments[-1])


def _restore(hint: Any, value: Any) -> Any:
    if value is None or _as_it_is(hint):
        return value
    origin, arguments = _parts(hint)
    if origin in (types.UnionType, typing.Union):
        return _restore(next(a for a in arguments if a is not types.NoneType), value)
    if origin is tuple:
        return tuple(_restore(arguments[0], item) for item in value)
    if origin is list:
        return [_restore(arguments[0], item) for item in value]
    if origin is dict:
        return {key: _restore(arguments[1], item) for key, item in value.items()}
    if hint is datetime:
        return datetime.fromisoformat(value)
    if hint is timedelta:
        return timedelta(seconds=value)
    if dataclasses.is_dataclass(hint):
        return from_record(typing.cast(type, hint), value)
    return value
