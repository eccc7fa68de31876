"""Lengths of time as people say them."""

from __future__ import annotations

from datetime import timedelta


def in_words(length: timedelta) -> str:
    """A length of time to three digits: 3 d, 24 h, 1.5 h, 12 min, 0.5 s."""
    seconds = length.total_seconds()
    for unit, size, least in (("d", 86400, 172800), ("h", 3600, 3600), ("min", 60, 60)):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
