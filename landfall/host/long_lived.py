"""What lives as long as the host is kept out of Python's full garbage collections, which hold up every request."""

from __future__ import annotations

import gc
import time
from types import TracebackType
from typing import Any

LONG_SECONDS = 0.02
"""Processor time of a full collection after which what survived it is not looked at again for a while."""
WHOLE_SECONDS = 3600.0
"""Seconds after which all is looked at again: what was set aside may have become garbage."""


class LongLived:
    """Sets objects aside within its ``with`` block.

    The libraries behind a model are hundreds of thousands of objects: to look at them all takes a quarter of a second,
    and some requests with many rows are enough for Python to do it.
    """

    def __init__(self) -> None:
        self._begun = 0.0
        self._whole = time.monotonic()

    def __enter__(self) -> None:
        gc.callbacks.append(self._collected)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.callbacks.remove(self._collected)
        gc.unfreeze()

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != 2:
            return
        if phase == "start":
            if time.monotonic() - self._whole > WHOLE_SECONDS:
                self._whole = time.monotonic()
                gc.unfreeze()
            self._begun = time.thread_time()
        elif time.thread_time() - self._begun > LONG_SECONDS:
            gc.freeze()
