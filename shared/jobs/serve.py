"""What runs in an online deployment: init() loads its model, run() answers rows.

Azure ML's inference server calls both. A request is ``{"input_data": {"columns": [...], "data": [[...]]}}``;
an answer has predictions, probabilities, classes and milliseconds. Rows that the model refuses are answered
with ``refused`` and ``faults``, so that they differ from a deployment that is broken.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.domain.compiled import GRAPH
from shared.errors import InvalidRequest
from shared.settings import deployed_model

if TYPE_CHECKING:
    from shared.models.compiled_model import CompiledModel
    from shared.models.served_model import ServedModel

CODE = Path(__file__).parents[2]
"""What was deployed: the package ``shared``, and the compiled form of the model if there is one."""

_model: CompiledModel | ServedModel | None = None


def init() -> None:
    """Load the model, once for all requests. Raises whatever keeps it from being loaded."""
    global _model
    from shared.models.compiled_model import load

    folder = next((path.parent for path in sorted(deployed_model().rglob("MLmodel"))), None)
    if folder is None:
        raise FileNotFoundError(f"there is no MLmodel below {deployed_model()}")
    _model = load(folder, CODE / GRAPH)


def run(body: str) -> dict[str, Any]:
    """Answer one request."""
    assert _model is not None, "init() has to come first"
    try:
        table = json.loads(body)["input_data"]
        columns, rows = table["columns"], table["data"]
    except (ValueError, KeyError, TypeError) as error:
        return {"refused": f"a request has input_data with columns and data: {error}", "faults": []}
    start = time.perf_counter()
    try:
        values, probabilities, classes = _model.predict(columns, rows)
    except InvalidRequest as error:
        return {"refused": str(error), "faults": list(error.faults)}
    return {
        "predictions": values,
        "probabilities": probabilities,
        "classes": classes,
        "milliseconds": (time.perf_counter() - start) * 1000,
    }
