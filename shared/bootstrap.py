"""The composition root: settings in, a loop of one backend out. Nothing is opened before first use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.loop import Loop
    from shared.ports import Ports
    from shared.ports.signal_queue import SignalQueue
    from shared.settings import Settings

_lock = threading.Lock()
_loop: Loop | None = None


def loop() -> Loop:
    """The loop of this process, built from the environment at the first call.

    Raises :class:`~shared.errors.ConfigurationError` with every fault of the settings.
    """
    global _loop
    with _lock:
        if _loop is None:
            from shared import settings

            _loop = build(settings.load())
        return _loop


def use(other: Loop | None) -> None:
    """Let :func:`loop` return another loop, or (None) build its own again. For hosts that bring their own settings."""
    global _loop
    with _lock:
        _loop = other


def build(settings: Settings) -> Loop:
    """A loop of the backend that the settings name."""
    from shared.definitions.catalog import Catalog
    from shared.definitions.last_valid import LastValid
    from shared.loop import Loop
    from shared.predictions.prediction_log import PredictionLog

    made = _azure(settings) if settings.backend == "azure" else _local(settings)
    ports = _observed(made, settings)
    return Loop(
        settings=settings,
        catalog=Catalog(settings.pipelines, pace=settings.pace, last_valid=LastValid(ports.ledger, ports.clock)),
        ports=ports,
        predictions=PredictionLog(ports.lake, ports.clock),
    )


def _observed(ports: Ports, settings: Settings) -> Ports:
    """The ports with spans around their calls, when the settings say where spans go."""
    if not settings.traces:
        return ports
    from shared import telemetry
    from shared.adapters.azure import traces

    telemetry.start(traces.provider(settings.traces, settings.client_id))
    return telemetry.traced(ports)


def _local(settings: Settings) -> Ports:
    from shared.adapters.local.batch_service import ProcessBatchService
    from shared.adapters.local.endpoint_service import LocalEndpoints
    from shared.adapters.local.event_publisher import EventLog
    from shared.adapters.local.feature_engine import DuckDBFeatureEngine
    from shared.adapters.local.lake import FolderLake
    from shared.adapters.local.model_registry import MlflowRegistry
    from shared.adapters.local.run_ledger import SqliteLedger
    from shared.adapters.local.signal_queue import SqliteQueue
    from shared.adapters.local.training_service import ProcessTrainingService
    from shared.adapters.system_clock import SystemClock
    from shared.ports import Ports

    home, clock = settings.home, SystemClock()
    lake = FolderLake(home / "lake", settings.account, settings.container)
    registry = MlflowRegistry(home)
    return Ports(
        lake=lake,
        queue=_storage_queue(settings) if settings.queue == "storage" else SqliteQueue(home / "queue.db", clock),
        ledger=SqliteLedger(home / "ledger.db"),
        features=DuckDBFeatureEngine(home, lake),
        training=ProcessTrainingService(home, lake, registry),
        registry=registry,
        endpoints=LocalEndpoints(home, registry, clock, lake),
        batch=ProcessBatchService(home, lake, registry),
        events=EventLog(home / "events.jsonl", clock),
        clock=clock,
    )


def _storage_queue(settings: Settings) -> SignalQueue:
    from shared.adapters.azure.signal_queue import StorageQueue

    return StorageQueue(settings.app_storage)


def _azure(settings: Settings) -> Ports:
    from shared.adapters.azure.batch_service import SynapseBatchService
    from shared.adapters.azure.credential import AppCredential
    from shared.adapters.azure.endpoint_service import AzureEndpoints
    from shared.adapters.azure.event_publisher import EventGridTopic
    from shared.adapters.azure.feature_engine import SynapseFeatureEngine
    from shared.adapters.azure.lake import BlobLake
    from shared.adapters.azure.model_registry import AzureModelRegistry
    from shared.adapters.azure.run_ledger import TableLedger
    from shared.adapters.azure.signal_queue import StorageQueue
    from shared.adapters.azure.training_service import AzureTrainingService
    from shared.adapters.azure.workspace import Workspace
    from shared.adapters.system_clock import SystemClock
    from shared.ports import Ports

    clock, credential = SystemClock(), AppCredential(settings.client_id)
    workspace = Workspace(settings.subscription, settings.resource_group, settings.workspace, credential)
    lake = BlobLake(_storage(settings.account, "blob"), settings.account, settings.container, credential)
    registry = AzureModelRegistry(workspace)
    return Ports(
        lake=lake,
        queue=StorageQueue(_storage(settings.app_account, "queue"), credential),
        ledger=TableLedger(_storage(settings.app_account, "table"), credential),
        features=SynapseFeatureEngine(settings.synapse, settings.spark_pool, lake, credential),
        training=AzureTrainingService(workspace, lake, registry),
        registry=registry,
        endpoints=AzureEndpoints(workspace, registry, lake),
        batch=SynapseBatchService(settings.synapse, workspace, lake, registry),
        events=EventGridTopic(settings.events_topic, clock, credential),
        clock=clock,
    )


def _storage(account: str, service: str) -> str:
    return f"https://{account}.{service}.core.windows.net"
