"""The columns that a model takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SignatureColumn:
    """A column that the model takes; ``type`` is string, int, double, boolean, date or timestamp."""

    name: str
    type: str
    required: bool = True
