"""Everything a reaction or a function works with, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from shared.catalog import Catalog
from shared.ports import Ports
from shared.prediction_log import PredictionLog
from shared.settings import Settings


@dataclass(frozen=True)
class Loop:
    """A backend's ports, the pipelines, the prediction log and the settings."""

    settings: Settings
    catalog: Catalog
    ports: Ports
    predictions: PredictionLog
