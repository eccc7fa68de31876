"""JSON by orjson, and by the standard library where the two differ."""

from __future__ import annotations

import json
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


def dumps(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """What ``json.dumps`` gives, with times in ISO 8601; numbers that are not finite become null."""
    try:
        return orjson.dumps(value, default=default)
    except orjson.JSONEncodeError:
        # Whole numbers beyond 64 bits, halves of surrogate pairs and keys that are no text.
        return json.dumps(value, separators=(",", ":"), default=default).encode()
