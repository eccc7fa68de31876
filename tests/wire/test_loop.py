"""The middle of the loop on Azure's adapters, with real work: train.py, registry, deployment, evaluation."""

from __future__ import annotations

import io
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared import training
from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.endpoint_service import AzureEndpoints
from shared.adapters.azure.model_registry import AzureModelRegistry
from shared.adapters.azure.training_service import AzureTrainingService
from shared.adapters.azure.workspace import Workspace
from shared.definitions.catalog import Catalog
from shared.domain.pipelines import Rollout
from shared.domain.records import to_record
from shared.ports.jobs import JobStatus
from shared.ports.training_service import CommandJob
from shared.settings import ROOT
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION

PIPELINES = ROOT / "pipelines"


class Lake:
    """The container ``lake`` of the stand-in's storage account."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin

    def write(self, path: str, data: bytes) -> None:
        self._standin.blobs.write("lake", path, data)

    def stat(self, path: str) -> object | None:
        files: Any = self._standin.blobs
        return files.files.get(("lake", path))

    def read(self, path: str) -> bytes:
        return self._standin.blobs.read("lake", path)

    def uri(self, path: str) -> str:
        return f"abfss://lake@{self._standin.ml.account}.dfs.core.windows.net/{path}"


def customers(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tenure = rng.integers(0, 72, rows)
    charges = rng.uniform(20, 120, rows).round(2)
    leaves = charges / 40 - tenure / 20 + rng.normal(0, 0.3, rows) > 0.5
    return pd.DataFrame(
        {
            "customer_id": [f"c{seed}-{number}" for number in range(rows)],
            "tenure": tenure.astype("float64"),
            "monthly_charges": charges,
            "contract": rng.choice(["Month-to-month", "One year"], rows),
            "churn": np.where(leaves, "Yes", "No"),
        }
    )


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def completed(service: AzureTrainingService, name: str) -> JobStatus:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        status = service.status(name)
        assert status is not None
        if status.ended:
            assert status.state == "completed", status
            return status
        time.sleep(0.2)
    raise AssertionError(f"{name} did not end")


def test_a_trained_model_is_registered_evaluated_deployed_and_answers(azure: StandIn) -> None:
    workspace, lake = Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential()), Lake(azure)
    registry = AzureModelRegistry(workspace)
    port: Any = lake
    service = AzureTrainingService(workspace, port, registry)
    endpoints = AzureEndpoints(workspace, registry, port)
    folder = Catalog(PIPELINES).get("customer-churn")
    pipeline = folder.pipeline
    held_out = customers(100, 2)
    lake.write("features/customer-churn/b1/train/part-0.parquet", parquet(customers(300, 1)))
    lake.write("features/customer-churn/b1/test/part-0.parquet", parquet(held_out))
    lake.write("models/customer-churn/1/pipeline.json", json.dumps(to_record(pipeline)).encode())

    def job(name: str, code: Path, command: str, inputs: dict[str, str], outputs: dict[str, str]) -> CommandJob:
        return CommandJob(
            name=name,
            experiment="customer-churn",
            code=code,
            command=command,
            timeout=timedelta(minutes=2),
            environment=str(folder.folder / pipeline.training.environment),
            image=pipeline.training.image,
            compute=pipeline.training.compute,
            inputs=inputs,
            outputs=outputs,
            tags={"landfall.pipeline": "customer-churn", "landfall.run": "customer-churn-b1"},
        )

    data, test = "features/customer-churn/b1/train", "features/customer-churn/b1/test"
    command = training.COMMAND.format(script=pipeline.training.script)
    inputs, outputs = {"training_data": data, "test_data": test}, {"model_output": "mlflow_model"}
    service.submit(job("customer-churn-b1-train-1", folder.folder, command, inputs, outputs))
    assert any(
        line.startswith("Trained on 300 rows") for line in completed(service, "customer-churn-b1-train-1").log_tail
    )

    version = registry.register("customer-churn", job="customer-churn-b1-train-1", output="model_output", tags={})
    assert [column.name for column in version.signature] == ["tenure", "monthly_charges", "contract"]

    inputs = {
        "challenger": f"model:customer-churn:{version.version}",
        "test": test,
        "pipeline": "models/customer-churn/1/pipeline.json",
    }
    arguments = " ".join(f"--{name} ${{{{inputs.{name}}}}}" for name in inputs)
    command = f"python -m shared.jobs.evaluate {arguments} --output ${{{{outputs.evaluation}}}}"
    service.submit(job("customer-churn-b1-evaluate-1", ROOT, command, inputs, {"evaluation": "uri_folder"}))
    completed(service, "customer-churn-b1-evaluate-1")
    smoke = json.loads(service.read_output("customer-churn-b1-evaluate-1", "evaluation", "smoke.json"))

    measured = json.loads(service.read_output("customer-churn-b1-evaluate-1", "evaluation", "evaluation.json"))
    assert measured["compiled"]["verified"], measured["compiled"]
    graph = service.read_output("customer-churn-b1-evaluate-1", "evaluation", "compiled.onnx")
    lake.write(f"models/customer-churn/{version.version}/compiled.onnx", graph)

    name = f"v{version.version}"
    endpoints.ensure("customer-churn")
    endpoints.deploy("customer-churn", name, model="customer-churn", version=version.version, sizing=Rollout())
    assert endpoints.deployments("customer-churn")[name].state == "ready"
    endpoints.set_traffic("customer-churn", {name: 100})
    answer = endpoints.score("customer-churn", smoke["columns"], smoke["rows"])
    assert (answer.deployment, answer.version) == (name, version.version)
    assert answer.predictions == smoke["predictions"]
    assert answer.classes == ["No", "Yes"]
