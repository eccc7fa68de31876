"""A loop with real adapters around real models; only the clock is moved by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.adapters.local.batch_service import ProcessBatchService
from shared.adapters.local.endpoint_service import LocalEndpoints
from shared.adapters.local.event_publisher import EventLog
from shared.adapters.local.feature_engine import DuckDBFeatureEngine
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.model_registry import MlflowRegistry
from shared.adapters.local.run_ledger import SqliteLedger
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.local.training_service import ProcessTrainingService
from shared.definitions.catalog import Catalog
from shared.domain.ledger import Version
from shared.domain.pipelines import Rollout
from shared.domain.records import to_record
from shared.loop import Loop
from shared.ports import Ports
from shared.ports.feature_engine import Manifest
from shared.predictions.prediction_log import PredictionLog
from shared.settings import Settings
from tests.moving_clock import MovingClock
from tests.scoring.models import LANDED, SQL, make_registry

PIPELINE = """
name: {name}
landing:
  path: landing/{name}
features: {{key: customer_id, label: churn}}
"""
GROUPED = (
    "SELECT max(customer_id) AS customer_id, count(*) AS tenure, max(churn) AS churn FROM landed GROUP BY contract"
)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    return make_registry(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory, registry: MlflowRegistry) -> Iterator[Loop]:
    """customer-churn serves version 1 and has 2 ready without traffic; spend and rule serve their version 1; broken
    has a deployment that failed; idle has nothing. The run of rule is made by a query that is not row-wise."""
    home = tmp_path_factory.mktemp("home")
    for name in ("customer-churn", "spend", "rule", "broken", "idle"):
        folder = home / "pipelines" / name
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").write_text(PIPELINE.format(name=name))
        (folder / "features.sql").write_text(SQL)
        (folder / "train.py").touch()
        (folder / "environment.yml").touch()
    clock = MovingClock()
    lake = FolderLake(home / "lake", "landfall", "lake")
    ports = Ports(
        lake=lake,
        queue=SqliteQueue(home / "queue.db", clock),
        ledger=SqliteLedger(home / "ledger.db"),
        features=DuckDBFeatureEngine(home, lake),
        training=ProcessTrainingService(home, lake, registry),
        registry=registry,
        endpoints=LocalEndpoints(home, registry, clock, lake),
        batch=ProcessBatchService(home, lake, registry),
        events=EventLog(home / "events.jsonl", clock),
        clock=clock,
    )
    for name, sql in (("customer-churn", SQL), ("rule", GROUPED)):
        features = f"features/{name}/run1"
        manifest = Manifest(
            run="run1", pipeline=name, status="ready", fingerprint="f", created_at=datetime(2026, 1, 1, tzinfo=UTC),
            landed_columns=LANDED, sql=sql,
        )  # fmt: skip
        lake.write(f"{features}/manifest.json", json.dumps(to_record(manifest)).encode())
        ports.ledger.insert(
            Version(pipeline=name, version="1", status="champion", registered_at=clock.now(), features=features)
        )
    _serve(ports, "customer-churn", "1", "2")
    _serve(ports, "spend", "1")
    _serve(ports, "rule", "1")
    _serve(ports, "broken", "1")
    settings = Settings(
        backend="local", home=home, port=0, pipelines=home / "pipelines", account="landfall", container="lake"
    )
    loop = Loop(settings, Catalog(settings.pipelines), ports, PredictionLog(lake, clock))
    yield loop
    loop.predictions.close()


def _serve(ports: Ports, name: str, *versions: str) -> None:
    ports.endpoints.ensure(name)
    for version in versions:
        ports.endpoints.deploy(name, f"v{version}", model=name, version=version, sizing=Rollout())
    while any(d.state == "creating" for d in ports.endpoints.deployments(name).values()):
        time.sleep(0.01)
    if ports.endpoints.routes(name):
        ports.endpoints.set_traffic(name, {f"v{versions[0]}": 100})


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake", "landfall", "lake")
