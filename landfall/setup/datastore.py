"""The lake's container as Azure ML shows it to people and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import Estate
from shared.adapters.azure.failures import translated
from shared.errors import Missing


@dataclass(frozen=True)
class Datastore:
    """A datastore without credentials: who opens it does that with an identity of their own."""

    estate: Estate
    name: str = "landfall_lake"
    kind = "datastore"

    def desired(self) -> dict[str, Any]:
        settings = self.estate.settings
        return {
            "type": "AzureBlob",
            "account_name": settings.account,
            "container_name": settings.container,
            "credentials": "none",
        }

    def actual(self) -> dict[str, Any] | None:
        try:
            with translated(f"look up datastore {self.name}"):
                there = self.estate.workspace.client.datastores.get(self.name)
        except Missing:
            return None
        kind = getattr(there.credentials, "type", None)
        return {
            "type": str(getattr(there.type, "value", there.type)),
            "account_name": getattr(there, "account_name", ""),
            "container_name": getattr(there, "container_name", ""),
            "credentials": "none" if kind is None else str(getattr(kind, "value", kind)).lower(),
        }

    def apply(self) -> None:
        from azure.ai.ml.entities import AzureBlobDatastore

        settings = self.estate.settings
        store = AzureBlobDatastore(
            name=self.name,
            description="The lake of Landfall.",
            account_name=settings.account,
            container_name=settings.container,
        )
        with translated(f"make datastore {self.name}"):
            self.estate.workspace.client.datastores.create_or_update(store)
