"""The Spark pool of features jobs: it grows with the work and pauses without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import SYNAPSE, Estate

NEW = {"nodeSize": "Small", "nodeSizeFamily": "MemoryOptimized", "sparkVersion": "3.5"}
MOST_NODES = 10
READ_ONLY = ("provisioningState", "creationDate", "lastSucceededTimestamp", "cacheSize")


@dataclass(frozen=True)
class SparkPool:
    """How a pool scales and pauses. A features job brings its libraries with it, so the pool needs none;
    ``sessionLevelPackagesEnabled`` lets it. Most nodes, node size and Spark's version are whatever they are.
    """

    estate: Estate
    kind = "Spark pool"

    @property
    def name(self) -> str:
        return self.estate.settings.spark_pool

    def desired(self) -> dict[str, Any]:
        return {
            "autoPause": {"enabled": True, "delayInMinutes": 15},
            "autoScale": {"enabled": True, "minNodeCount": 3},
            "sessionLevelPackagesEnabled": True,
        }

    def actual(self) -> dict[str, Any] | None:
        there = self._there()
        if there is None:
            return None
        properties = there["properties"]
        pause, scale = properties.get("autoPause") or {}, properties.get("autoScale") or {}
        return {
            "autoPause": {"enabled": bool(pause.get("enabled")), "delayInMinutes": pause.get("delayInMinutes", 0)},
            "autoScale": {"enabled": bool(scale.get("enabled")), "minNodeCount": scale.get("minNodeCount", 0)},
            "sessionLevelPackagesEnabled": bool(properties.get("sessionLevelPackagesEnabled")),
        }

    def apply(self) -> None:
        there = self._there() or {
            "location": self.estate.arm.get(self.estate.synapse, SYNAPSE)["location"],
            "properties": NEW,
        }
        present = {key: value for key, value in there["properties"].items() if key not in READ_ONLY}
        wanted = self.desired()
        most = (present.get("autoScale") or {}).get("maxNodeCount") or MOST_NODES
        wanted["autoScale"] = {**wanted["autoScale"], "maxNodeCount": most}
        # A pool that scales has no number of nodes of its own.
        present.pop("nodeCount", None)
        body = {"location": there["location"], "tags": there.get("tags") or {}, "properties": {**present, **wanted}}
        self.estate.arm.put(self.estate.spark_pool, SYNAPSE, body)

    def _there(self) -> dict[str, Any] | None:
        return self.estate.arm.find(self.estate.spark_pool, SYNAPSE)
