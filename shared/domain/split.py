"""Which rows are held out: a hash of the key, the same on every engine, so a row never changes sides."""

from __future__ import annotations

import hashlib

DIGITS = 8


def threshold(test_share: float) -> str:
    """Rows whose key hash sorts before this text are held out. 8 hexadecimal digits, or "g" for all."""
    bound = round(test_share * 16**DIGITS)
    return "g" if bound >= 16**DIGITS else f"{bound:0{DIGITS}x}"


def is_test(key: str, test_share: float) -> bool:
    """True when the row with this key (as text) is held out: the first 8 digits of its MD5 are below the threshold."""
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:DIGITS] < threshold(test_share)


def sql_condition(key: str, test_share: float) -> str:
    """The same as :func:`is_test`, as a condition that DuckDB and Spark SQL understand; ``key`` is an SQL expression.

    A null key is on neither side: its condition is null.
    """
    return f"substr(md5(cast({key} as string)), 1, {DIGITS}) < '{threshold(test_share)}'"
