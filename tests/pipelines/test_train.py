"""train.py of the pipelines that ship, run as the training service runs them."""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from shared.adapters.local import tracking
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.model_registry import MlflowRegistry, read_signature
from shared.adapters.local.training_service import ProcessTrainingService
from shared.ports.jobs import JobStatus
from shared.ports.training_service import CommandJob
from shared.settings import ROOT


def bank(seed: int, count: int = 1000) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "CustomerId": np.arange(count),
            "Age": random.integers(18, 90, count),
            "Income": random.normal(50_000, 20_000, count).clip(0),
            "CreditScore": random.integers(300, 850, count),
            "AccountBalance": random.normal(10_000, 5_000, count),
        }
    )
    frame["IncomeCategory"] = np.select([frame.Income < 30_000, frame.Income < 80_000], ["Low", "Medium"], "High")
    frame["AgeGroup"] = np.select([frame.Age < 30, frame.Age < 50], ["Young", "Middle"], "Senior")
    frame["target"] = (random.random(count) < 1 / (1 + np.exp((550 - frame.CreditScore) / 50))).astype(int)
    return frame


def churn(seed: int, count: int = 1000) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"C{i}" for i in range(count)],
            "tenure": random.integers(0, 72, count),
            "total_charges": random.normal(1000.0, 300.0, count),
            "contract": random.choice(["Month-to-month", "Two year"], count),
        }
    )
    frame.loc[:9, "total_charges"] = np.nan
    leaves = random.random(count) < np.where(frame.contract == "Two year", 0.1, 0.9 - frame.tenure / 100)
    frame["churn"] = np.where(leaves, "Yes", "No")
    return frame


@dataclass(frozen=True)
class Case:
    """A pipeline, rows for it, its key and label columns, and the metric that its script prints first."""

    pipeline: str
    rows: Callable[[int], pd.DataFrame]
    key: str
    label: str
    accuracy: str

    @property
    def folder(self) -> Path:
        return ROOT / "pipelines" / self.pipeline


CASES = [
    Case("bank-customers", bank, "CustomerId", "target", "Accuracy"),
    Case("customer-churn", churn, "customer_id", "churn", "accuracy"),
]


@dataclass(frozen=True)
class Trained:
    case: Case
    home: Path
    status: JobStatus
    model: Path
    train: pd.DataFrame
    test: pd.DataFrame
    seconds: float


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.pipeline)
def trained(request: pytest.FixtureRequest, home: Path) -> Trained:
    """The pipeline's script after it ran as a job of the training service."""
    case: Case = request.param
    lake = FolderLake(home / "lake", "landfall", "lake")
    train, test = case.rows(1), case.rows(2)
    for name, frame in (("train", train), ("test", test)):
        folder = Path(lake.uri(f"features/{case.pipeline}/run/{name}"))
        folder.mkdir(parents=True)
        frame.to_parquet(folder / "part-0.parquet", index=False)
    service = ProcessTrainingService(home, lake, MlflowRegistry(home))
    job = CommandJob(
        name=f"{case.pipeline}-b1-train-1",
        experiment=case.pipeline,
        code=case.folder,
        command="python train.py --data ${{inputs.data}} --test-data ${{inputs.test_data}} "
        "--model-output ${{outputs.model_output}}",
        timeout=timedelta(minutes=2),
        environment="environment.yml",
        image="image",
        compute="cpu-cluster",
        inputs={
            "data": f"features/{case.pipeline}/run/train",
            "test_data": f"features/{case.pipeline}/run/test",
        },
        outputs={"model_output": "mlflow_model"},
        tags={"landfall.run": f"{case.pipeline}-b1", "landfall.pipeline": case.pipeline},
    )
    start = time.monotonic()
    service.submit(job)
    while not (status := service.status(job.name)) or not status.ended:
        time.sleep(0.05)
    model = service.output_folder(job.name, "model_output")
    return Trained(case, home, status, model, train, test, time.monotonic() - start)


def features(trained: Trained, frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=[trained.case.key, trained.case.label])


def test_it_completes_and_prints_the_metrics_of_the_held_out_rows_only(trained: Trained) -> None:
    import mlflow.sklearn

    assert trained.status.state == "completed", trained.status
    model = mlflow.sklearn.load_model(str(trained.model))
    right = (model.predict(features(trained, trained.test)) == trained.test[trained.case.label].to_numpy()).mean()
    assert right > 0.7
    assert f"{trained.case.accuracy}: {right:.4f}" in trained.status.log_tail
    assert trained.status.log_tail[0] == "Trained on 1000 rows, held out 1000", "the log has noise in it"


def test_the_model_takes_the_features_without_key_and_label(trained: Trained) -> None:
    signature = read_signature(trained.model)
    assert [column.name for column in signature] == list(features(trained, trained.train).columns)
    assert {column.type for column in signature} == {"double", "string"}
    assert (trained.model / "input_example.json").is_file()


def test_the_model_is_stored_without_pickle(trained: Trained) -> None:
    meta = yaml.safe_load((trained.model / "MLmodel").read_text())
    assert meta["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert not list(trained.model.glob("*.pkl"))


def test_the_run_in_mlflow_has_parameters_metrics_tags_and_the_model(trained: Trained) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.uri(trained.home))
    experiment = client.get_experiment_by_name(trained.case.pipeline)
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"{trained.case.pipeline}-b1-train-1"
    assert run.data.tags["landfall.run"] == f"{trained.case.pipeline}-b1"
    assert run.data.params.items() >= {"n_estimators": "100"}.items()
    assert set(run.data.metrics) >= {"accuracy", "precision", "recall"}
    assert f"{trained.case.accuracy}: {run.data.metrics['accuracy']:.4f}" in trained.status.log_tail
    assert {file.path for file in client.list_artifacts(run.info.run_id, "model")} >= {"model/MLmodel"}
    assert str(trained.home / "mlflow" / "artifacts") in run.info.artifact_uri


def test_nothing_is_written_into_the_pipelines_folder(trained: Trained) -> None:
    strays = {"mlruns", "mlflow.db", "__pycache__"}
    assert not strays & {path.name for path in trained.case.folder.iterdir()}


def test_its_model_can_be_registered(trained: Trained) -> None:
    registry = MlflowRegistry(trained.home)
    version = registry.register(
        trained.case.pipeline, job=f"{trained.case.pipeline}-b1-train-1", output="model_output", tags={}
    )
    assert version.version == "1"
    assert version.signature == read_signature(trained.model)


@pytest.mark.parametrize(
    "trained", [case for case in CASES if case.pipeline == "bank-customers"], ids=["bank-customers"], indirect=True
)
def test_the_scaler_of_bank_customers_learns_from_training_rows_only(trained: Trained) -> None:
    import mlflow.sklearn

    model = mlflow.sklearn.load_model(str(trained.model))
    scaler = model.named_steps["columns"].named_transformers_["scaled"]
    scaled = ["Age", "Income", "CreditScore", "AccountBalance"]
    assert scaler.mean_ == pytest.approx(trained.train[scaled].mean().to_numpy())
    forest = model.named_steps["forest"]
    assert (forest.n_estimators, forest.max_depth, forest.random_state) == (100, 10, 42)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pipeline)
def test_labels_of_one_class_are_refused_with_a_sentence(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = case.rows(1)
    rows[case.label] = rows[case.label].iloc[0]
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    arguments: list[Any] = ["--data", tmp_path, "--test-data", tmp_path, "--model-output", tmp_path / "model"]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    with pytest.raises(SystemExit, match="all 1000 training rows have the same"):
        runpy.run_path(str(case.folder / "train.py"), run_name="__main__")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pipeline)
def test_the_environment_pins_every_package(case: Case) -> None:
    environment = yaml.safe_load((case.folder / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["name"] == case.pipeline
    assert all("=" in package for package in conda)
    assert all("==" in package for package in pip["pip"])
