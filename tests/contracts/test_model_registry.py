"""What every ModelRegistry does: the sentences of its docstrings, on each backend."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.model_registry import AzureModelRegistry
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local import spool, tracking
from shared.adapters.local.model_registry import MlflowRegistry
from shared.domain.signature import SignatureColumn
from shared.errors import Missing, Rejected
from shared.ports.model_registry import ModelRegistry
from shared.settings import ROOT, child_environment
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION, Job

MLMODEL = """
flavors: {python_function: {loader_module: mlflow.sklearn}}
signature:
  inputs: '[{"type": "string", "name": "plan", "required": true}, {"type": "long", "name": "tenure", "required": true},
    {"type": "integer", "name": "calls", "required": true}, {"type": "double", "name": "charges", "required": false},
    {"type": "float", "name": "score", "required": true}, {"type": "boolean", "name": "active", "required": true},
    {"type": "datetime", "name": "since", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
"""
TENSORS = """
flavors: {python_function: {}}
signature: {inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]'}
"""


@dataclass
class Harness:
    """A backend under test. ``train`` makes a completed job whose output ``model`` holds an MLmodel of that text."""

    registry: ModelRegistry
    train: Callable[[str, str], None]
    events: Callable[[str], list[dict[str, Any]]]
    home: Path


@pytest.fixture(scope="module")
def local_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all tests: making MLflow's database takes seconds."""
    return tmp_path_factory.mktemp("home")


on_a_laptop = pytest.mark.parametrize("harness", ["local"], indirect=True)
"""For what is about MLflow's database and the files below the home folder."""


def azure_harness(standin: StandIn, home: Path) -> Harness:
    def train(job: str, mlmodel: str) -> None:
        standin.ml.jobs[job] = Job(job, {"outputs": {"model": {}}}, "2026-01-01T00:00:00+00:00", "Completed")
        standin.blobs.write("azureml", f"azureml/{job}/model/MLmodel", mlmodel.encode())

    def events(model: str) -> list[dict[str, Any]]:
        found = [{"eventType": e.kind, "subject": e.subject, "data": e.data} for e in standin.ml.raised]
        return [event for event in found if event["data"].get("ModelName") == model]

    return Harness(AzureModelRegistry(Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential())), train, events, home)


@pytest.fixture(params=["local", "azure"])
def harness(request: pytest.FixtureRequest, local_home: Path) -> Harness:
    if request.param == "azure":
        return azure_harness(request.getfixturevalue("azure"), local_home)

    def train(job: str, mlmodel: str) -> None:
        folder = local_home / "jobs" / job / "outputs" / "model"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text(mlmodel)

    def events(model: str) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in spool.waiting(local_home)]
        return [event for event in found if event["data"]["ModelName"] == model]

    return Harness(registry=MlflowRegistry(local_home), train=train, events=events, home=local_home)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model's name that no other test uses."""
    return request.node.originalname.replace("_", "-")


def register(harness: Harness, model: str, job: str, **tags: str) -> str:
    return harness.registry.register(model, job=job, output="model", tags=tags).version


def test_versions_are_numbered_from_one_and_listed_oldest_first(harness: Harness, model: str) -> None:
    for number in range(1, 12):
        harness.train(f"{model}-{number}", MLMODEL)
        assert register(harness, model, f"{model}-{number}") == str(number)
    assert [version.version for version in harness.registry.versions(model)] == [str(n) for n in range(1, 12)]


def test_a_version_carries_run_job_tags_and_signature(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)

    made = harness.registry.register(
        model, job=f"{model}-job", output="model", tags={"landfall.run": "churn-b1", "landfall.data": "7"}
    )

    assert (made.name, made.version, made.run, made.job) == (model, "1", "churn-b1", f"{model}-job")
    assert made.tags.items() >= {"landfall.run": "churn-b1", "landfall.data": "7"}.items()
    assert made.signature == (
        SignatureColumn("plan", "string"),
        SignatureColumn("tenure", "int"),
        SignatureColumn("calls", "int"),
        SignatureColumn("charges", "double", required=False),
        SignatureColumn("score", "double"),
        SignatureColumn("active", "boolean"),
        SignatureColumn("since", "timestamp"),
    )
    assert made.created_at.tzinfo is not None
    assert harness.registry.get(model, "1") == made
    assert list(harness.registry.versions(model)) == [made]


def test_a_model_without_named_columns_has_no_signature(harness: Harness, model: str) -> None:
    for number, text in enumerate(("flavors: {}", TENSORS)):
        harness.train(f"{model}-{number}", text)
        assert harness.registry.register(model, job=f"{model}-{number}", output="model", tags={}).signature == ()


def test_registering_raises_one_event(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    register(harness, model, f"{model}-job", **{"landfall.run": "churn-b1"})

    [event] = harness.events(model)
    assert event["eventType"] == "Microsoft.MachineLearningServices.ModelRegistered"
    assert event["subject"] == f"models/{model}:1"
    assert event["data"]["ModelVersion"] == "1"
    assert event["data"]["ModelTags"]["landfall.run"] == "churn-b1"


def test_a_second_call_for_the_same_job_gives_the_first_version_and_no_event(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    first = harness.registry.register(model, job=f"{model}-job", output="model", tags={"a": "1"})
    assert len(harness.events(model)) == 1

    again = harness.registry.register(model, job=f"{model}-job", output="model", tags={"a": "2"})

    assert again == first
    assert len(harness.events(model)) == 1
    assert list(harness.registry.versions(model)) == [first]


@on_a_laptop
def test_a_crash_before_the_event_is_mended_by_the_next_call(
    harness: Harness, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.train(f"{model}-job", MLMODEL)

    def crash(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("shared.adapters.local.model_registry.raise_event", crash)
        with pytest.raises(OSError, match="no space"):
            register(harness, model, f"{model}-job")
    assert [version.version for version in harness.registry.versions(model)] == ["1"]

    assert register(harness, model, f"{model}-job") == "1"
    assert len(harness.events(model)) == 1


@on_a_laptop
def test_a_half_copied_model_is_copied_again(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    left = tracking.models(harness.home) / model / f"{model}-job" / "model"
    left.mkdir(parents=True)
    (left / "half").touch()

    register(harness, model, f"{model}-job")

    assert [path.name for path in left.iterdir()] == ["MLmodel"]


@pytest.mark.parametrize("make", ["nothing", "no-mlmodel"])
def test_an_output_without_a_model_is_rejected(harness: Harness, model: str, make: str) -> None:
    job = f"{model}-{make}"
    if make == "no-mlmodel":
        (harness.home / "jobs" / job / "outputs" / "model").mkdir(parents=True, exist_ok=True)
    with pytest.raises(Rejected, match="no MLflow model"):
        harness.registry.register(model, job=job, output="model", tags={})
    assert list(harness.registry.versions(model)) == []


def test_an_impossible_model_name_is_rejected(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    with pytest.raises(Rejected, match="a/b"):
        register(harness, "a/b", f"{model}-job")


@on_a_laptop
def test_versions_are_immutable_whatever_becomes_of_the_jobs_output(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    first = harness.registry.register(model, job=f"{model}-job", output="model", tags={})
    (harness.home / "jobs" / f"{model}-job" / "outputs" / "model" / "MLmodel").write_text("flavors: {}")
    assert harness.registry.get(model, "1") == first


def test_what_is_not_there_is_none_or_nothing(harness: Harness, model: str) -> None:
    assert harness.registry.get(model, "1") is None
    assert list(harness.registry.versions(model)) == []
    assert harness.registry.alias(model, "champion") is None
    harness.train(f"{model}-job", MLMODEL)
    register(harness, model, f"{model}-job")
    assert harness.registry.get(model, "2") is None
    assert harness.registry.get(model, "latest") is None
    assert harness.registry.alias(model, "champion") is None


def test_aliases_move_and_point_only_at_versions_that_exist(harness: Harness, model: str) -> None:
    for number in (1, 2):
        harness.train(f"{model}-{number}", MLMODEL)
        register(harness, model, f"{model}-{number}")

    harness.registry.set_alias(model, "champion", "1")
    harness.registry.set_alias(model, "challenger", "2")
    assert harness.registry.alias(model, "champion") == "1"
    harness.registry.set_alias(model, "champion", "2")
    assert (harness.registry.alias(model, "champion"), harness.registry.alias(model, "challenger")) == ("2", "2")

    for name, version in ((model, "3"), ("no-such-model", "1")):
        with pytest.raises(Missing):
            harness.registry.set_alias(name, "champion", version)
    assert harness.registry.alias(model, "champion") == "2"


@on_a_laptop
def test_a_version_registered_by_hand_is_seen_without_run_and_job(harness: Harness, model: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "MLmodel").write_text(MLMODEL)
    list(harness.registry.versions(model))
    client = MlflowClient(tracking_uri=tracking.uri(harness.home), registry_uri=tracking.uri(harness.home))
    client.create_registered_model(model)
    client.create_model_version(model, tmp_path.as_uri())

    [version] = harness.registry.versions(model)
    assert (version.version, version.run, version.job) == ("1", "", "")
    assert len(version.signature) == 7


@on_a_laptop
def test_a_model_that_a_notebook_logged_and_registered_has_its_files_and_signature(
    harness: Harness, model: str, tmp_path: Path
) -> None:
    list(harness.registry.versions(model))
    code = """
import sys
import mlflow, pandas as pd
from sklearn.linear_model import LinearRegression

uri, artifacts, name = sys.argv[1:]
mlflow.set_tracking_uri(uri)
experiment = mlflow.create_experiment(name, artifact_location=artifacts)
table = pd.DataFrame({"tenure": [0.0, 1.0, 2.0]})
with mlflow.start_run(experiment_id=experiment):
    trained = LinearRegression().fit(table, [0.0, 1.0, 2.0])
    mlflow.sklearn.log_model(trained, name="model", input_example=table, registered_model_name=name)
"""
    arguments = [tracking.uri(harness.home), tmp_path.as_uri(), model]
    environment = child_environment(tracking.QUIET)
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment, check=True)

    [version] = harness.registry.versions(model)
    assert [column.name for column in version.signature] == ["tenure"]
    assert (MlflowRegistry(harness.home).model_folder(model, "1") / "MLmodel").is_file()


@on_a_laptop
def test_the_files_of_a_version_are_found_after_the_home_was_moved(
    harness: Harness, model: str, tmp_path: Path
) -> None:
    harness.train(f"{model}-job", MLMODEL)
    register(harness, model, f"{model}-job")
    harness.home.rename(tmp_path / "moved")
    try:
        registry = MlflowRegistry(tmp_path / "moved")
        assert registry.model_folder(model, "1").is_relative_to(tmp_path / "moved")
        version = registry.get(model, "1")
    finally:
        (tmp_path / "moved").rename(harness.home)
    assert version is not None
    assert len(version.signature) == 7


@on_a_laptop
def test_the_files_of_a_version_are_found_by_its_number(local_home: Path, harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    register(harness, model, f"{model}-job")
    registry = MlflowRegistry(local_home)
    assert (registry.model_folder(model, "1") / "MLmodel").read_text() == MLMODEL
    with pytest.raises(Missing):
        registry.model_folder(model, "2")
    with pytest.raises(Missing):
        registry.model_folder(model, "latest")
    with pytest.raises(Missing):
        MlflowRegistry(local_home / "nowhere").model_folder(model, "1")


def _register(home: Path, model: str, job: str) -> str:
    return MlflowRegistry(home).register(model, job=job, output="model", tags={}).version


def test_processes_that_race_make_one_database_and_one_version_a_job(tmp_path: Path) -> None:
    for job in ("job-a", "job-b"):
        folder = tmp_path / "jobs" / job / "outputs" / "model"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text(MLMODEL)
    arguments = [(tmp_path, "churn", job) for job in ("job-a", "job-b", "job-a")]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        versions = pool.starmap(_register, arguments)
    assert sorted({versions[0], versions[1]}) == ["1", "2"]
    assert versions[2] == versions[0]
    assert len(spool.waiting(tmp_path)) == 2


@on_a_laptop
def test_finding_the_files_of_a_version_loads_no_mlflow(harness: Harness, model: str) -> None:
    harness.train(f"{model}-job", MLMODEL)
    register(harness, model, f"{model}-job")
    code = """
import sys
from pathlib import Path
from shared.adapters.local.model_registry import MlflowRegistry

MlflowRegistry(Path(sys.argv[1])).model_folder(sys.argv[2], "1")
sys.exit("mlflow" in sys.modules)
"""
    arguments = [str(harness.home), model]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, env=child_environment({}), check=True)
