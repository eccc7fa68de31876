"""Everything a reaction or a function works with, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.definitions.catalog import Catalog
from shared.ports import Ports
from shared.predictions.prediction_log import PredictionLog
from shared.scoring.mirroring import Mirror
from shared.settings import Settings


@dataclass(frozen=True)
class Loop:
    """A backend's ports, the pipelines, the prediction log, copies of requests on their way, and the settings."""

    settings: Settings
    catalog: Catalog
    ports: Ports
    predictions: PredictionLog
    mirror: Mirror = field(default_factory=Mirror)
