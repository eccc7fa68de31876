"""Batch endpoints of Azure ML: one for each pipeline, with a deployment for each model version that is scored with."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.endpoint_names import batch_endpoint
from shared.adapters.azure.failures import translated
from shared.adapters.azure.model_environment import environment_of
from shared.adapters.azure.workspace import Workspace
from shared.domain.pipelines import Training
from shared.errors import Conflict, Missing, Refused, Transient
from shared.settings import ROOT

if TYPE_CHECKING:
    from azure.ai.ml.entities import BatchDeployment, BatchEndpoint, PipelineComponent

NEEDS = (
    "azure-identity==1.27.0", "azure-storage-blob==12.31.1", "duckdb==2.0.0", "numba==0.68.1", "onnxruntime==1.32.0",
    "pandas==3.1.1", "pyarrow==25.0.1", "PyYAML==6.0.3", "sqlglot==30.30.0",
)  # fmt: skip
"""What scoring a file of the lake needs beside the requirements that its model was saved with."""
COMMAND = "python -m shared.jobs.score_lake ${{inputs.job}} ${{inputs.data}} ${{inputs.model}}"
MOST = 20
"""Deployments that an endpoint holds."""
READY_SECONDS, LOOK_SECONDS = 40.0, 1.0
"""How long an endpoint or deployment is waited for until it is ready, and how often it is looked at meanwhile."""


@dataclass(frozen=True)
class Target:
    """Where a batch job is posted: the endpoint's address for jobs, and the deployment that is to take it."""

    address: str
    deployment: str


class BatchDeployments:
    """Makes endpoints and deployments when they are first scored with; they cost nothing while no job runs.

    A deployment is a pipeline component of one step, :mod:`shared.jobs.score_lake` with one model version in
    the environment that it was saved with. Its name tells the version and the state of this app's code: new code
    makes a new one. The oldest goes when an endpoint is full; its jobs are not touched by that.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def ready(self, pipeline: str, model: str, version: str, compute: str) -> Target:
        """Make what is missing, and return where jobs go.

        Raises Transient when it is not ready within about a minute, Missing when there is no such model version.
        """
        name = batch_endpoint(pipeline, self._workspace.path)
        endpoint = self._until_ready(f"batch endpoint {name}", lambda: self._endpoint(name), lambda: self._make(name))
        conda = environment_of(self._workspace, model, version, NEEDS)
        digest = self._digest(model, conda, compute)
        deployment = f"v{version}-{digest}"
        self._until_ready(
            f"deployment {deployment} of batch endpoint {name}",
            lambda: self._deployment(name, deployment),
            lambda: self._deploy(name, deployment, self._component(model, version, digest, conda), compute),
        )
        return Target(str(endpoint.scoring_uri), deployment)

    def _until_ready(self, what: str, look: Callable[[], Any], make: Callable[[], None]) -> Any:
        present = look()
        if present is None or _state(present) == "Failed":
            try:
                make()
            except (Transient, Conflict) as error:
                if look() is None:
                    raise Transient(str(error)) from error
            present = look()
        end = time.monotonic() + READY_SECONDS
        while present is None or _state(present) != "Succeeded":
            if present is not None and _state(present) in ("Failed", "Canceled"):
                raise Refused(f"{what} could not be created: Azure ML's activity log says why")
            if time.monotonic() > end:
                raise Transient(f"{what} is being created; try again later")
            time.sleep(LOOK_SECONDS)
            present = look()
        return present

    def _make(self, name: str) -> None:
        from azure.ai.ml.entities import BatchEndpoint

        entity = BatchEndpoint(name=name, auth_mode="aad_token", tags={"landfall": "batch"})
        with translated(f"create batch endpoint {name}"):
            self._workspace.client.batch_endpoints.begin_create_or_update(entity)

    def _deploy(self, endpoint: str, name: str, component: Callable[[Path], PipelineComponent], compute: str) -> None:
        from azure.ai.ml.entities import PipelineComponentBatchDeployment

        self._make_room(endpoint)
        # Azure ML would take a step with the inputs of an earlier one for done.
        settings: dict[str, Any] = {
            "default_compute": compute, "continue_on_step_failure": False, "force_rerun": True,
        }  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="landfall-batch-") as folder:
            code = Path(folder) / "code"
            shutil.copytree(ROOT / "shared", code / "shared", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            with translated(f"create deployment {name} of batch endpoint {endpoint}"):
                entity = PipelineComponentBatchDeployment(
                    name=name,
                    endpoint_name=endpoint,
                    component=component(code),
                    settings=settings,
                )
                self._workspace.client.batch_deployments.begin_create_or_update(entity)

    def _component(
        self, model: str, version: str, digest: str, conda: dict[str, Any]
    ) -> Callable[[Path], PipelineComponent]:
        def made(code: Path) -> PipelineComponent:
            from azure.ai.ml import Input
            from azure.ai.ml.entities import (
                CommandComponent,
                Environment,
                ManagedIdentityConfiguration,
                PipelineComponent,
            )

            given = {"job": Input(type="uri_file"), "data": Input(type="uri_folder")}
            step = CommandComponent(
                name="landfall_score_lake",
                inputs={**given, "model": Input(type="mlflow_model")},
                code=str(code),
                command=COMMAND,
                environment=Environment(image=Training().image, conda_file=conda),
                is_deterministic=False,
            )(
                job="${{parent.inputs.job}}",
                data="${{parent.inputs.data}}",
                model=Input(type="mlflow_model", path=f"azureml:{model}:{version}"),
            )
            # The lake is opened by the cluster's identity.
            step.identity = ManagedIdentityConfiguration()
            name = f"landfall_score_{re.sub('[^a-z0-9]', '_', model.lower())}"
            return PipelineComponent(name=name, version=f"{version}-{digest}", inputs=given, jobs={"score": step})

        return made

    def _make_room(self, endpoint: str) -> None:
        with translated(f"list the deployments of batch endpoint {endpoint}"):
            present = list(self._workspace.client.batch_deployments.list(endpoint))
        present.sort(key=lambda deployment: str(getattr(deployment.creation_context, "created_at", "")))
        for deployment in present[: max(0, len(present) - MOST + 1)]:
            with translated(f"delete deployment {deployment.name} of batch endpoint {endpoint}"):
                self._workspace.client.batch_deployments.begin_delete(str(deployment.name), endpoint)

    def _endpoint(self, name: str) -> BatchEndpoint | None:
        try:
            with translated(f"look up batch endpoint {name}"):
                return self._workspace.client.batch_endpoints.get(name)
        except Missing:
            return None

    def _deployment(self, endpoint: str, name: str) -> BatchDeployment | None:
        try:
            with translated(f"look up deployment {name} of batch endpoint {endpoint}"):
                return self._workspace.client.batch_deployments.get(name, endpoint)
        except Missing:
            return None

    def _digest(self, model: str, conda: dict[str, Any], compute: str) -> str:
        settled = json.dumps([self._code, model, conda, compute, COMMAND], sort_keys=True)
        return hashlib.sha256(settled.encode()).hexdigest()[:12]

    @cached_property
    def _code(self) -> str:
        digest = hashlib.sha256()
        for file in sorted((ROOT / "shared").rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT).as_posix()}\0{file.stat().st_size}\0".encode() + file.read_bytes())
        return digest.hexdigest()


def _state(entity: BatchEndpoint | BatchDeployment) -> str:
    # An enum for the states that the SDK knows, text for the others.
    state = entity.provisioning_state
    return str(getattr(state, "value", state) or "")
