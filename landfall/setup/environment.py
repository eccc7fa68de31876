"""The environment that a pipeline trains in, registered under a version that its content tells."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import Estate
from shared.adapters.azure.failures import translated
from shared.definitions.catalog import PipelineFolder
from shared.errors import Missing


@dataclass(frozen=True)
class Environment:
    """Image and conda file of a pipeline. A version never changes: other content makes another one."""

    estate: Estate
    folder: PipelineFolder
    kind = "environment"

    @property
    def name(self) -> str:
        return f"landfall-{self.folder.pipeline.name}"

    @property
    def version(self) -> str:
        """A hash of image and conda file."""
        training = self.folder.pipeline.training
        content = training.image.encode() + b"\0" + (self.folder.folder / training.environment).read_bytes()
        return hashlib.sha256(content).hexdigest()[:12]

    def desired(self) -> dict[str, Any]:
        return {"version": self.version, "image": self.folder.pipeline.training.image}

    def actual(self) -> dict[str, Any] | None:
        try:
            with translated(f"look up environment {self.name}"):
                there = self.estate.workspace.client.environments.get(self.name, self.version)
        except Missing:
            return None
        return {"version": there.version, "image": there.image}

    def apply(self) -> None:
        from azure.ai.ml.entities import Environment as Entity

        training = self.folder.pipeline.training
        environment = Entity(
            name=self.name,
            version=self.version,
            description=f"What pipeline {self.folder.pipeline.name} trains in.",
            image=training.image,
            conda_file=str(self.folder.folder / training.environment),
        )
        with translated(f"register environment {self.name}"):
            self.estate.workspace.client.environments.create_or_update(environment)
