"""What Azure ML jobs find Synapse by: a connection of the workspace, without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import Estate
from shared.adapters.azure.failures import translated
from shared.errors import Missing


@dataclass(frozen=True)
class Connection:
    """The guide's synapse-connection: to the Synapse workspace, with the managed identity of the Azure ML workspace."""

    estate: Estate
    name: str = "synapse-connection"
    kind = "workspace connection"

    def desired(self) -> dict[str, Any]:
        return {
            "type": "azure_synapse_analytics",
            "target": f"https://{self.estate.settings.synapse}.dev.azuresynapse.net",
            "credentials": "managed_identity",
        }

    def actual(self) -> dict[str, Any] | None:
        try:
            with translated(f"look up connection {self.name}"):
                there = self.estate.workspace.client.connections.get(self.name)
        except Missing:
            return None
        kind = getattr(there.credentials, "type", None)
        return {"type": there.type, "target": there.target, "credentials": kind or "none"}

    def apply(self) -> None:
        from azure.ai.ml.entities import ManagedIdentityConfiguration, WorkspaceConnection

        wanted = self.desired()
        connection = WorkspaceConnection(
            name=self.name,
            type=wanted["type"],
            target=wanted["target"],
            credentials=ManagedIdentityConfiguration(),
        )
        with translated(f"make connection {self.name}"):
            self.estate.workspace.client.connections.create_or_update(connection)
