"""What tells of the events of a storage account or a workspace; Event Grid allows one for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import EVENT_GRID, Estate
from shared.errors import Missing

STORAGE_TOPIC, WORKSPACE_TOPIC = "Microsoft.Storage.StorageAccounts", "Microsoft.MachineLearningServices.Workspaces"


@dataclass(frozen=True)
class SystemTopic:
    """The system topic of ``source`` (a resource id), whatever its name; its identity writes dead letters."""

    estate: Estate
    source: str
    topic_type: str
    kind = "system topic"

    @property
    def name(self) -> str:
        return f"evgst-{self.source.rpartition('/')[2]}"

    def desired(self) -> dict[str, Any]:
        return {"source": self.source.lower(), "topicType": self.topic_type.lower(), "identity": True}

    def actual(self) -> dict[str, Any] | None:
        there = self._there()
        if there is None:
            return None
        properties = there["properties"]
        return {
            "source": properties["source"].lower(),
            "topicType": properties["topicType"].lower(),
            "identity": (there.get("identity") or {}).get("type", "None") != "None",
        }

    def apply(self) -> None:
        there = self._there() or {"name": self.name, "location": self.estate.region}
        body = {
            "location": there["location"],
            "tags": there.get("tags") or {},
            "identity": {"type": "SystemAssigned"},
            "properties": {"source": self.source, "topicType": self.topic_type},
        }
        path = f"{self.estate.group}/providers/Microsoft.EventGrid/systemTopics/{there['name']}"
        self.estate.arm.put(path, EVENT_GRID, body)

    def _there(self) -> dict[str, Any] | None:
        try:
            return self.estate.system_topic(self.source)
        except Missing:
            return None
