"""What is known of rows that landed before, so that a batch can be added to their features without reading them."""

from __future__ import annotations

from dataclasses import dataclass, field


class Anew(Exception):
    """A batch cannot be added to the features there are; its text says why, to follow "prepared all anew: "."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """The columns of ``rows`` landed rows.

    ``expected`` are those that each file must have, ``stored`` the DuckDB types in which values are kept until
    ``types``, as in :class:`~shared.features.landed_rows.Landed`, are found. ``fits`` has for each text column whose
    type is looked for the types that all its values fit, the narrowest first; None while it has no value.
    """

    rows: int
    expected: tuple[str, ...]
    stored: dict[str, str]
    types: dict[str, str]
    fits: dict[str, list[str] | None] = field(default_factory=dict)
