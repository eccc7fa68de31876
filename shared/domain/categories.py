"""One text for one category, whatever type a file, a JSON body or a model gave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np


def is_null(value: Any) -> bool:
    """True for None, NaN, NaT and pandas.NA, whose comparison with itself is neither true nor false."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        return True
    except ValueError:
        return False


def text_of(value: Any) -> str | None:
    """The category's text: 1, 1.0 and numpy's 1 are "1", True is "true", dates are ISO 8601; None for a null or NaN."""
    if is_null(value):
        return None
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def encode(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(codes, texts) of a one-dimensional array of any dtype: ``texts[code]`` is a row's category, -1 is null.

    Codes are int64 in order of first appearance for object arrays, of value for others.
    """
    values = np.asarray(values)
    if values.dtype.kind in "OV":
        raw, inverse = _distinct_objects(values)
    else:
        distinct, inverse = np.unique(values, return_inverse=True)
        raw = list(distinct)
    numbers: dict[str, int] = {}
    renumber = np.empty(len(raw), dtype=np.int64)
    for index, value in enumerate(raw):
        text = text_of(value)
        renumber[index] = -1 if text is None else numbers.setdefault(text, len(numbers))
    codes = renumber[inverse.reshape(-1)] if len(raw) else np.empty(0, dtype=np.int64)
    return codes, list(numbers)


def tally(values: np.ndarray) -> tuple[dict[str, int], int]:
    """(rows by category, nulls) of a one-dimensional array of any dtype."""
    counted = _counted_objects(values) if values.dtype.kind == "O" else None
    # A text equals nothing but itself, while True, 1 and 1.0 are one key.
    if counted is not None and {str, type(None)}.issuperset(map(type, counted)):
        nulls = counted.pop(None, 0)
        return dict(counted), nulls
    codes, texts = encode(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    return dict(zip(texts, counts.tolist(), strict=True)), int((codes < 0).sum())


def _counted_objects(values: np.ndarray) -> Counter[Any] | None:
    try:
        return Counter(values)
    except TypeError:
        return None


def _distinct_objects(values: np.ndarray) -> tuple[list[Any], np.ndarray]:
    # True, 1 and 1.0 are one dict key but not one category, so the type is part of the key.
    numbers: dict[tuple[type, str] | tuple[type, Any], int] = {}
    raw: list[Any] = []
    inverse = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        key = (type(value), value if isinstance(value, str | int | bool) else str(value))
        code = numbers.get(key)
        if code is None:
            code = numbers[key] = len(raw)
            raw.append(value)
        inverse[row] = code
    return raw, inverse


def positive_class(classes: Sequence[Any], positive: str | None) -> int | None:
    """Index of the class whose probability tells of a row: ``positive`` (as text, in any case), else the second of two.

    None: there is no such class, and the likeliest one's is taken.
    """
    if positive is None:
        return 1 if len(classes) == 2 else None
    texts = [(text_of(value) or "null").lower() for value in classes]
    return texts.index(positive.lower()) if positive.lower() in texts else None


def in_order(texts: set[str]) -> list[str]:
    """Categories in sort order: numbers by value before other texts."""

    def place(text: str) -> tuple[int, float, str]:
        try:
            return (0, float(text), text)
        except ValueError:
            return (1, 0.0, text)

    return sorted(texts, key=place)
