"""What both feature engines say of the rows that landed, in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAMPLE_ROWS = 5
"""How many rows a fault shows."""
PROFILE_ROWS = 200_000
"""Up to about so many training rows make the reference profile, chosen by a hash of the key."""


def is_reserved(name: str) -> bool:
    """True for column names that preparation needs for itself."""
    return name.lower().startswith("landfall_")


def fault(
    rule: str, what: str, *, column: str = "", count: int = 1, rows: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """One entry of a manifest's faults."""
    return {"rule": rule, "column": column, "count": count, "rows": [dict(row) for row in rows], "text": what}


@dataclass
class Landed:
    """What was read. ``types`` maps a column to its type with ``?`` where nulls are allowed.

    ``rows`` counts the rows of all files, ``batch_rows`` those of the batch; ``complete`` is False when
    an input is gone or was replaced since it landed.
    """

    types: dict[str, str] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    batch_rows: int = 0
    complete: bool = True


def widened(before: str, now: str) -> str:
    """The type of a column whose earlier values fit ``before`` and whose new ones fit ``now`` (empty: all null)."""
    for family in (("int", "double"), ("date", "timestamp")):
        if before in family and now in family:
            return max(before, now, key=family.index)
    return before or now or "string"
