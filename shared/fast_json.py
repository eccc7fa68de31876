"""JSON by orjson, and by the standard library where the two differ."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import orjson


def loads(text: bytes | str) -> Any:
    """What ``json.loads`` gives and raises, but that whole numbers beyond 64 bits are floats."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # NaN, halves of surrogate pairs and other encodings than UTF-8, or no JSON at all.
        return json.loads(text)


class Written(ABC):
    """A value that has its JSON already."""

    @abstractmethod
    def json(self) -> bytes:
        """Valid JSON on one line."""


def dumps(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """What ``json.dumps`` gives, with times in ISO 8601; numbers that are not finite become null.

    A :class:`Written` value stands in it as it is; ``default`` is asked for any other that is not JSON's.
    """

    def text(found: Any, written: Callable[[bytes], Any]) -> Any:
        if isinstance(found, Written):
            return written(found.json())
        if default is None:
            raise TypeError(f"{type(found).__name__} is not JSON serializable")
        return default(found)

    try:
        return orjson.dumps(value, default=lambda found: text(found, orjson.Fragment))
    except orjson.JSONEncodeError:
        # Whole numbers beyond 64 bits, halves of surrogate pairs and keys that are no text.
        return json.dumps(value, separators=(",", ":"), default=lambda found: text(found, json.loads)).encode()
