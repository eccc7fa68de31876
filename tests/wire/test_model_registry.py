"""The registry on the wire: one version a job whatever becomes of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.model_registry import AzureModelRegistry
from shared.adapters.azure.workspace import Workspace
from shared.errors import Transient
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION, Job

MLMODEL = 'flavors: {}\nsignature: {inputs: \'[{"type": "string", "name": "plan"}]\'}\n'


def registry() -> AzureModelRegistry:
    return AzureModelRegistry(Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential(), seconds=1))


@pytest.fixture
def model(azure: StandIn, request: pytest.FixtureRequest) -> str:
    """A model's name that no other test uses; jobs <model>-a and <model>-b have made models."""
    name = request.node.name.replace("[", "-").replace("]", "").lower()
    for job in (f"{name}-a", f"{name}-b"):
        azure.ml.jobs[job] = Job(job, {"outputs": {"model": {}}}, "2026-01-01T00:00:00+00:00", "Completed")
        azure.blobs.write("azureml", f"azureml/{job}/model/MLmodel", MLMODEL.encode())
    return name


def versions(azure: StandIn, model: str) -> dict[str, str]:
    """Job by version, as the service has them."""
    assets = azure.ml.assets.items()
    return {v: p.get("tags", {}).get("landfall.job", "") for (k, n, v), p in assets if (k, n) == ("models", model)}


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"delay": 1.5}], ids=["503", "reset", "timeout"])
def test_a_registration_without_an_answer_is_one_version(azure: StandIn, model: str, fault: dict[str, Any]) -> None:
    azure.faults.add(rf"PUT .*/models/{model}/versions/1$", after=True, **fault)
    assert registry().register(model, job=f"{model}-a", output="model", tags={}).version == "1"
    assert registry().register(model, job=f"{model}-a", output="model", tags={}).version == "1"
    assert versions(azure, model) == {"1": f"{model}-a"}


def test_a_registration_without_effect_is_transient(azure: StandIn, model: str) -> None:
    azure.faults.add(rf"PUT .*/models/{model}/versions/1$", status=503)
    with pytest.raises(Transient):
        registry().register(model, job=f"{model}-a", output="model", tags={})
    assert versions(azure, model) == {}
    assert registry().register(model, job=f"{model}-a", output="model", tags={}).version == "1"


def test_who_loses_the_race_for_a_number_takes_the_next(
    azure: StandIn, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = registry()
    create = slow._create

    def beaten(name: str, version: str, place: str, tags: dict[str, str]) -> Any:
        monkeypatch.setattr(slow, "_create", create)
        assert registry().register(model, job=f"{model}-b", output="model", tags={}).version == version
        return create(name, version, place, tags)

    monkeypatch.setattr(slow, "_create", beaten)
    assert slow.register(model, job=f"{model}-a", output="model", tags={}).version == "2"
    assert versions(azure, model) == {"1": f"{model}-b", "2": f"{model}-a"}


def test_a_version_points_at_the_jobs_output(azure: StandIn, model: str) -> None:
    registry().register(model, job=f"{model}-a", output="model", tags={"landfall.run": "r"})
    made = azure.ml.assets["models", model, "1"]
    assert made["modelUri"] == f"azureml://jobs/{model}-a/outputs/model"
    assert made["modelType"] == "mlflow_model"
    assert made["tags"].items() >= {"landfall.run": "r", "landfall.job": f"{model}-a"}.items()


def test_moving_an_alias_changes_tags_and_nothing_else(azure: StandIn, model: str) -> None:
    models = registry()
    for job in ("a", "b"):
        models.register(model, job=f"{model}-{job}", output="model", tags={})
    before = models.get(model, "2")
    for version in ("1", "2", "1", "2"):
        models.set_alias(model, "champion", version)
        assert registry().alias(model, "champion") == version
    assert registry().get(model, "2") == before
    assert len([e for e in azure.ml.raised if e.data.get("ModelName") == model]) == 2


def test_setting_the_alias_that_is_set_sends_nothing(azure: StandIn, model: str) -> None:
    registry().register(model, job=f"{model}-a", output="model", tags={})
    registry().set_alias(model, "champion", "1")
    sent = len(azure.made(f"PUT .*/models/{model}/"))
    registry().set_alias(model, "champion", "1")
    assert len(azure.made(f"PUT .*/models/{model}/")) == sent


def test_versions_that_others_named_in_their_own_way_are_not_seen(azure: StandIn, model: str) -> None:
    azure.ml.assets["models", model, "beta"] = {"modelUri": "azureml://datastores/d/paths/m/", "flavors": {}}
    assert list(registry().versions(model)) == []
    assert registry().register(model, job=f"{model}-a", output="model", tags={}).version == "1"


def test_a_version_that_was_registered_by_hand_is_seen_without_run_and_job(azure: StandIn, model: str) -> None:
    azure.blobs.write("azureml", f"by-hand/{model}/MLmodel", MLMODEL.encode())
    place = f"azureml://datastores/workspaceblobstore/paths/by-hand/{model}/"
    azure.ml.assets["models", model, "4"] = {"modelUri": place, "modelType": "mlflow_model", "flavors": {}}
    [version] = registry().versions(model)
    assert (version.version, version.run, version.job) == ("4", "", "")
    assert [column.name for column in version.signature] == ["plan"]
