"""A deployment answers under Microsoft's own inference server as it does anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.endpoint_service import AzureEndpoints
from shared.adapters.azure.model_registry import AzureModelRegistry
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local.lake import FolderLake
from shared.domain.pipelines import Rollout
from shared.errors import InvalidRequest
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION
from tests.standin.inference_server import InferenceServer, installed

ROWS = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "y": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]})


@pytest.fixture(scope="session")
def command() -> Path:
    """The server's; it is installed before the environment leads to the stand-in."""
    return installed()


@pytest.fixture
def servers(
    command: Path, azure: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InferenceServer]:
    """Deployments of the stand-in run under the inference server."""
    worker: Any = azure.ml.worker
    made = InferenceServer(command, worker, tmp_path / "servers")
    monkeypatch.setattr(azure.endpoints, "prepare", made.prepare)
    monkeypatch.setattr(azure.inference, "scorer", made.score)
    yield made
    made.stop()


def test_rows_are_answered_and_refused_under_the_inference_server(
    azure: StandIn, servers: InferenceServer, tmp_path: Path
) -> None:
    model = LogisticRegression().fit(ROWS, np.where(ROWS["x"] > 2, "late", "early"))
    mlflow.sklearn.save_model(
        model,
        str(tmp_path / "model"),
        signature=infer_signature(ROWS, model.predict(ROWS)),
        pip_requirements=["scikit-learn==1.9.1"],
        skops_trusted_types=["numpy.dtype"],
    )
    azure.blobs.upload(tmp_path / "model", azure.ml.container, "served/1")
    place = "azureml://datastores/workspaceblobstore/paths/served/1"
    azure.ml.assets["models", "served", "1"] = {"modelUri": place, "flavors": {}}
    workspace = Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential())
    lake = FolderLake(tmp_path / "lake", "landfall", "lake")
    endpoints = AzureEndpoints(workspace, AzureModelRegistry(workspace), lake)
    endpoints.ensure("served")
    endpoints.deploy("served", "v1", model="served", version="1", sizing=Rollout())
    end = time.monotonic() + 90
    while (state := endpoints.deployments("served")["v1"]).state == "creating" and time.monotonic() < end:
        time.sleep(0.2)
    assert state.state == "ready", state

    answer = endpoints.score("served", ["x", "y"], ROWS.to_numpy().tolist(), deployment="v1")
    assert answer.predictions == model.predict(ROWS).tolist()
    assert answer.classes == ["early", "late"]
    assert np.allclose(answer.probabilities, model.predict_proba(ROWS), atol=1e-12)
    with pytest.raises(InvalidRequest, match="many"):
        endpoints.score("served", ["x", "y"], [["many", 1.0]], deployment="v1")
