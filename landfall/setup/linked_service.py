"""What Synapse pipelines refer to Azure ML by, opened with the identity of the Synapse workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.artifacts import Artifacts
from landfall.setup.estate import Estate


@dataclass(frozen=True)
class LinkedService:
    """A linked service of the Synapse workspace with the JSON ``properties``."""

    artifacts: Artifacts
    name: str
    properties: dict[str, Any]
    kind = "Synapse linked service"

    def desired(self) -> dict[str, Any]:
        return self.properties

    def actual(self) -> dict[str, Any] | None:
        return self.artifacts.find("linked_service", self.name)

    def apply(self) -> None:
        self.artifacts.put("linked_service", self.name, self.properties)


def azure_ml(estate: Estate) -> dict[str, Any]:
    """The linked service of the Azure ML workspace; ``authentication`` MSI is all that keeps a secret out of it."""
    return {
        "type": "AzureMLService",
        "annotations": ["landfall"],
        "typeProperties": {
            "subscriptionId": estate.settings.subscription,
            "resourceGroupName": estate.settings.resource_group,
            "mlWorkspaceName": estate.settings.workspace,
            "authentication": "MSI",
        },
    }
