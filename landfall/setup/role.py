"""Who may do what on Azure: the least that the calls of each identity need."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from landfall.setup.estate import Estate
from landfall.setup.resource import NotWanted
from landfall.setup.subscription import DEAD_LETTERS
from shared.errors import Conflict, Missing

AUTHORIZATION = "2022-04-01"
Who = Literal["app", "jobs", "synapse", "lake events", "ml events"]
Where = Literal[
    "app storage", "lake", "synapse container", "dead letters", "ml storage", "ml workspace", "registry", "event topic",
    "insights",
]  # fmt: skip

ROLES = {
    "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "AzureML Data Scientist": "f6c7c914-8db3-469d-8ca1-694a8f32e121",
    "EventGrid Data Sender": "d5a91429-5739-47e2-a06b-3470a27159e7",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
}
"""Azure's built-in roles, by the ids that they have everywhere."""


@dataclass(frozen=True)
class Grant:
    """``who`` gets ``role`` on ``where``, because of ``why``."""

    who: Who
    role: str
    where: Where
    why: str


GRANTS = (
    Grant("app", "Storage Blob Data Owner", "app storage", "The Functions host: locks, keys, timers, package."),
    Grant("app", "Storage Queue Data Contributor", "app storage", "Signals, and those that failed at every attempt."),
    Grant("app", "Storage Table Data Contributor", "app storage", "The ledger."),
    Grant("app", "Storage Blob Data Contributor", "lake", "Reads and writes the lake; its Spark batches run as it."),
    Grant("app", "Storage Blob Data Contributor", "synapse container", "Spark batches of the app keep logs there."),
    Grant("app", "Storage Blob Data Reader", "ml storage", "Metrics, reports and models of jobs."),
    Grant("app", "AzureML Data Scientist", "ml workspace", "Jobs, models, endpoints, deployments, scoring."),
    Grant("app", "EventGrid Data Sender", "event topic", "What Landfall publishes."),
    Grant("app", "Monitoring Metrics Publisher", "insights", "Traces and logs."),
    Grant("jobs", "Storage Blob Data Contributor", "lake", "Jobs read inputs; batch scoring writes its output."),
    Grant("jobs", "Storage Blob Data Contributor", "ml storage", "Jobs write their outputs."),
    Grant("jobs", "AcrPull", "registry", "Cluster nodes pull the image of a job."),
    Grant("synapse", "Storage Blob Data Contributor", "lake", "Synapse pipelines copy rows in and scores out."),
    Grant("synapse", "Storage Blob Data Contributor", "synapse container", "The workspace keeps its own files there."),
    Grant("synapse", "AzureML Data Scientist", "ml workspace", "Synapse pipelines call the batch endpoint."),
    Grant("lake events", "Storage Blob Data Contributor", "dead letters", "Storage events that were given up."),
    Grant("ml events", "Storage Blob Data Contributor", "dead letters", "Azure ML events that were given up."),
)
"""The same as in infra/modules/roles.bicep, without what only who deploys and an isolated network need."""


@dataclass(frozen=True)
class RoleAssignment:
    """A grant on Azure. ``cluster`` is whose jobs are meant by a grant to jobs.

    A role counts wherever it was given: on the thing itself or on what contains it, under any name.
    """

    estate: Estate
    grant: Grant
    cluster: str = ""
    kind = "role assignment"

    @property
    def name(self) -> str:
        who = f"jobs on {self.cluster}" if self.cluster else self.grant.who
        return f"{self.grant.role}: {who} on {self.grant.where}"

    def desired(self) -> dict[str, Any]:
        return {
            "role": self.grant.role,
            "principalId": principal(self.estate, self.grant.who, self.cluster),
            "scope": scope(self.estate, self.grant.where).lower(),
        }

    def actual(self) -> dict[str, Any] | None:
        wanted = self.desired()
        path = f"{scope(self.estate, self.grant.where)}/providers/Microsoft.Authorization/roleAssignments"
        mine = {"$filter": f"principalId eq '{wanted['principalId']}'"}
        for given in self.estate.arm.list(path, AUTHORIZATION, **mine):
            properties = given["properties"]
            role = properties["roleDefinitionId"].rpartition("/")[2].lower()
            # Azure lists what was given below the scope, too.
            above = f"{wanted['scope']}/".startswith(f"{properties['scope'].lower().rstrip('/')}/")
            if role == ROLES[self.grant.role] and above:
                return wanted
        return None

    def apply(self) -> None:
        wanted, at = self.desired(), scope(self.estate, self.grant.where)
        name = uuid.uuid5(uuid.NAMESPACE_URL, "/".join((wanted["scope"], wanted["principalId"], self.grant.role)))
        definition = f"{self.estate.subscription}/providers/Microsoft.Authorization/roleDefinitions"
        properties = {
            "principalId": wanted["principalId"],
            # Without it Azure refuses an identity that was made a moment ago.
            "principalType": "ServicePrincipal",
            "roleDefinitionId": f"{definition}/{ROLES[self.grant.role]}",
            "description": self.grant.why,
        }
        path = f"{at}/providers/Microsoft.Authorization/roleAssignments/{name}"
        # Given in the meantime, by somebody else.
        with suppress(Conflict):
            self.estate.arm.put(path, AUTHORIZATION, {"properties": properties})


def principal(estate: Estate, who: Who, cluster: str = "") -> str:
    """The object id of an identity. Raises Missing when there is none yet."""
    match who:
        case "app":
            return estate.app_principal
        case "jobs":
            return estate.jobs_principal(cluster)
        case "synapse":
            return estate.synapse_principal
        case "lake events":
            return estate.events_principal(estate.lake)
        case "ml events":
            return estate.events_principal(estate.workspace.path)


def scope(estate: Estate, where: Where) -> str:
    """The resource id of what a role is given on. Raises Missing when there is none yet."""
    match where:
        case "app storage":
            return estate.app_account
        case "lake":
            return estate.container(estate.settings.container)
        case "synapse container":
            return estate.container("synapse")
        case "dead letters":
            return estate.container(DEAD_LETTERS)
        case "ml storage":
            return estate.of_workspace("storageAccount")
        case "ml workspace":
            return estate.workspace.path
        case "registry":
            return _brought("containerRegistry", estate, "registry")
        case "event topic":
            return estate.own_topic
        case "insights":
            return _brought("applicationInsights", estate, "Application Insights")


def _brought(what: str, estate: Estate, words: str) -> str:
    try:
        return estate.of_workspace(what)
    except Missing:
        raise NotWanted(f"the workspace has no {words}, so nobody needs a role on it") from None
