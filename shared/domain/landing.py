"""Which landed files count, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class LandedFile:
    """A committed file of the lake: path below the container, etag without quotes, size in bytes.

    ``closed`` is True when the writer was seen to close it; otherwise it counts as complete only when
    its etag and size stay the same over a quiet window.
    """

    path: str
    etag: str
    size: int
    at: datetime
    closed: bool = True
