"""Texts of services and of users' code, without what would let somebody in."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"(?i)(\b(?:sig|accountkey|sharedaccesskey|password|token)=|[?&]code=|\bbearer )[^\s&;,'\"<>)]+",
)


def without_secrets(text: str) -> str:
    """The text with … for signatures of addresses, keys, tokens and passwords."""
    return _SECRET.sub(r"\1…", text)
