"""A subscription as infra/ leaves it before the code is deployed, and the settings of the app in it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import ROOT, Settings, load
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION
from tests.standin.event_grid import TOPIC
from tests.standin.resource_manager import HOME
from tests.standin.subscription import Subscription

APP = f"{HOME}/Microsoft.Web/sites/func-landfall"
APP_ID = "00000000-0000-0000-0000-00000000000b"
"""Whose tokens the stand-in gives out."""
APP_CLIENT = "00000000-0000-0000-0000-0000000000c1"
ENVIRONMENT = {
    "LANDFALL_BACKEND": "azure",
    "LANDFALL_SUBSCRIPTION": SUBSCRIPTION,
    "LANDFALL_RESOURCE_GROUP": GROUP,
    "LANDFALL_WORKSPACE": NAME,
    "LANDFALL_SYNAPSE": "landfall-synapse",
    "LANDFALL_SPARK_POOL": "spark",
    "LANDFALL_EVENTS_TOPIC": TOPIC,
    "LANDFALL_FUNCTION_APP": "func-landfall",
    "LANDFALL_LAKE_ACCOUNT": "landfall",
    "LANDFALL_LAKE_CONTAINER": "lake",
    "AzureWebJobsStorage__accountName": "landfallapp",
}


def deploy(azure: Subscription) -> None:
    """What is there before setup runs: accounts, workspaces, the app with its functions, a topic of its own."""
    arm, storage = azure.arm, f"{HOME}/Microsoft.Storage/storageAccounts"
    for account in ("landfall", "landfallapp"):
        arm.put(f"{storage}/{account}", {"isHnsEnabled": True})
        arm.put(f"{storage}/{account}/blobServices/default", {})
    for container in ("lake", "synapse"):
        arm.put(f"{storage}/landfall/blobServices/default/containers/{container}", {"publicAccess": "None"})
    own = {"userAssignedIdentities": {"id-landfall-app": {"principalId": APP_ID, "clientId": APP_CLIENT}}}
    arm.put(APP, {"state": "Running"}, identity={"type": "UserAssigned", **own})
    for function in ("event_storage", "event_azureml", "queue_signals"):
        arm.put(f"{APP}/functions/{function}", {"isDisabled": False})
    system = {"type": "SystemAssigned", "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, "synapse"))}
    arm.put(f"{HOME}/Microsoft.Synapse/workspaces/landfall-synapse", {}, identity=system)
    arm.put(f"{HOME}/Microsoft.EventGrid/topics/landfall", {"endpoint": TOPIC})
    azure.ml.brought = {
        "containerRegistry": f"{HOME}/Microsoft.ContainerRegistry/registries/landfall",
        "applicationInsights": f"{HOME}/Microsoft.Insights/components/landfall",
    }
    azure.ml.computes.clear()


@pytest.fixture(scope="module")
def subscription(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subscription]:
    """One for a file of tests, which go on where the one before ended."""
    made = Subscription(tmp_path_factory.mktemp("subscription"))
    made.start()
    deploy(made)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped pipelines, in a folder of these tests."""
    folder = tmp_path_factory.mktemp("app") / "pipelines"
    shutil.copytree(ROOT / "pipelines", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def azure(subscription: Subscription, pipelines: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subscription]:
    """The subscription as this process's Azure."""
    own = {"LANDFALL_PIPELINES": str(pipelines)}
    for name, value in {**subscription.environment(), **ENVIRONMENT, **own}.items():
        monkeypatch.setenv(name, value)
    yield subscription
    subscription.faults.clear()
    found = [*subscription.crashes, *subscription.ml.violations, *subscription.refused]
    subscription.crashes.clear()
    subscription.ml.violations.clear()
    subscription.refused.clear()
    assert not found


@pytest.fixture
def settings(azure: Subscription) -> Settings:
    return load()
