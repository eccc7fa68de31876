"""What the app may do in the Synapse workspace, which keeps such roles itself."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import Estate
from shared.adapters.azure.failures import of_status
from shared.errors import Missing, Transient

SPARK, PIPELINES = "Synapse Compute Operator", "Synapse Credential User"
"""What submits Spark batches, and what, beside it, starts pipelines that work as the Synapse workspace."""
OWN_IDENTITY = "/credentials/WorkspaceSystemIdentity"
AUDIENCE, VERSION = "https://dev.azuresynapse.net", "2020-12-01"


@dataclass(frozen=True)
class SynapseRole:
    """A Synapse role of the app's identity, on the whole workspace or on what in it is called ``within``."""

    estate: Estate
    role: str
    within: str = ""
    kind = "Synapse role"

    @property
    def name(self) -> str:
        return f"{self.role}: app"

    def desired(self) -> dict[str, Any]:
        return {"role": self.role, "principalId": self.estate.app_principal}

    def actual(self) -> dict[str, Any] | None:
        wanted, role = self.desired(), self._role_id()
        query = {"principalId": wanted["principalId"], "roleId": role, "scope": self._scope}
        found = self._call("GET", "/roleAssignments", query=query).get("value", [])
        return wanted if found else None

    def apply(self) -> None:
        principal = self.estate.app_principal
        body = {
            "roleId": self._role_id(),
            "principalId": principal,
            "scope": self._scope,
            "principalType": "ServicePrincipal",
        }
        name = uuid.uuid5(uuid.NAMESPACE_URL, "/".join((self._scope, principal, self.role)))
        self._call("PUT", f"/roleAssignments/{name}", body=body)

    @property
    def _scope(self) -> str:
        return f"workspaces/{self.estate.settings.synapse}{self.within}"

    def _role_id(self) -> str:
        for known in self._call("GET", "/roleDefinitions"):
            if known["name"] == self.role:
                return str(known["id"])
        raise Missing(f"Synapse knows no role {self.role!r}")

    def _call(self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None) -> Any:
        import httpx

        workspace = self.estate.workspace
        doing = f"{method} {path.split('/')[1]} of Synapse workspace {self.estate.settings.synapse}"
        try:
            answer = workspace.http.request(
                method,
                f"https://{self.estate.settings.synapse}.dev.azuresynapse.net{path}",
                params={"api-version": VERSION, **(query or {})},
                json=body,
                headers={"Authorization": f"Bearer {workspace.token(AUDIENCE)}"},
            )
        except httpx.HTTPError as error:
            raise Transient(f"{doing}: no answer came ({error})") from error
        if not answer.is_success:
            raise of_status(doing, answer.status_code, answer.text[:300])
        return answer.json()
