"""What both feature engines say of the rows that landed, in the same words."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.domain.pipelines import Landing

SAMPLE_ROWS = 5
"""How many rows a fault shows."""
PROFILE_ROWS = 200_000
"""Up to about so many training rows make the reference profile, chosen by a hash of the key."""

WHOLE = "Land a whole file again."


class Unreadable(Exception):
    """A file is not of its pipeline's format; ``cure`` is what to do about it."""

    def __init__(self, what: str, cure: str = WHOLE) -> None:
        super().__init__(what)
        self.cure = cure


RESERVED = "landfall_"


def is_reserved(name: str) -> bool:
    """True for column names that preparation needs for itself."""
    return name.lower().startswith(RESERVED)


def fault(
    rule: str, what: str, *, column: str = "", count: int = 1, rows: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """One entry of a manifest's faults."""
    return {"rule": rule, "column": column, "count": count, "rows": [dict(row) for row in rows], "text": what}


def column_faults(
    path: str, columns: Collection[str], expected: Sequence[str], landing: Landing
) -> list[dict[str, Any]]:
    """What is wrong with the columns of a file: reserved names, and ``expected`` ones that it lacks.

    A column that one of the file's may be meant for is told by itself, all others in one sentence.
    """
    place = [{"file": path, "row": None, "value": None}]
    found = []
    for name in filter(is_reserved, columns):
        what = f"{path} has a column {name}; names that begin with landfall_ are reserved. Rename it."
        found.append(fault("reserved_column", what, column=name, rows=place))
    present = {name.lower() for name in columns}
    absent = []
    for name in expected:
        # A JSON object leaves out what is null.
        optional = landing.format == "jsonl" and landing.columns.get(name, "?").endswith("?")
        if name.lower() in present or optional:
            continue
        near = difflib.get_close_matches(name, columns, n=1, cutoff=0.75)
        if not near:
            absent.append(name)
            continue
        what = f"{path} has no column {name}. Its column {near[0]} may be meant."
        found.append(fault("missing_column", what, column=name, rows=place))
    if absent:
        what = f"{path} has no column {', '.join(absent)}. It has {', '.join(columns)}."
        found.append(fault("missing_column", what, column=", ".join(absent), count=len(absent), rows=place))
    return found


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


def refuse_twins(names: Sequence[str]) -> None:
    """Raise Unreadable, with the places, when a column has no name or two differ in case alone or not at all."""
    lower = [name.strip().lower() for name in names]
    if "" in lower:
        raise Unreadable(f"column {lower.index('') + 1} has no name", "Name it.")
    for name in lower:
        if lower.count(name) > 1:
            first = lower.index(name)
            second = lower.index(name, first + 1)
            raise Unreadable(
                f"two columns are called {name}, the {first + 1}. ({names[first]}) and the {second + 1}."
                f" ({names[second]})",
                "Rename one of them.",
            )
