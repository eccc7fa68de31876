"""Batch scoring on the stand-in: a lake in the storage emulator, models in its registry, the pipeline published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.azure import batch_pipeline
from shared.adapters.azure.batch_service import SynapseBatchService
from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.lake import BlobLake
from shared.adapters.azure.model_registry import AzureModelRegistry
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local.model_registry import MlflowRegistry
from shared.settings import ROOT
from tests.standin import StandIn, Storage
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION

SYNAPSE = "landfall-synapse"
QUERY = "SELECT customer_id, tenure, monthly FROM dbo.customers"
MODELS = ("customer-churn", "spend")


@dataclass
class ScoringAzure:
    """What there is, and the service on it."""

    standin: StandIn
    service: SynapseBatchService
    lake: BlobLake


@contextmanager
def scoring_azure(home: Path, storage: Storage, registry: MlflowRegistry) -> Iterator[ScoringAzure]:
    """Azure for as long as it lasts, in the environment of this process. ``registry`` gives the models."""
    standin = StandIn(home / "azure", storage)
    standin.start()
    with pytest.MonkeyPatch.context() as patch:
        # The tests' models are pickled with functions of theirs.
        for name, value in {**standin.environment(), "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        try:
            yield _made(standin, registry)
        finally:
            standin.stop()
    assert not [*standin.crashes, *standin.ml.violations, *standin.refused]


def _made(standin: StandIn, registry: MlflowRegistry) -> ScoringAzure:
    credential = AppCredential()
    account = standin.ml.account
    standin.blobs.ensure("lake")
    lake = BlobLake(f"https://{account}.blob.core.windows.net", account, "lake", credential)
    workspace = Workspace(SUBSCRIPTION, GROUP, NAME, credential)
    for model in MODELS:
        place = f"models/{model}/1"
        standin.blobs.upload(registry.model_folder(model, "1"), standin.ml.container, place)
        uri = f"azureml://datastores/workspaceblobstore/paths/{place}"
        standin.ml.assets["models", model, "1"] = {"modelUri": uri, "flavors": {}}
    publish(credential)
    return ScoringAzure(standin, SynapseBatchService(SYNAPSE, workspace, lake, AzureModelRegistry(workspace)), lake)


def publish(credential: Any, *, sql: bool = True) -> None:
    """Put the pipeline and all that it names into the Synapse workspace, with the client that Synapse has for it."""
    from azure.synapse.artifacts import ArtifactsClient
    from azure.synapse.artifacts.models import Dataset, LinkedService, PipelineResource

    client = ArtifactsClient(credential, f"https://{SYNAPSE}.dev.azuresynapse.net", polling_interval=0)
    services = batch_pipeline.linked_services("landfall", SYNAPSE, "pool" if sql else "")
    for name, properties in services.items():
        client.linked_service.begin_create_or_update_linked_service(name, LinkedService.from_dict(properties)).result()
    for name, properties in batch_pipeline.datasets("lake", sql=sql).items():
        client.dataset.begin_create_or_update_dataset(name, Dataset.from_dict(properties)).result()
    pipeline = PipelineResource.from_dict({"properties": batch_pipeline.batch_scoring_pipeline("lake", sql=sql)})
    client.pipeline.begin_create_or_update_pipeline(batch_pipeline.PIPELINE, pipeline).result()
