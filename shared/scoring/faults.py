"""What is wrong with a request, each fault with its place."""

from __future__ import annotations

import math
from typing import NoReturn

from shared.errors import InvalidRequest

MAX_FAULTS = 100


class Faults:
    """What is wrong with a request: the first faults in full, and how many there are."""

    def __init__(self) -> None:
        self.first: list[dict[str, object]] = []
        self.total = 0

    def add(self, **fault: object) -> None:
        self.total += 1
        if len(self.first) < MAX_FAULTS:
            if "value" in fault:
                fault["value"] = shown(fault["value"])
            self.first.append(fault)

    def check(self) -> None:
        """Raise InvalidRequest when there is any."""
        if self.total:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise InvalidRequest with what was added."""
        first = self.first[0]
        place = ", ".join(f"{key} {first[key]}" for key in ("row", "column") if key in first)
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        raise InvalidRequest(f"{place}: {first['problem']}{more}", self.first)


def shown(value: object) -> object:
    """``value`` as a fault names it: JSON, and never long."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else f"an integer of {value.bit_length()} bits"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
