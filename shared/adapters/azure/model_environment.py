"""The environment in which a registered model is loaded: the one that it was saved with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from shared.adapters.azure.failures import translated
from shared.adapters.azure.job_files import JobFiles
from shared.adapters.azure.workspace import Workspace


def environment_of(workspace: Workspace, model: str, version: str, needs: Sequence[str]) -> dict[str, Any]:
    """The content of a conda file: what the version was saved with, and those of the requirements ``needs`` whose
    package it does not have already. Raises Missing when there is no such version, or it has no conda.yaml.
    """
    import yaml

    with translated(f"look up version {version} of model {model}"):
        place = str(workspace.client.models.get(model, version).path)
    conda: dict[str, Any] = yaml.safe_load(JobFiles(workspace).read(place, "conda.yaml"))
    dependencies = conda.setdefault("dependencies", [])
    pip = next((entry["pip"] for entry in dependencies if isinstance(entry, dict)), None)
    if pip is None:
        pip = []
        dependencies.append({"pip": pip})
    named = {_package(requirement) for requirement in pip}
    pip += [requirement for requirement in needs if _package(requirement) not in named]
    return conda


def _package(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
