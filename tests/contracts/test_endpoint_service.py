"""What every EndpointService does, whatever the backend."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.endpoint_service import AzureEndpoints
from shared.adapters.azure.model_registry import AzureModelRegistry
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local import endpoint_service
from shared.adapters.local.endpoint_service import LOADING_ATTEMPTS, LocalEndpoints
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.model_registry import MlflowRegistry
from shared.adapters.system_clock import SystemClock
from shared.domain.pipelines import Rollout
from shared.errors import InvalidRequest, Missing, Refused, Rejected, Transient
from shared.ports.endpoint_service import EndpointService, Route
from tests.scoring.models import COLUMNS, make_registry, tenure_in_thousands
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION

ROW = [3, 70.5, "month", True, "2021-02-03T00:00:00"]
SPEND = (("tenure", "monthly"), [[3.0, 70.5]])


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    return make_registry(tmp_path_factory.mktemp("models"))


class Harness:
    """A backend's endpoint service and how long to wait for it."""

    def __init__(self, service: EndpointService, patience: float, lake: FolderLake | None = None) -> None:
        self.service = service
        self.lake = lake
        self.patience = patience

    def until(self, state: str, endpoint: str, deployment: str) -> str:
        """Wait until the deployment is in ``state`` and return its reason."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            present = self.service.deployments(endpoint)[deployment]
            if present.state == state:
                return present.reason
            assert present.state in ("creating", "updating"), present
            time.sleep(0.01)
        raise AssertionError(f"{deployment} is {present}, not {state}")

    def ready(self, endpoint: str, deployment: str, *, model: str = "customer-churn", version: str = "1") -> None:
        self.service.ensure(endpoint)
        self.service.deploy(endpoint, deployment, model=model, version=version, sizing=Rollout())
        self.until("ready", endpoint, deployment)


def azure_endpoints(standin: StandIn, models: MlflowRegistry, lake: FolderLake) -> AzureEndpoints:
    """The endpoints of a workspace that has the same models and no endpoint."""
    for name in ("customer-churn", "spend", "rule", "broken"):
        for version in models.versions(name):
            place = f"models/{name}/{version.version}/model"
            standin.blobs.upload(models.model_folder(name, version.version), "azureml", place)
            uri = f"azureml://datastores/workspaceblobstore/paths/{place}"
            asset = {"modelUri": uri, "modelType": "mlflow_model", "flavors": {}}
            standin.ml.assets.setdefault(("models", name, version.version), asset)
    standin.endpoints.all.clear()
    workspace = Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential())
    return AzureEndpoints(workspace, AzureModelRegistry(workspace), lake)


@pytest.fixture(params=["local", "azure"])
def harness(request: pytest.FixtureRequest, tmp_path: Path, models: MlflowRegistry) -> Iterator[Harness]:
    lake = FolderLake(tmp_path / "lake", "landfall", "lake")
    match request.param:
        case "local":
            yield Harness(LocalEndpoints(tmp_path, models, SystemClock(), lake), 20, lake)
        case "azure":
            yield Harness(azure_endpoints(request.getfixturevalue("azure"), models, lake), 60, lake)


@pytest.fixture
def service(harness: Harness) -> EndpointService:
    return harness.service


def test_an_endpoint_is_created_once_and_keeps_its_deployments(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.service.ensure("churn")
    assert list(harness.service.deployments("churn")) == ["v1"]


def test_an_endpoint_that_does_not_exist_is_empty_everywhere(service: EndpointService) -> None:
    assert service.deployments("nowhere") == {}
    assert service.traffic("nowhere") == {}
    assert service.routes("nowhere") == ()
    service.remove("nowhere", "v1")


def test_an_endpoint_that_does_not_exist_cannot_be_changed_or_asked(service: EndpointService) -> None:
    with pytest.raises(Missing, match="nowhere"):
        service.deploy("nowhere", "v1", model="customer-churn", version="1", sizing=Rollout())
    with pytest.raises(Missing, match="nowhere"):
        service.set_traffic("nowhere", {})
    with pytest.raises(Missing, match="nowhere"):
        service.score("nowhere", COLUMNS, [ROW])


@pytest.mark.parametrize("name", ["../churn", "", "a/b", "1st", "x" * 33])
def test_a_name_that_no_endpoint_can_have_is_rejected(service: EndpointService, name: str) -> None:
    with pytest.raises(Rejected, match="cannot name"):
        service.ensure(name)
    assert service.deployments(name) == {}


def test_a_model_version_that_does_not_exist_cannot_be_deployed(service: EndpointService) -> None:
    service.ensure("churn")
    with pytest.raises(Missing, match="customer-churn has no version 99"):
        service.deploy("churn", "v99", model="customer-churn", version="99", sizing=Rollout())
    assert service.deployments("churn") == {}


def test_deploying_returns_at_once_and_gives_no_traffic(harness: Harness) -> None:
    harness.service.ensure("churn")
    start = time.monotonic()
    harness.service.deploy("churn", "v1", model="customer-churn", version="1", sizing=Rollout())
    assert time.monotonic() - start < harness.patience / 4
    assert harness.service.deployments("churn")["v1"].version == "1"
    harness.until("ready", "churn", "v1")
    assert harness.service.traffic("churn") == {}
    assert harness.service.routes("churn") == (Route("v1", "customer-churn", "1", 0),)


def test_deploying_again_leaves_the_deployment_as_it_is(harness: Harness) -> None:
    harness.ready("churn", "v1")
    before = harness.service.deployments("churn")
    harness.service.deploy("churn", "v1", model="customer-churn", version="2", sizing=Rollout())
    assert harness.service.deployments("churn") == before


def test_a_model_that_cannot_be_loaded_fails_with_its_reason(harness: Harness) -> None:
    harness.service.ensure("churn")
    harness.service.deploy("churn", "v1", model="broken", version="1", sizing=Rollout())
    assert "model.pkl" in harness.until("failed", "churn", "v1")
    with pytest.raises(Refused, match="v1 of endpoint churn is failed"):
        harness.service.set_traffic("churn", {"v1": 100})
    assert harness.service.routes("churn") == ()


@pytest.mark.parametrize("split", [{"v1": 50}, {"v1": 150, "v2": -50}, {"v1": 60, "v2": 60}])
def test_traffic_that_does_not_sum_to_0_or_100_is_refused(harness: Harness, split: dict[str, int]) -> None:
    harness.ready("churn", "v1")
    harness.ready("churn", "v2", version="2")
    with pytest.raises(Refused, match="sum to 0 or 100"):
        harness.service.set_traffic("churn", split)
    assert harness.service.traffic("churn") == {}


def test_traffic_to_an_unknown_deployment_is_refused(harness: Harness) -> None:
    harness.ready("churn", "v1")
    with pytest.raises(Refused, match="v7 of endpoint churn does not exist"):
        harness.service.set_traffic("churn", {"v1": 50, "v7": 50})


def test_the_split_is_read_back_without_zeros(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.ready("churn", "v2", version="2")
    harness.service.set_traffic("churn", {"v1": 100, "v2": 0})
    assert harness.service.traffic("churn") == {"v1": 100}
    assert {r.deployment: r.share for r in harness.service.routes("churn")} == {"v1": 100, "v2": 0}
    harness.service.set_traffic("churn", {})
    assert harness.service.traffic("churn") == {}


def test_a_deployment_with_traffic_is_never_removed(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.service.set_traffic("churn", {"v1": 100})
    with pytest.raises(Refused, match="has 100 % of the traffic"):
        harness.service.remove("churn", "v1")
    assert harness.service.score("churn", COLUMNS, [ROW]).deployment == "v1"


def test_a_removed_deployment_is_gone_and_removing_it_again_does_nothing(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.service.remove("churn", "v1")
    harness.service.remove("churn", "v1")
    assert harness.service.deployments("churn") == {}
    with pytest.raises(Missing, match="no deployment v1"):
        harness.service.score("churn", COLUMNS, [ROW], deployment="v1")


def test_copies_to_a_deployment_without_traffic_are_read_back_and_end_with_the_next_split(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.ready("churn", "v2", version="2")
    harness.service.set_traffic("churn", {"v1": 100}, mirror={"v2": 20})
    assert (harness.service.traffic("churn"), harness.service.mirror("churn")) == ({"v1": 100}, {"v2": 20})
    routes = {route.deployment: (route.share, route.mirror) for route in harness.service.routes("churn")}
    assert routes == {"v1": (100, 0), "v2": (0, 20)}
    with pytest.raises(Refused, match="gets copies of requests"):
        harness.service.remove("churn", "v2")
    harness.service.set_traffic("churn", {"v1": 100})
    assert harness.service.mirror("churn") == {}
    harness.service.remove("churn", "v2")


@pytest.mark.parametrize("mirror", [{"v2": 51}, {"v1": 20}, {"v2": 10, "v3": 10}, {"v2": -1}, {"v9": 10}])
def test_copies_that_no_endpoint_makes_are_refused(harness: Harness, mirror: dict[str, int]) -> None:
    harness.ready("churn", "v1")
    harness.ready("churn", "v2", version="2")
    with pytest.raises(Refused):
        harness.service.set_traffic("churn", {"v1": 100}, mirror=mirror)
    assert harness.service.mirror("churn") == {}


def test_requests_follow_the_split(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.ready("churn", "v2", version="2")
    harness.service.set_traffic("churn", {"v1": 80, "v2": 20})
    asked = Counter(harness.service.score("churn", COLUMNS, [ROW]).version for _ in range(200))
    # 20 % of 200 is 40; five standard deviations are 28.
    assert 12 <= asked["2"] <= 68
    assert set(asked) == {"1", "2"}


def test_one_deployment_can_be_asked_whatever_its_traffic(harness: Harness) -> None:
    harness.ready("churn", "v1")
    harness.ready("churn", "v2", version="2")
    harness.service.set_traffic("churn", {"v1": 100})
    answer = harness.service.score("churn", COLUMNS, [ROW], deployment="v2")
    assert (answer.deployment, answer.version) == ("v2", "2")


def test_nothing_answers_without_traffic(harness: Harness) -> None:
    harness.ready("churn", "v1")
    with pytest.raises(Missing, match="has traffic"):
        harness.service.score("churn", COLUMNS, [ROW])


def test_a_classifier_answers_a_prediction_and_its_probabilities_for_every_row(harness: Harness) -> None:
    harness.ready("churn", "v1")
    answer = harness.service.score(
        "churn", COLUMNS, [ROW, [60, 20.0, None, False, "2020-05-05T00:00:00"]], deployment="v1"
    )
    assert answer.predictions == ["Yes", "No"]
    assert answer.classes == ["No", "Yes"]
    assert answer.probabilities is not None
    assert [sum(row) for row in answer.probabilities] == pytest.approx([1, 1])
    assert answer.probabilities[0][1] > 0.5 > answer.probabilities[1][1]
    assert answer.milliseconds > 0


def test_a_regression_answers_without_probabilities(harness: Harness) -> None:
    harness.ready("spend", "v1", model="spend")
    answer = harness.service.score("spend", *SPEND, deployment="v1")
    assert answer.predictions == [pytest.approx(846.0)]
    assert answer.probabilities is None and answer.classes is None


def test_a_model_of_another_flavour_answers_too(harness: Harness) -> None:
    harness.ready("rule", "v1", model="rule")
    assert harness.service.score("rule", COLUMNS, [ROW], deployment="v1").predictions == ["Yes"]


def test_the_order_of_the_columns_does_not_matter(harness: Harness) -> None:
    harness.ready("churn", "v1")
    straight = harness.service.score("churn", COLUMNS, [ROW], deployment="v1")
    turned = harness.service.score("churn", COLUMNS[::-1], [ROW[::-1]], deployment="v1")
    assert straight.probabilities == turned.probabilities


@pytest.mark.parametrize(
    ("columns", "row"),
    [(COLUMNS[:2], ROW[:2]), (COLUMNS, ["many", *ROW[1:]]), (COLUMNS, [*ROW[:4], "yesterday"])],
)
def test_input_that_the_model_refuses_is_an_invalid_request(harness: Harness, columns: Any, row: Any) -> None:
    harness.ready("churn", "v1")
    with pytest.raises(InvalidRequest):
        harness.service.score("churn", columns, [row], deployment="v1")


def _each(count: int, work: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(count)]]


def test_many_may_ask_at_once(harness: Harness) -> None:
    harness.ready("churn", "v1")
    answers = _each(8, lambda: harness.service.score("churn", COLUMNS, [ROW], deployment="v1").probabilities)
    assert all(answer == answers[0] for answer in answers)


def test_a_version_with_a_compiled_form_answers_in_it(harness: Harness, tmp_path: Path) -> None:
    """The form here is that of another model, to tell who answered."""
    assert harness.lake
    harness.lake.write("models/spend/1/compiled.onnx", tenure_in_thousands(tmp_path / "model"))
    harness.ready("spend", "v1", model="spend")
    answer = harness.service.score("spend", ["tenure", "monthly"], [[4, 40], [3.5, 1]], deployment="v1")
    assert answer.predictions == pytest.approx([4000, 3500])


# What is true of deployments in files and processes.


@pytest.fixture
def local(tmp_path: Path, models: MlflowRegistry) -> Callable[[], LocalEndpoints]:
    return lambda: LocalEndpoints(tmp_path, models, SystemClock(), FolderLake(tmp_path / "lake", "landfall", "lake"))


def test_a_model_is_loaded_once_for_many_threads(
    local: Callable[[], LocalEndpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    Harness(local(), 20).ready("churn", "v1")
    other = local()
    loaded = []
    original = endpoint_service.load
    monkeypatch.setattr(endpoint_service, "load", lambda *files: loaded.append(files) or original(*files))
    _each(6, lambda: other.score("churn", COLUMNS, [ROW], deployment="v1"))
    assert len(loaded) == 1


def test_changes_of_another_process_are_seen(local: Callable[[], LocalEndpoints]) -> None:
    one, other = local(), local()
    Harness(one, 20).ready("churn", "v1")
    assert other.score("churn", COLUMNS, [ROW], deployment="v1").version == "1"
    one.remove("churn", "v1")
    Harness(one, 20).ready("churn", "v1", version="2")
    assert other.score("churn", COLUMNS, [ROW], deployment="v1").version == "2"


def test_no_change_is_lost_when_many_deploy_at_once(local: Callable[[], LocalEndpoints]) -> None:
    local().ensure("churn")
    services = [local() for _ in range(6)]
    threads = [
        threading.Thread(
            target=service.deploy,
            args=("churn", f"v{i}"),
            kwargs={"model": "spend", "version": "1", "sizing": Rollout()},
        )
        for i, service in enumerate(services)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        Harness(local(), 20).until("ready", "churn", f"v{i}")


def _deploy_and_die(home: Path, model_home: Path) -> None:
    class Dying(MlflowRegistry):
        def model_folder(self, name: str, version: str) -> Path:
            os._exit(9)

    service = LocalEndpoints(home, Dying(model_home), SystemClock(), FolderLake(home / "lake", "landfall", "lake"))
    service.deploy("churn", "v1", model="customer-churn", version="1", sizing=Rollout())
    time.sleep(30)


def _die(tmp_path: Path, models: MlflowRegistry) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_deploy_and_die, args=(tmp_path, models._home))
    process.start()
    process.join(60)
    assert process.exitcode == 9


def test_a_deployment_whose_process_died_while_loading_is_loaded_by_the_next_look(
    local: Callable[[], LocalEndpoints], tmp_path: Path, models: MlflowRegistry
) -> None:
    local().ensure("churn")
    _die(tmp_path, models)
    assert local().routes("churn") == ()
    with pytest.raises(Transient, match="creating"):
        local().score("churn", COLUMNS, [ROW], deployment="v1")
    Harness(local(), 20).until("ready", "churn", "v1")


def test_a_model_that_ends_its_process_again_and_again_is_given_up(
    local: Callable[[], LocalEndpoints], tmp_path: Path, models: MlflowRegistry
) -> None:
    local().ensure("churn")
    for _ in range(LOADING_ATTEMPTS):
        _die(tmp_path, models)
    assert "cut short 3 times" in Harness(local(), 20).until("failed", "churn", "v1")


def test_a_removed_deployment_gives_its_memory_back(local: Callable[[], LocalEndpoints]) -> None:
    service, other = local(), local()
    Harness(service, 20).ready("churn", "v1")
    other.score("churn", COLUMNS, [ROW], deployment="v1")
    service.remove("churn", "v1")
    assert (service.deployments("churn"), other.deployments("churn")) == ({}, {})
    assert not service._models and not other._models
