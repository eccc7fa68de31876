"""Azure Resource Manager beside the Azure ML workspace: storage, Synapse, Event Grid, function app, roles, quota."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

from tests.standin import identity
from tests.standin.azureml import GROUP, OPERATIONS, REGION, SUBSCRIPTION, WORKSPACE, AzureML
from tests.standin.http import Problem, Request, Response

SUB = f"/subscriptions/{SUBSCRIPTION}"
HOME = f"{SUB}/resourceGroups/{GROUP}/providers"
EVENT_GRID, SYNAPSE, STORAGE, WEB, AUTHORIZATION = "2025-02-15", "2021-06-01", "2024-01-01", "2024-04-01", "2022-04-01"
VERSIONS = {
    "microsoft.eventgrid": EVENT_GRID,
    "microsoft.synapse": SYNAPSE,
    "microsoft.storage": STORAGE,
    "microsoft.web": WEB,
    "microsoft.authorization": AUTHORIZATION,
}
"""The one api-version of each provider that is played; any other is refused."""
ROLES = {
    "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "f6c7c914-8db3-469d-8ca1-694a8f32e121",
    "d5a91429-5739-47e2-a06b-3470a27159e7",
    "3913510d-42f4-4e42-8a64-420c390055eb",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
}
"""The ids of the built-in roles that exist here."""
SCIENTIST = "f6c7c914-8db3-469d-8ca1-694a8f32e121"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OPERATORS = {"StringIn", "StringNotIn", "StringBeginsWith", "StringEndsWith", "StringContains", "NumberGreaterThan"}
SUBSCRIPTION_FIELDS = {
    *("destination", "deliveryWithResourceIdentity", "eventDeliverySchema", "filter", "labels", "retryPolicy"),
    *("deadLetterDestination", "deadLetterWithResourceIdentity", "expirationTimeUtc"),
}
TOPIC_TYPES = {
    "microsoft.storage.storageaccounts": "Microsoft.Storage.",
    "microsoft.machinelearningservices.workspaces": "Microsoft.MachineLearningServices.",
}
"""The types of system topics, and how the events of each are called."""


class ResourceManager:
    """All of management.azure.com; what is below the workspace is answered by ``ml``.

    ``resources`` are by their ids in lower case. A new one of a slow kind is shown as being made once.
    """

    def __init__(self, ml: AzureML) -> None:
        self._ml = ml
        self.resources: dict[str, dict[str, Any]] = {}
        self.usages: dict[str, tuple[int, int]] = {"standardDSv2Family": (0, 100)}
        """Cores in use and allowed, by family of VM sizes."""
        self.app_settings: dict[str, str] = {}
        self._slow: set[str] = set()

    def __call__(self, request: Request) -> Response:
        """Any call."""
        path = request.path.replace("//", "/").rstrip("/")
        provider = re.findall(r"/providers/([\w.]+)", path)[-1:] or [""]
        name = provider[0].lower()
        if name not in VERSIONS:
            if path.lower() == f"{WORKSPACE}/jobs".lower() and not self._may(request, SCIENTIST, WORKSPACE):
                raise Problem(403, "AuthorizationFailed", "The client does not have authorization to list jobs.")
            return self._of_region(request, path) or self._ml(request)
        identity.check(request, identity.ARM, identity.ARM + "/")
        version = request.query.get("api-version", "")
        if version != VERSIONS[name]:
            raise Problem(400, "InvalidApiVersionParameter", f"the api-version {version!r} of {name} is not supported")
        with self._ml.lock:
            if name == "microsoft.authorization":
                return self._roles(request, path)
            return self._resource(request, path)

    def put(self, path: str, properties: dict[str, Any], **fields: Any) -> str:
        """Have a resource that somebody else made; returns its id."""
        body = {"id": path, "name": path.rpartition("/")[2], "location": REGION, "properties": properties, **fields}
        self.resources[path.lower()] = body
        return path

    def of(self, path: str) -> dict[str, Any]:
        """A resource, to look at or to change by hand."""
        return self.resources[path.lower()]

    def children(self, path: str) -> list[dict[str, Any]]:
        """The resources of the collection ``path``."""
        start = f"{path.lower()}/"
        return [made for key, made in self.resources.items() if key.startswith(start) and "/" not in key[len(start) :]]

    def _of_region(self, request: Request, path: str) -> Response | None:
        """Quota and sizes, which Azure ML has by region."""
        match = re.fullmatch(rf"{re.escape(OPERATIONS)}/(usages|vmSizes)", path, re.IGNORECASE)
        if not match or request.method != "GET":
            return None
        identity.check(request, identity.ARM, identity.ARM + "/")
        if request.query.get("api-version") != "2024-10-01-preview":
            raise Problem(400, "InvalidApiVersionParameter", f"{request.query.get('api-version')!r} is not supported")
        if match[1].lower() == "usages":
            usages = [
                {"name": {"value": family}, "currentValue": used, "limit": most, "unit": "Count"}
                for family, (used, most) in self.usages.items()
            ]
            return Response(body={"value": usages})
        sizes = [{"name": "Standard_DS3_v2", "family": "standardDSv2Family", "vCPUs": 4}]
        return Response(body={"value": sizes})

    def _resource(self, request: Request, path: str) -> Response:
        key = path.lower()
        if request.method == "POST" and key.endswith("/config/appsettings/list"):
            return Response(body={"properties": dict(self.app_settings)})
        if request.method == "GET" and key in self.resources:
            return Response(body=self._shown(key))
        if request.method == "GET" and len(path.split("/providers/")[-1].split("/")) % 2 == 0:
            return Response(body={"value": self.children(path)})
        if request.method == "PUT":
            return self._put(request, path)
        raise Problem(404, "ResourceNotFound", f"there is no {path}")

    def _shown(self, key: str) -> dict[str, Any]:
        made = self.resources[key]
        if key in self._slow:
            self._slow.discard(key)
            return {**made, "properties": {**made["properties"], "provisioningState": "Creating"}}
        return made

    def _put(self, request: Request, path: str) -> Response:
        checks: dict[str, Callable[[str, dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
            "systemTopics": self._system_topic,
            "eventSubscriptions": self._subscription,
            "bigDataPools": self._pool,
            "containers": self._container,
        }
        kind, name = path.split("/")[-2:]
        parent = path.rsplit("/", 2)[0]
        if kind not in checks:
            raise Problem(404, "ResourceNotFound", f"nothing makes {path}")
        if kind != "systemTopics" and "/default" not in parent and parent.lower() not in self.resources:
            raise Problem(404, "ParentResourceNotFound", f"there is no {parent} to make {name} in")
        body = request.json()
        properties = body.get("properties")
        if not isinstance(properties, dict):
            raise Problem(400, "InvalidRequestContent", "not a resource: it has no properties")
        fields = checks[kind](path, body, properties)
        known = path.lower() in self.resources
        self.put(path, {**properties, "provisioningState": "Succeeded"}, **fields)
        if kind in ("eventSubscriptions", "bigDataPools"):
            self._slow.add(path.lower())
        return Response(200 if known else 201, self._shown(path.lower()))

    def _system_topic(self, path: str, body: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        if not body.get("location"):
            raise Problem(400, "LocationRequired", "a system topic needs a location")
        source = properties.get("source", "").lower()
        if properties.get("topicType", "").lower() not in TOPIC_TYPES:
            raise Problem(400, "InvalidRequest", f"no topic type {properties.get('topicType')!r}")
        if source != WORKSPACE.lower() and source not in self.resources:
            raise Problem(400, "InvalidRequest", f"there is no source {source}")
        for other in self.children(path.rpartition("/")[0]):
            if other["properties"]["source"].lower() == source and other["id"].lower() != path.lower():
                raise Problem(400, "InvalidRequest", f"{source} has the system topic {other['name']} already")
        return {"location": body["location"], "identity": _with_principal(path, body.get("identity"))}

    def _subscription(self, path: str, body: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        topic = self.of(path.rsplit("/", 2)[0])
        strange = set(properties) - SUBSCRIPTION_FIELDS
        if strange:
            raise Problem(400, "InvalidRequestContent", f"an event subscription has no {sorted(strange)}")
        to = properties.get("destination") or {}
        function = to.get("properties", {}).get("resourceId", "")
        if to.get("endpointType") != "AzureFunction" or function.lower() not in self.resources:
            raise Problem(400, "Endpoint validation", f"destination not found: there is no function {function}")
        if properties.get("eventDeliverySchema") not in ("EventGridSchema", "CloudEventSchemaV1_0"):
            raise Problem(400, "InvalidRequest", f"no schema {properties.get('eventDeliverySchema')!r}")
        prefix = TOPIC_TYPES[topic["properties"]["topicType"].lower()]
        given = properties.get("filter") or {}
        for kind in given.get("includedEventTypes") or []:
            if not kind.startswith(prefix):
                raise Problem(400, "InvalidRequest", f"the topic has no events {kind}")
        for one in given.get("advancedFilters") or []:
            if one.get("operatorType") not in OPERATORS or not one.get("key") or not one.get("values"):
                raise Problem(400, "InvalidRequest", f"no advanced filter: {one}")
        retry = properties.get("retryPolicy") or {}
        within = (
            1 <= retry.get("maxDeliveryAttempts", 30) <= 30 and 1 <= retry.get("eventTimeToLiveInMinutes", 1) <= 1440
        )
        if not within:
            raise Problem(400, "InvalidRequest", f"no retry policy: {retry}")
        self._check_dead_letters(topic, properties.get("deadLetterWithResourceIdentity"))
        return {}

    def _check_dead_letters(self, topic: dict[str, Any], given: dict[str, Any] | None) -> None:
        if given is None:
            return
        if (topic.get("identity") or {}).get("type") != given.get("identity", {}).get("type"):
            raise Problem(400, "InvalidRequest", f"topic {topic['name']} has no identity to write dead letters with")
        place = given.get("deadLetterDestination", {}).get("properties", {})
        container = f"{place.get('resourceId')}/blobServices/default/containers/{place.get('blobContainerName')}"
        if container.lower() not in self.resources:
            raise Problem(400, "InvalidRequest", f"there is no container {container} for dead letters")

    def _pool(self, path: str, body: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        scale, pause = properties.get("autoScale") or {}, properties.get("autoPause") or {}
        if not body.get("location") or not properties.get("nodeSize") or not properties.get("sparkVersion"):
            raise Problem(400, "ValidationFailed", "a pool needs location, nodeSize and sparkVersion")
        if scale.get("enabled") and not 3 <= scale.get("minNodeCount", 0) <= scale.get("maxNodeCount", 0) <= 200:
            raise Problem(400, "ValidationFailed", f"a pool cannot scale so: {scale}")
        if not scale.get("enabled") and not properties.get("nodeCount"):
            raise Problem(400, "ValidationFailed", "a pool that does not scale needs nodeCount")
        if pause.get("enabled") and not 5 <= pause.get("delayInMinutes", 0) <= 10080:
            raise Problem(400, "ValidationFailed", f"a pool cannot pause so: {pause}")
        return {"tags": body.get("tags", {})}

    def _container(self, path: str, body: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){2,62}", name):
            raise Problem(400, "InvalidResourceName", f"{name!r} cannot name a container")
        if path.lower().split("/blobservices/")[0] not in self.resources:
            raise Problem(404, "ResourceNotFound", f"there is no account for container {name}")
        self._ml.ensure(name)
        return {}

    # Roles: an extension of whatever they are given on.

    def _roles(self, request: Request, path: str) -> Response:
        scope, _, name = path.partition("/providers/Microsoft.Authorization/roleAssignments")
        name = name.strip("/")
        if not name and request.method == "GET":
            match = re.fullmatch(r"principalId eq '([0-9a-f-]{36})'", request.query.get("$filter", ""))
            if not match:
                raise Problem(400, "InvalidFilter", f"no filter: {request.query.get('$filter')!r}")
            return Response(body={"value": [given for given in self.assignments(match[1]) if _touches(given, scope)]})
        if name and request.method == "PUT":
            return self._assign(request, path, scope, name)
        if name and request.method == "GET" and path.lower() in self.resources:
            return Response(body=self.of(path))
        raise Problem(404, "RoleAssignmentNotFound", f"there is no {path}")

    def assignments(self, principal: str) -> list[dict[str, Any]]:
        """What was given to an identity."""
        found = [made for key, made in self.resources.items() if "/roleassignments/" in key]
        return [made for made in found if made["properties"]["principalId"] == principal]

    def _may(self, request: Request, role: str, scope: str) -> bool:
        """Whether who calls has a role there, or above."""
        given = [made["properties"] for made in self.assignments(identity.whose(request))]
        here = [one for one in given if f"{scope}/".lower().startswith(f"{one['scope']}/".lower())]
        return any(one["roleDefinitionId"].endswith(role) for one in here)

    def _assign(self, request: Request, path: str, scope: str, name: str) -> Response:
        properties = request.json().get("properties") or {}
        principal = properties.get("principalId", "")
        role = properties.get("roleDefinitionId", "").rpartition("/")[2]
        if not GUID.fullmatch(name) or not GUID.fullmatch(principal):
            raise Problem(400, "InvalidRoleAssignmentId", f"{name!r} and {principal!r} have to be guids")
        if role not in ROLES:
            raise Problem(400, "RoleDefinitionDoesNotExist", f"there is no role {role!r}")
        for given in self.assignments(principal):
            same = given["properties"]["roleDefinitionId"].endswith(role)
            if same and given["properties"]["scope"].lower() == scope.lower() and given["name"] != name:
                raise Problem(409, "RoleAssignmentExists", "The role assignment already exists.")
        self.put(path, {**properties, "scope": scope})
        return Response(201, self.of(path))


def _touches(given: dict[str, Any], scope: str) -> bool:
    """Azure lists what was given at, above and below a scope."""
    at, asked = f"{given['properties']['scope']}/".lower(), f"{scope}/".lower()
    return asked.startswith(at) or at.startswith(asked)


def _with_principal(path: str, given: dict[str, Any] | None) -> dict[str, Any] | None:
    if not given or given.get("type") != "SystemAssigned":
        return given
    return {**given, "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, path.lower()))}
