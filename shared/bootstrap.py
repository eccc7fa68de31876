"""The composition root: settings in, a loop of one backend out. Nothing is opened before first use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.loop import Loop
    from shared.ports import Ports
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
    """A loop of the backend that the settings name.

    Raises :class:`~shared.errors.Refused` for azure: its adapters are not all there yet.
    """
    from shared.catalog import Catalog
    from shared.errors import Refused
    from shared.loop import Loop
    from shared.prediction_log import PredictionLog

    if settings.backend == "azure":
        raise Refused(
            "the Azure backend cannot run the loop yet: feature preparation, queue, ledger and lake are still to "
            "come; set LANDFALL_BACKEND to local"
        )
    ports = _observed(_local(settings), settings)
    return Loop(
        settings=settings,
        catalog=Catalog(settings.pipelines, pace=settings.pace),
        ports=ports,
        predictions=PredictionLog(ports.lake, ports.clock),
    )


def _observed(ports: Ports, settings: Settings) -> Ports:
    """The ports with spans around their calls, when the settings say where spans go."""
    if not settings.traces:
        return ports
    from shared import telemetry
    from shared.adapters.azure import traces

    telemetry.start(traces.provider(settings.traces))
    return telemetry.traced(ports)


def _local(settings: Settings) -> Ports:
    from shared.adapters.local.batch_service import ProcessBatchService
    from shared.adapters.local.clock import SystemClock
    from shared.adapters.local.endpoint_service import LocalEndpoints
    from shared.adapters.local.event_publisher import EventLog
    from shared.adapters.local.feature_engine import DuckDBFeatureEngine
    from shared.adapters.local.lake import FolderLake
    from shared.adapters.local.model_registry import MlflowRegistry
    from shared.adapters.local.run_ledger import SqliteLedger
    from shared.adapters.local.signal_queue import SqliteQueue
    from shared.adapters.local.training_service import ProcessTrainingService
    from shared.ports import Ports

    home, clock = settings.home, SystemClock()
    lake = FolderLake(home / "lake", settings.account, settings.container)
    registry = MlflowRegistry(home)
    return Ports(
        lake=lake,
        queue=SqliteQueue(home / "queue.db", clock),
        ledger=SqliteLedger(home / "ledger.db"),
        features=DuckDBFeatureEngine(home, lake),
        training=ProcessTrainingService(home, lake, registry),
        registry=registry,
        endpoints=LocalEndpoints(home, registry, clock),
        batch=ProcessBatchService(home, lake, registry),
        events=EventLog(home / "events.jsonl", clock),
        clock=clock,
    )
