"""What the loop needs of the world, one Protocol per file, bundled for the reactions."""

from __future__ import annotations

from dataclasses import dataclass

from shared.ports.batch_service import BatchService
from shared.ports.clock import Clock
from shared.ports.endpoint_service import EndpointService
from shared.ports.event_publisher import EventPublisher
from shared.ports.feature_engine import FeatureEngine
from shared.ports.lake import Lake
from shared.ports.model_registry import ModelRegistry
from shared.ports.run_ledger import RunLedger
from shared.ports.signal_queue import SignalQueue
from shared.ports.training_service import TrainingService


@dataclass(frozen=True)
class Ports:
    """One backend, ready to use. Built by :mod:`shared.bootstrap`, or by a test from any mix."""

    lake: Lake
    queue: SignalQueue
    ledger: RunLedger
    features: FeatureEngine
    training: TrainingService
    registry: ModelRegistry
    endpoints: EndpointService
    batch: BatchService
    events: EventPublisher
    clock: Clock
