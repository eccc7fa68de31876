"""What host.json says that the laptop host heeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """``batch_size`` queue messages are handled at a time, each at most ``max_dequeue_count`` times."""

    route_prefix: str = "api"
    batch_size: int = 16
    max_dequeue_count: int = 5


def read(path: Path) -> HostSettings:
    """The settings in host.json, with the defaults of the Functions host where it is silent or missing."""
    extensions: dict[str, Any] = json.loads(path.read_text("utf-8")).get("extensions", {}) if path.exists() else {}
    http, queues = extensions.get("http", {}), extensions.get("queues", {})
    return HostSettings(
        route_prefix=http.get("routePrefix", HostSettings.route_prefix),
        batch_size=queues.get("batchSize", HostSettings.batch_size),
        max_dequeue_count=queues.get("maxDequeueCount", HostSettings.max_dequeue_count),
    )
