"""The online endpoint of a pipeline, which takes Entra tokens and no keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import Estate
from shared.adapters.azure.failures import translated
from shared.errors import Missing


@dataclass(frozen=True)
class Endpoint:
    """An endpoint without deployments: those come with the first version that passes the gate."""

    estate: Estate
    name: str
    kind = "online endpoint"

    def desired(self) -> dict[str, Any]:
        return {"auth_mode": "aad_token"}

    def actual(self) -> dict[str, Any] | None:
        there = self._there()
        return None if there is None else {"auth_mode": there.auth_mode}

    def apply(self) -> None:
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        entity = self._there() or ManagedOnlineEndpoint(name=self.name, tags={"landfall": "endpoint"})
        entity.auth_mode = "aad_token"
        with translated(f"make endpoint {self.name}"):
            self.estate.workspace.client.online_endpoints.begin_create_or_update(entity).result()

    def _there(self) -> Any:
        try:
            with translated(f"look up endpoint {self.name}"):
                return self.estate.workspace.client.online_endpoints.get(self.name)
        except Missing:
            return None
