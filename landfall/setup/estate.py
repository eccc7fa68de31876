"""Where the things of this app are on Azure, and who its identities are."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from landfall.setup.arm import Arm
from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.workspace import Workspace
from shared.errors import Missing
from shared.settings import Settings

EVENT_GRID, MACHINE_LEARNING = "2025-02-15", "2024-10-01-preview"
SYNAPSE, STORAGE, WEB = "2021-06-01", "2024-01-01", "2024-04-01"
"""The api-versions of what is asked of Azure Resource Manager."""


class Estate:
    """The resources that the settings name, all in one resource group, as infra/ deploys them.

    Every look-up is made when it is first needed and kept. They raise Missing for what is not there yet.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.credential = AppCredential(settings.client_id)
        self.workspace = Workspace(
            settings.subscription, settings.resource_group, settings.workspace, self.credential, seconds=60
        )
        self.arm = Arm(self.workspace)

    @property
    def subscription(self) -> str:
        return f"/subscriptions/{self.settings.subscription}"

    @property
    def group(self) -> str:
        return f"{self.subscription}/resourceGroups/{self.settings.resource_group}"

    @property
    def lake(self) -> str:
        """The storage account of the lake, by its resource id, as all that follow."""
        return self._account(self.settings.account)

    @property
    def app_account(self) -> str:
        return self._account(self.settings.app_account)

    @property
    def app(self) -> str:
        return f"{self.group}/providers/Microsoft.Web/sites/{self.settings.function_app}"

    @property
    def synapse(self) -> str:
        return f"{self.group}/providers/Microsoft.Synapse/workspaces/{self.settings.synapse}"

    @property
    def spark_pool(self) -> str:
        return f"{self.synapse}/bigDataPools/{self.settings.spark_pool}"

    def container(self, name: str) -> str:
        """A container of the lake's account."""
        return f"{self.lake}/blobServices/default/containers/{name}"

    @cached_property
    def machine_learning(self) -> dict[str, Any]:
        """The Azure ML workspace as Resource Manager shows it."""
        return self.arm.get(self.workspace.path, MACHINE_LEARNING)

    @property
    def region(self) -> str:
        return str(self.machine_learning["location"])

    def system_topic(self, source: str) -> dict[str, Any]:
        """The one system topic of what raises events. Raises Missing when nobody made it yet."""
        topics = self.arm.list(f"{self.group}/providers/Microsoft.EventGrid/systemTopics", EVENT_GRID)
        for topic in topics:
            if topic["properties"].get("source", "").lower() == source.lower():
                return topic
        raise Missing(f"nothing tells of events of {source.rpartition('/')[2]} yet: it has no system topic")

    @cached_property
    def own_topic(self) -> str:
        """The custom topic that Landfall publishes to."""
        for topic in self.arm.list(f"{self.group}/providers/Microsoft.EventGrid/topics", EVENT_GRID):
            if topic["properties"].get("endpoint", "").rstrip("/") == self.settings.events_topic.rstrip("/"):
                return str(topic["id"])
        raise Missing(f"no topic in {self.settings.resource_group} has the address {self.settings.events_topic}")

    @cached_property
    def app_identity(self) -> dict[str, str]:
        """principalId and clientId of the app's identity: of several the one that its AZURE_CLIENT_ID names."""
        site = self.arm.get(self.app, WEB)
        named = self.app_settings.get("AZURE_CLIENT_ID", "").lower()
        for assigned in ((site.get("identity") or {}).get("userAssignedIdentities") or {}).values():
            if assigned.get("clientId", "").lower() == named:
                return dict(assigned)
        return _identity_of(site, "the function app")

    @cached_property
    def app_settings(self) -> dict[str, str]:
        """The settings of the function app."""
        return dict(self.arm.post(f"{self.app}/config/appsettings/list", WEB).get("properties", {}))

    @property
    def app_principal(self) -> str:
        return self.app_identity["principalId"]

    @cached_property
    def synapse_principal(self) -> str:
        return _identity_of(self.arm.get(self.synapse, SYNAPSE), "the Synapse workspace")["principalId"]

    def jobs_principal(self, cluster: str) -> str:
        """The identity with which jobs run on a cluster."""
        path = f"{self.workspace.path}/computes/{cluster}"
        return _identity_of(self.arm.get(path, MACHINE_LEARNING), f"cluster {cluster}")["principalId"]

    def events_principal(self, source: str) -> str:
        """The identity with which Event Grid writes what it could not deliver."""
        return _identity_of(self.system_topic(source), "the system topic")["principalId"]

    def of_workspace(self, what: str) -> str:
        """The id of what belongs to the workspace: storageAccount, containerRegistry, applicationInsights."""
        found = self.machine_learning["properties"].get(what)
        if not found:
            raise Missing(f"workspace {self.settings.workspace} has no {what}")
        return str(found)

    def _account(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.Storage/storageAccounts/{name}"


def _identity_of(resource: dict[str, Any], what: str) -> dict[str, str]:
    identity = resource.get("identity") or {}
    for assigned in (identity.get("userAssignedIdentities") or {}).values():
        return dict(assigned)
    if identity.get("principalId"):
        return {"principalId": str(identity["principalId"]), "clientId": ""}
    raise Missing(f"{what} has no identity: give it one")
