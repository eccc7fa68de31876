r"""Keys of the run ledger as keys of a table, which hold no / \ # ? %, are short, and are ordered as ASCII.

A character that a table does not take shares the place in the order with its neighbour: both are written
as the neighbour and a digit, so that texts are ordered as before and begin with the same texts as before.
"""

from __future__ import annotations

import hashlib

LONGEST = 400
"""Characters of a key that are kept; a table takes 512."""
_PAIRS = ('"#', "$%", "./", ">?", "[\\")
_WRITTEN = {character: f"{pair[0]}{digit}" for pair in _PAIRS for digit, character in enumerate(pair)}


def escape(key: str) -> str:
    """``key`` in ASCII without what a table refuses. Orders and prefixes stay what they were (by code point)."""
    return "".join(_WRITTEN.get(c) or (c if " " <= c < "~" else f"~{ord(c):06x}") for c in key)


def table_key(key: str) -> str:
    """The table's key for ``key``; of a long one the beginning, and a hash of the whole.

    Keys with the same beginning are together, but not in order, when one of them is long.
    """
    escaped = escape(key)
    return escaped if len(escaped) <= LONGEST else f"{escaped[:LONGEST]}~~{hashlib.sha256(key.encode()).hexdigest()}"


def key_range(prefix: str) -> tuple[str, str]:
    """Between which table keys (first in, last out) those of all keys are that begin with ``prefix``.

    A long prefix has others between them, too.
    """
    begin = escape(prefix)[:LONGEST]
    # After ~ there is a hexadecimal digit or, in a long one, another ~ and such a digit.
    return begin, f"{begin}~~~"
