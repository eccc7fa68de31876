"""The model registry: immutable versions, and aliases that move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.domain.signature import SignatureColumn


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered model. ``version`` is text of a positive number; ``tags`` carry run and data version.

    ``signature`` are the input columns in order, empty when the model has none; ``run`` is the tag
    ``landfall.run``, empty for a model that was registered by hand.
    """

    name: str
    version: str
    created_at: datetime
    run: str = ""
    job: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    signature: tuple[SignatureColumn, ...] = ()


class ModelRegistry(Protocol):
    """Versions are numbered from 1 and never change; registering raises a ModelRegistered event."""

    def register(self, name: str, *, job: str, output: str, tags: dict[str, str]) -> ModelVersion:
        """Register the MLflow model in ``output`` of job ``job`` as the next version of ``name``.

        A second call for the same job returns the version of the first and raises no event.
        Raises :class:`~shared.errors.Rejected` when the output holds no MLflow model.
        """
        ...

    def get(self, name: str, version: str) -> ModelVersion | None:
        """The version, None when there is none."""
        ...

    def versions(self, name: str) -> Iterator[ModelVersion]:
        """All versions, oldest first; nothing when the model is unknown."""
        ...

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point ``alias`` (champion, challenger) at a version. Raises Missing when there is none."""
        ...

    def alias(self, name: str, alias: str) -> str | None:
        """The version the alias points at, None when it is not set."""
        ...
