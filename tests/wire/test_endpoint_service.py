"""Online endpoints on the wire: what is sent, what the service refuses, and what lost answers do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.endpoint_names import online_endpoint
from shared.adapters.azure.endpoint_service import AzureEndpoints
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local.lake import FolderLake
from shared.domain.pipelines import Rollout
from shared.errors import Missing, Refused, Rejected, Transient
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION, WORKSPACE
from tests.standin.online_endpoints import NAME as ENDPOINT_NAME
from tests.standin.online_endpoints import Deployment, Endpoint

CHURN = online_endpoint("churn", WORKSPACE)


class Registry:
    """The model churn with versions 1 to 30."""

    def get(self, name: str, version: str) -> object | None:
        return object() if name == "churn" and int(version) <= 30 else None


def answers(endpoint: Endpoint, deployment: Deployment, body: bytes) -> tuple[int, bytes]:
    rows = json.loads(body)["input_data"]["data"]
    return 200, json.dumps({"predictions": ["No"] * len(rows), "milliseconds": 2.5}).encode()


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake", "landfall", "lake")


@pytest.fixture
def service(azure: StandIn, monkeypatch: pytest.MonkeyPatch, lake: FolderLake) -> Iterator[AzureEndpoints]:
    """A service whose deployments answer No to everything and load nothing."""
    monkeypatch.setattr(azure.endpoints, "prepare", lambda endpoint, deployment: None)
    monkeypatch.setattr(azure.endpoints, "forget", lambda endpoint, deployment: None)
    monkeypatch.setattr(azure.inference, "scorer", answers)
    azure.endpoints.all.clear()
    for version in range(1, 31):
        place = f"azureml://datastores/workspaceblobstore/paths/churn/{version}"
        azure.ml.assets["models", "churn", str(version)] = {"modelUri": place, "flavors": {}}
        conda = b"dependencies: [python=3.11, {pip: [mlflow==3.15.0, scikit-learn==1.9.1, pandas==3.1.1]}]"
        azure.blobs.write("azureml", f"churn/{version}/conda.yaml", conda)
    registry: Any = Registry()
    yield AzureEndpoints(Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential(), seconds=1), registry, lake)
    azure.endpoints.held = False
    azure.endpoints.release()


def ready(service: AzureEndpoints, *versions: str) -> None:
    service.ensure("churn")
    for version in versions:
        service.deploy("churn", f"v{version}", model="churn", version=version, sizing=Rollout())


@pytest.mark.parametrize("name", ["abc", "customer-churn", "a-" + "b" * 30, "a" * 24 + "-" + "b" * 7])
def test_an_endpoint_has_a_name_that_no_other_workspace_of_the_region_takes(name: str) -> None:
    ours = online_endpoint(name, WORKSPACE)
    assert ENDPOINT_NAME.fullmatch(ours) and ours.startswith(name[:24])
    assert ours != online_endpoint(name, WORKSPACE.replace(GROUP, "another"))
    assert ours != online_endpoint(f"{name}x", WORKSPACE)
    assert ours == online_endpoint(name, WORKSPACE.upper())


def test_the_endpoint_of_a_pipeline_is_made_under_that_name_alone(azure: StandIn, service: AzureEndpoints) -> None:
    bare = r"/onlineEndpoints/churn(/|$)"
    before = len(azure.made(bare))
    ready(service, "1")
    service.set_traffic("churn", {"v1": 100})
    assert set(azure.endpoints.all) == {CHURN} and CHURN != "churn"
    assert service.traffic("churn") == {"v1": 100}
    assert len(azure.made(bare)) == before


def test_a_deployment_is_of_its_size_with_the_models_own_environment_and_our_scoring_code(
    azure: StandIn, service: AzureEndpoints
) -> None:
    sizing = Rollout(instance_type="Standard_F4s_v2", instance_count=3)
    service.ensure("churn")
    service.deploy("churn", "v7", model="churn", version="7", sizing=sizing)
    assert azure.endpoints.all[CHURN].properties["authMode"] == "AADToken"
    made = azure.endpoints.all[CHURN].deployments["version-7"]
    assert made.model == ("churn", "7")
    assert (made.properties["instanceType"], made.sku["capacity"]) == ("Standard_F4s_v2", 3)
    assert made.properties["codeConfiguration"]["scoringScript"] == "score.py"
    identifier = azure.ml.asset(made.properties["environmentId"], "environments")
    assert identifier
    conda = azure.ml.assets["environments", *identifier]["condaFile"]
    assert "scikit-learn==1.9.1" in conda and "azureml-inference-server-http" in conda
    assert conda.count("pandas") == 1
    assert "onnxruntime" not in conda


def test_a_compiled_form_is_deployed_with_the_runtime_that_it_needs(
    azure: StandIn, service: AzureEndpoints, lake: FolderLake
) -> None:
    lake.write("models/churn/8/compiled.onnx", b"a graph")
    service.ensure("churn")
    service.deploy("churn", "v8", model="churn", version="8", sizing=Rollout())
    made = azure.endpoints.all[CHURN].deployments["version-8"]
    environment = azure.ml.asset(made.properties["environmentId"], "environments")
    assert environment and "onnxruntime" in azure.ml.assets["environments", *environment]["condaFile"]


def test_an_endpoint_that_is_being_created_takes_deployments_later(azure: StandIn, service: AzureEndpoints) -> None:
    azure.endpoints.held = True
    service.ensure("churn")
    service.ensure("churn")
    with pytest.raises(Transient, match="creating"):
        service.deploy("churn", "v1", model="churn", version="1", sizing=Rollout())
    azure.endpoints.release()
    service.deploy("churn", "v1", model="churn", version="1", sizing=Rollout())
    assert service.deployments("churn")["v1"].state == "creating"
    assert service.routes("churn") == ()


def test_an_endpoint_that_is_updating_refuses_changes_for_the_moment(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1", "2")
    azure.endpoints.held = True
    service.set_traffic("churn", {"v1": 100})
    for change in (
        lambda: service.set_traffic("churn", {"v2": 100}),
        lambda: service.deploy("churn", "v3", model="churn", version="3", sizing=Rollout()),
        lambda: service.remove("churn", "v2"),
    ):
        with pytest.raises(Transient, match="updating"):
            change()
    assert service.traffic("churn") == {}
    azure.endpoints.release()
    assert service.traffic("churn") == {"v1": 100}


def test_traffic_that_the_service_could_not_shift_is_read_back_as_it_was(
    azure: StandIn, service: AzureEndpoints
) -> None:
    ready(service, "1")
    azure.endpoints.held = True
    service.set_traffic("churn", {"v1": 100})
    azure.endpoints.release(failing="no capacity")
    assert service.traffic("churn") == {}


def test_a_deployment_that_fails_says_why(azure: StandIn, service: AzureEndpoints) -> None:
    service.ensure("churn")
    azure.endpoints.held = True
    service.deploy("churn", "v1", model="churn", version="1", sizing=Rollout())
    azure.endpoints.release(failing="Traceback:\nModuleNotFoundError: No module named 'xgboost'\n")
    present = service.deployments("churn")["v1"]
    assert (present.state, present.reason) == ("failed", "ModuleNotFoundError: No module named 'xgboost'")


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"delay": 1.5}], ids=["503", "reset", "time-out"])
def test_a_create_that_took_effect_without_an_answer_is_not_sent_again(
    azure: StandIn, service: AzureEndpoints, fault: dict[str, Any]
) -> None:
    azure.faults.add(f"PUT .*/onlineEndpoints/{CHURN}$", after=True, **fault)
    azure.faults.add("PUT .*/deployments/version-1$", after=True, **fault)
    before = len(azure.made("PUT .*/onlineEndpoints/"))
    ready(service, "1")
    ready(service, "1")
    assert service.deployments("churn")["v1"].state == "ready"
    assert len(azure.made("PUT .*/onlineEndpoints/")) - before == 2


def test_a_create_without_effect_is_transient(azure: StandIn, service: AzureEndpoints) -> None:
    azure.faults.add(f"PUT .*/onlineEndpoints/{CHURN}$", status=503)
    with pytest.raises(Transient):
        service.ensure("churn")
    assert service.deployments("churn") == {}
    service.ensure("churn")
    azure.faults.add("PUT .*/deployments/version-1$", status=503)
    with pytest.raises(Transient):
        service.deploy("churn", "v1", model="churn", version="1", sizing=Rollout())
    assert service.deployments("churn") == {}


def test_a_shift_without_an_answer_is_transient_and_in_force_when_it_had_effect(
    azure: StandIn, service: AzureEndpoints
) -> None:
    ready(service, "1")
    azure.faults.add(f"PUT .*/onlineEndpoints/{CHURN}$", after=True, status=503)
    with pytest.raises(Transient):
        service.set_traffic("churn", {"v1": 100})
    assert service.traffic("churn") == {"v1": 100}
    sent = len(azure.made(f"PUT .*/onlineEndpoints/{CHURN}$"))
    service.set_traffic("churn", {"v1": 100})
    assert len(azure.made(f"PUT .*/onlineEndpoints/{CHURN}$")) == sent


def test_a_deletion_without_an_answer_is_transient_and_done_when_asked_again(
    azure: StandIn, service: AzureEndpoints
) -> None:
    ready(service, "1")
    azure.faults.add("DELETE .*/deployments/version-1$", after=True, status=503)
    with pytest.raises(Transient):
        service.remove("churn", "v1")
    service.remove("churn", "v1")
    assert service.deployments("churn") == {}


def test_more_deployments_than_an_endpoint_holds_are_rejected(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, *(str(version) for version in range(1, 21)))
    with pytest.raises(Rejected, match="20 deployments"):
        service.deploy("churn", "v21", model="churn", version="21", sizing=Rollout())


def test_shifting_keeps_what_else_the_endpoint_is(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1")
    before = dict(azure.endpoints.all[CHURN].properties)
    service.set_traffic("churn", {"v1": 100})
    assert azure.endpoints.all[CHURN].properties["authMode"] == before["authMode"]


def test_scoring_takes_a_token_for_azure_ml_and_one_call(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1", "2")
    service.set_traffic("churn", {"v1": 100})
    assert service.score("churn", ["a"], [[1]]).deployment == "v1"
    before = len(azure.calls)
    answer = service.score("churn", ["a"], [[1], [2]], deployment="v2")
    assert (answer.deployment, answer.version, answer.predictions) == ("v2", "2", ["No", "No"])
    assert answer.milliseconds == 2.5
    assert len(azure.calls) - before == 1
    assert "https://ml.azure.com" in azure.identity.asked


def test_asking_one_deployment_leaves_the_next_request_to_the_split(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1", "2")
    service.set_traffic("churn", {"v1": 100})
    assert service.score("churn", ["a"], [[1]], deployment="v2").deployment == "v2"
    assert service.score("churn", ["a"], [[1]]).deployment == "v1"


@pytest.mark.parametrize(
    "fault",
    [{"status": 429}, {"status": 503}, {"status": 408}, {"reset": True}, {"delay": 1.5}],
    ids=["429", "503", "408", "reset", "time-out"],
)
def test_an_endpoint_that_does_not_answer_is_transient_and_asked_once(
    azure: StandIn, service: AzureEndpoints, fault: dict[str, Any]
) -> None:
    ready(service, "1")
    service.set_traffic("churn", {"v1": 100})
    before = len(azure.made("POST .*/score"))
    azure.faults.add("POST .*/score", **fault)
    with pytest.raises(Transient):
        service.score("churn", ["a"], [[1]])
    assert len(azure.made("POST .*/score")) - before == 1


def test_a_model_that_crashes_is_transient(
    azure: StandIn, service: AzureEndpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(service, "1")
    service.set_traffic("churn", {"v1": 100})
    monkeypatch.setattr(azure.inference, "scorer", lambda *_: (500, b"MemoryError"))
    with pytest.raises(Transient, match="MemoryError"):
        service.score("churn", ["a"], [[1]])


def test_a_new_split_is_seen_by_who_asks_after_it(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1", "2")
    service.set_traffic("churn", {"v1": 100})
    assert {route.deployment: route.share for route in service.routes("churn")} == {"v1": 100, "v2": 0}
    service.set_traffic("churn", {"v1": 50, "v2": 50})
    assert {route.deployment: route.share for route in service.routes("churn")} == {"v1": 50, "v2": 50}


def test_routes_cost_no_call_each_time(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1")
    service.routes("churn")
    before = len(azure.calls)
    for _ in range(50):
        service.routes("churn")
    assert len(azure.calls) == before


def test_what_is_not_there_is_named(azure: StandIn, service: AzureEndpoints) -> None:
    ready(service, "1")
    with pytest.raises(Missing, match="no deployment v2"):
        service.score("churn", ["a"], [[1]], deployment="v2")
    with pytest.raises(Refused, match="v2 of endpoint churn does not exist"):
        service.set_traffic("churn", {"v2": 100})
    with pytest.raises(Missing, match="no version 99"):
        service.deploy("churn", "v99", model="churn", version="99", sizing=replace(Rollout(), instance_count=1))
