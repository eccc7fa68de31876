"""The input columns that an MLflow model was saved with."""

from __future__ import annotations

import json
from typing import Any

from shared.domain.signature import SignatureColumn

TYPES = {
    "string": "string",
    "integer": "int",
    "long": "int",
    "float": "double",
    "double": "double",
    "boolean": "boolean",
    "datetime": "timestamp",
}
"""MLflow's column types as ours. MLflow has no date: such a column has to be a timestamp in the model."""


def signature_of(mlmodel: str | bytes) -> tuple[SignatureColumn, ...]:
    """The columns in the text of an MLmodel file in order; empty when they have no names or types of ours."""
    import yaml

    signature: dict[str, Any] = (yaml.safe_load(mlmodel) or {}).get("signature") or {}
    columns = json.loads(signature.get("inputs") or "[]")
    if not all("name" in column and column["type"] in TYPES for column in columns):
        return ()
    return tuple(SignatureColumn(c["name"], TYPES[c["type"]], c.get("required", True)) for c in columns)
