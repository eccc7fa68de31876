"""The compiled form of a model version: what proves that it answers as the model does, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

GRAPH = "compiled.onnx"
"""The file of an evaluation, and of a version's folder in the lake; it is there only if it was verified."""

TOLERANCE = 1e-5
"""How far a probability may be off, and a number relative to its size."""

MISSING_TEXT = "nan"
"""What a graph is given for a text that is missing: the name that scikit-learn's own category for it has."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Whether the compiled form may answer in place of the model, and what was found out about that.

    ``reason`` says why it may not. ``rows`` held-out rows and ``edge_rows`` made ones (missing and unseen
    values, extremes) were answered by both with the same predictions; ``max_difference`` is the largest one
    between their probabilities, or numbers. ``bulk``: a walk through its trees, which many rows take, answered all
    of them, too; ``bulk_reason`` says why there is none. ``versions`` are those of the packages that compiled and
    compared.
    """

    verified: bool
    reason: str = ""
    rows: int = 0
    edge_rows: int = 0
    max_difference: float = 0.0
    bulk: bool = False
    bulk_reason: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """What a person is told."""
        if not self.verified:
            return f"served as trained, not compiled: {self.reason}"
        many = "; many rows walk its trees" if self.bulk else ""
        return (
            f"served compiled: {self.rows + self.edge_rows:,} rows answered alike,"
            f" probabilities or numbers within {self.max_difference:.0e}{many}"
        )


def place(model: str, version: str, file: str) -> str:
    """The lake path of a file about a model version."""
    return f"models/{model}/{version}/{file}"
