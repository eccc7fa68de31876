"""Azure Resource Manager for one Azure ML workspace: assets, computes, jobs and what hangs on them."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.standin import identity
from tests.standin.http import Problem, Request, Response

if TYPE_CHECKING:
    from tests.standin.work import Worker

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP, NAME, REGION = "landfall-rg", "landfall-ws", "westeurope"
PROVIDER = "Microsoft.MachineLearningServices"
WORKSPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{PROVIDER}/workspaces/{NAME}"
OPERATIONS = f"/subscriptions/{SUBSCRIPTION}/providers/{PROVIDER}/locations/{REGION}"
DATASTORE = "workspaceblobstore"
ENDED = ("Completed", "Failed", "Canceled")
VERSIONS = {
    *("2022-02-01-preview", "2023-02-01-preview", "2023-04-01", "2023-04-01-preview", "2023-06-01-preview"),
    *("2023-08-01-preview", "2023-10-01", "2024-01-01-preview", "2024-04-01-preview", "2024-10-01-preview"),
    "2025-01-01-preview",
}
"""The api-versions that the clients were measured to use; any other is refused."""

REQUIRED = {
    "jobs": "jobType",
    "computes": "computeType",
    "codes": "codeUri",
    "models": "modelUri",
    "data": "dataUri",
    "datastores": "datastoreType",
    "onlineEndpoints": "authMode",
    "batchEndpoints": "authMode",
    "deployments": "model",
    "components": "componentSpec",
    "connections": "category",
    "schedules": "trigger",
}
"""A property that the service wants in each body; one that is wrapped twice does not have it."""
CATEGORIES = {
    "AzureBlob",
    "AzureKeyVault",
    "AzureSqlDb",
    "AzureSynapseAnalytics",
    "ContainerRegistry",
    "Git",
    "PythonFeed",
}
"""Categories of connections: a few of those that the service knows."""
ENVELOPE = {"id", "name", "type", "location", "tags", "kind", "sku", "identity", "systemData", "properties", "etag"}
MUTABLE = {"tags", "description", "isArchived", "isAnonymous", "stage", "autoDeleteSetting"}


@dataclass
class Job:
    """A job on the service; ``error`` is what run history says of a failed one."""

    name: str
    properties: dict[str, Any]
    created_at: str
    status: str = "Queued"
    error: str = ""
    log: str = ""


@dataclass
class Operation:
    """A long operation: InProgress until ``finish`` was called, then Succeeded or Failed with ``error``."""

    status: str = "InProgress"
    error: str = ""


@dataclass
class Raised:
    """An event that the workspace sends to Event Grid."""

    kind: str
    subject: str
    data: dict[str, Any] = field(default_factory=dict)


Route = tuple[str, re.Pattern[str], Callable[..., Response]]


class AzureML:
    """The workspace. Everything it holds is open to tests; ``lock`` guards it."""

    def __init__(self, account: str) -> None:
        self.lock = threading.RLock()
        self.account = account
        self.container = "azureml"
        self.computes: dict[str, dict[str, Any]] = {"cpu-cluster": {"computeType": "AmlCompute", "properties": {}}}
        self.compute_identities: dict[str, dict[str, Any]] = {}
        self.datastores: dict[str, dict[str, Any]] = {}
        """Those that were made, beside the two that every workspace has."""
        self.assets: dict[tuple[str, str, str], dict[str, Any]] = {}
        """Properties by kind (codes, environments, models, data), name and version."""
        self.jobs: dict[str, Job] = {}
        self.brought: dict[str, str] = {}
        """Ids of what belongs to the workspace beside its storage: containerRegistry, applicationInsights."""
        self.connections: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, Operation] = {}
        self.raised: list[Raised] = []
        self.violations: list[str] = []
        """What no client of ours may ever send, for example a job that runs sent once more."""
        self.worker: Worker | None = None
        """Runs command jobs for real; without it a test moves them with :meth:`move`."""
        self.sas: Callable[[str], str] = lambda container: ""
        """A shared access signature for a container of the storage account, without the question mark."""
        self.ensure: Callable[[str], None] = lambda container: None
        """Makes a container of the storage account."""
        self._routes: list[Route] = []
        self._add_routes()

    def route(self, method: str, path: str, handler: Callable[..., Response]) -> None:
        """Answer ``path`` below the workspace; ``{x}`` in it is an argument of ``handler`` after the request."""
        pattern = re.sub(r"\{\w+\}", "([^/]+)", path)
        self._routes.append((method, re.compile(pattern, re.IGNORECASE), handler))

    def __call__(self, request: Request) -> Response:
        """Any call to management.azure.com."""
        identity.check(request, identity.ARM, identity.ARM + "/")
        version = request.query.get("api-version", "")
        if version not in VERSIONS:
            raise Problem(400, "InvalidApiVersionParameter", f"the api-version {version!r} is not supported")
        path = request.path.replace("//", "/")
        if match := re.fullmatch(rf"{OPERATIONS}/\w+Operations(Status|Results)/([\w-]+)", path, re.IGNORECASE):
            return self._operation(match[1], match[2])
        if not path.lower().startswith(WORKSPACE.lower()):
            raise Problem(404, "ResourceNotFound", f"there is no {path}")
        below = path[len(WORKSPACE) :]
        for method, pattern, handler in self._routes:
            if method == request.method and (match := pattern.fullmatch(below)):
                with self.lock:
                    return handler(request, *match.groups())
        raise Problem(404, "ResourceNotFound", f"nothing answers {request.method} {path}")

    # What handlers of other files use.

    def properties(self, request: Request, kind: str) -> dict[str, Any]:
        """The properties of a body, refused where the service refuses it; nulls are left out."""
        body = request.json()
        strange = set(body) - ENVELOPE
        properties = body.get("properties")
        if strange or not isinstance(properties, dict):
            raise Problem(400, "InvalidRequestContent", f"not a resource: {sorted(strange) or 'no properties'}")
        wanted = REQUIRED.get(kind)
        if wanted and properties.get(wanted) is None:
            raise Problem(
                400, "InvalidRequestContent", f"{kind}: properties.{wanted} is required; is it wrapped twice?"
            )
        return _without_nulls(properties)

    def asset(self, identifier: str, kind: str) -> tuple[str, str] | None:
        """Name and version of an asset's id; None when the workspace has none such."""
        match = re.search(rf"/{kind}/([^/]+)/versions/([^/]+)$", identifier) or re.fullmatch(
            r"azureml:([^:/]+):([^:/]+)", identifier
        )
        found = match and (kind, match[1], match[2]) in self.assets
        return (match[1], match[2]) if match and found else None

    def begin(self) -> tuple[str, Operation]:
        """A new long operation with its id."""
        operation = Operation()
        key = str(uuid.uuid4())
        self.operations[key] = operation
        return key, operation

    def accepted(self, key: str, resource: Any, status: int = 201) -> Response:
        """The answer to a call that began a long operation."""
        address = f"https://management.azure.com{OPERATIONS}/mfeOperationsStatus/{key}?api-version=2023-04-01-preview"
        return Response(status, resource, {"Azure-AsyncOperation": address, "x-ms-retry-after-ms": "50"})

    def raise_event(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Send an event to whoever subscribed to the workspace."""
        self.raised.append(Raised(f"{PROVIDER}.{kind}", subject, data))

    def move(self, name: str, status: str, *, error: str = "", log: str = "") -> None:
        """Bring a job to a status of Azure ML's; an end raises the events that the service raises."""
        with self.lock:
            job = self.jobs[name]
            if job.status in ENDED:
                return
            job.status, job.error = status, error
            job.log += log
            if status not in ENDED:
                return
            experiment = str(uuid.uuid5(uuid.NAMESPACE_URL, job.properties.get("experimentName", "Default")))
            data = {
                "experimentId": experiment,
                "experimentName": job.properties.get("experimentName", "Default"),
                "runId": name,
                "runType": "azureml.commandjob",
                "runTags": job.properties.get("tags", {}),
                "runProperties": job.properties.get("properties", {}),
            }
            subject = f"experiments/{experiment}/runs/{name}"
            if status == "Completed":
                self.raise_event("RunCompleted", subject, data)
            self.raise_event("RunStatusChanged", subject, {**data, "runStatus": status})

    # The routes.

    def _add_routes(self) -> None:
        self.route("GET", "", self._workspace)
        self.route("GET", "/computes/{n}", self._get_compute)
        self.route("PUT", "/computes/{n}", self._put_compute)
        self.route("PATCH", "/computes/{n}", self._scale_compute)
        self.route("GET", "/datastores/{n}", self._datastore)
        self.route("PUT", "/datastores/{n}", self._put_datastore)
        self.route("POST", "/datastores/{n}/listSecrets", self._secrets)
        self.route("POST", "/codes/{n}/versions/{v}/startPendingUpload", self._start_upload)
        for kind in ("codes", "environments", "models", "data", "components"):
            self.route("GET", f"/{kind}/{{n}}", lambda r, n, k=kind: self._container(k, n))
            self.route("GET", f"/{kind}/{{n}}/versions", lambda r, n, k=kind: self._list_assets(r, k, n))
            self.route("GET", f"/{kind}/{{n}}/versions/{{v}}", lambda r, n, v, k=kind: self._get_asset(k, n, v))
            self.route("PUT", f"/{kind}/{{n}}/versions/{{v}}", lambda r, n, v, k=kind: self._put_asset(r, k, n, v))
        self.route("GET", "/jobs", self._list_jobs)
        self.route("GET", "/jobs/{n}", lambda r, n: Response(body=self._job(self._job_named(n))))
        self.route("PUT", "/jobs/{n}", self._put_job)
        for kind, store in (("connections", self.connections), ("schedules", self.schedules)):
            self.route("GET", f"/{kind}/{{n}}", lambda r, n, k=kind, s=store: self._get_plain(k, n, s))
            self.route("PUT", f"/{kind}/{{n}}", lambda r, n, k=kind, s=store: self._put_plain(r, k, n, s))

    def _workspace(self, request: Request) -> Response:
        properties = {
            "workspaceId": "99999999-0000-0000-0000-000000000001",
            "discoveryUrl": f"https://{REGION}.api.azureml.ms/discovery",
            "storageAccount": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Storage/"
            f"storageAccounts/{self.account}",
            "provisioningState": "Succeeded",
            **self.brought,
        }
        return Response(body=resource(WORKSPACE, properties, location=REGION))

    def _operation(self, what: str, key: str) -> Response:
        operation = self.operations.get(key)
        if operation is None:
            raise Problem(404, "ResourceNotFound", f"there is no operation {key}")
        if what.lower() == "results":
            return Response(202 if operation.status == "InProgress" else 200, headers={"x-ms-retry-after-ms": "50"})
        body: dict[str, Any] = {"status": operation.status}
        if operation.error:
            body["error"] = {"code": "OperationFailed", "message": operation.error}
        return Response(body=body, headers={"x-ms-retry-after-ms": "50"})

    def _get_compute(self, request: Request, name: str) -> Response:
        if name not in self.computes:
            raise Problem(404, "ResourceNotFound", f"there is no compute {name}")
        return Response(body=self._compute(name))

    def _compute(self, name: str) -> dict[str, Any]:
        identity = {"identity": self.compute_identities[name]} if name in self.compute_identities else {}
        return resource(f"{WORKSPACE}/computes/{name}", self.computes[name], location=REGION, **identity)

    def _put_compute(self, request: Request, name: str) -> Response:
        properties = self.properties(request, "computes")
        inner, present = properties.get("properties", {}), self.computes.get(name, {}).get("properties", {})
        if present.get("vmSize") and inner.get("vmSize") != present["vmSize"]:
            raise Problem(400, "UserError", f"compute {name} is of {present['vmSize']}, which cannot be changed")
        scale = inner.get("scaleSettings", {})
        if not 0 <= scale.get("minNodeCount", 0) <= scale.get("maxNodeCount", 0):
            raise Problem(400, "UserError", f"compute {name} cannot have {scale} nodes")
        self.computes[name] = {**properties, "provisioningState": "Succeeded"}
        if given := request.json().get("identity"):
            made = {"principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, name))} if "System" in given["type"] else {}
            self.compute_identities[name] = {**self.compute_identities.get(name, {}), **given, **made}
        key, operation = self.begin()
        operation.status = "Succeeded"
        return self.accepted(key, self._compute(name))

    def _scale_compute(self, request: Request, name: str) -> Response:
        inner = self.properties(request, "scaling of a compute").get("properties", {})
        scale = inner.get("scaleSettings", {})
        if name not in self.computes:
            raise Problem(404, "ResourceNotFound", f"there is no compute {name}")
        if set(inner) != {"scaleSettings"} or not 0 <= scale.get("minNodeCount", 0) <= scale.get("maxNodeCount", 0):
            raise Problem(400, "UserError", f"of compute {name} only scaleSettings can be changed: {inner}")
        self.computes[name]["properties"]["scaleSettings"] = scale
        return Response(200, self._compute(name))

    def _put_datastore(self, request: Request, name: str) -> Response:
        properties = self.properties(request, "datastores")
        if not re.fullmatch(r"[a-z0-9_]{1,255}", name):
            raise Problem(400, "UserError", f"{name!r} cannot name a datastore: use a-z, 0-9 and _")
        kind = properties.get("credentials", {}).get("credentialsType")
        if kind is None or (kind != "None" and "secrets" not in properties["credentials"]):
            raise Problem(400, "UserError", f"datastore {name} names no credentials, not even None")
        status = 200 if name in self.datastores else 201
        self.datastores[name] = properties
        return Response(status, resource(f"{WORKSPACE}/datastores/{name}", properties))

    def _datastore(self, request: Request, name: str) -> Response:
        if name in self.datastores:
            return Response(body=resource(f"{WORKSPACE}/datastores/{name}", self.datastores[name]))
        if name not in (DATASTORE, "workspaceartifactstore"):
            raise Problem(404, "ResourceNotFound", f"there is no datastore {name}")
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": self.account,
            "containerName": self.container,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "credentials": {"credentialsType": "Sas"},
            "isDefault": name == DATASTORE,
        }
        return Response(body=resource(f"{WORKSPACE}/datastores/{name}", properties))

    def _secrets(self, request: Request, name: str) -> Response:
        return Response(body={"secretsType": "Sas", "sasToken": self.sas(self.container)})

    def _start_upload(self, request: Request, name: str, version: str) -> Response:
        # A container of its own for each upload, as on the service: folders of one name do not mix.
        container = f"upload-{uuid.uuid4()}"
        self.ensure(container)
        address = f"https://{self.account}.blob.core.windows.net/{container}"
        reference = {
            "blobUri": address,
            "storageAccountArmId": "",
            "credential": {"credentialType": "SAS", "sasUri": f"{address}?{self.sas(container)}"},
        }
        return Response(body={"pendingUploadType": "TemporaryBlobReference", "blobReferenceForConsumption": reference})

    def _container(self, kind: str, name: str) -> Response:
        numbers = [int(v) for k, n, v in self.assets if (k, n) == (kind, name) and v.isdecimal()]
        if not any((k, n) == (kind, name) for k, n, _ in self.assets):
            raise Problem(404, "ResourceNotFound", f"there is no {name} in {kind}")
        latest = max(numbers, default=0)
        properties = {"latestVersion": str(latest), "nextVersion": str(latest + 1), "isArchived": False}
        return Response(body=resource(f"{WORKSPACE}/{kind}/{name}", properties))

    def _list_assets(self, request: Request, kind: str, name: str) -> Response:
        if wanted := request.query.get("hash"):
            # By content, whatever the name: clients make up a new one for each upload.
            same = [
                self._asset(k, n, v, p)
                for (k, n, v), p in self.assets.items()
                if k == kind and p.get("properties", {}).get("hash_sha256") == wanted
            ]
            return Response(body={"value": same})
        found = [(v, p) for (k, n, v), p in self.assets.items() if (k, n) == (kind, name)]
        found.reverse()  # newest first, as the service lists them
        if top := request.query.get("$top"):
            found = found[: int(top)]
        size = 5
        start = int(request.query.get("$skip", "0"))
        body: dict[str, Any] = {"value": [self._asset(kind, name, v, p) for v, p in found[start : start + size]]}
        if len(found) > start + size:
            body["nextLink"] = (
                f"https://management.azure.com{WORKSPACE}/{kind}/{name}/versions"
                f"?api-version={request.query['api-version']}&$skip={start + size}"
            )
        return Response(body=body)

    def _get_asset(self, kind: str, name: str, version: str) -> Response:
        properties = self.assets.get((kind, name, version))
        if properties is None:
            raise Problem(404, "ResourceNotFound", f"there is no {name} version {version} in {kind}")
        return Response(body=self._asset(kind, name, version, properties))

    def _put_asset(self, request: Request, kind: str, name: str, version: str) -> Response:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,254}", name):
            raise Problem(400, "ValidationError", f"{name!r} cannot name an asset")
        properties = self.properties(request, kind)
        if kind == "models":
            self._check_model_uri(properties["modelUri"])
            properties = {"flavors": {}, **properties}
        present = self.assets.get((kind, name, version))
        if present is not None:
            old, new = (_fixed(p) for p in (present, properties))
            if old != new:
                raise Problem(
                    400, "UserError", f"{kind} {name}:{version} exists and is immutable: register another version"
                )
            present.update({k: v for k, v in properties.items() if k in MUTABLE})
            return Response(200, self._asset(kind, name, version, present))
        properties["createdAt"] = datetime.now(UTC).isoformat()
        self.assets[kind, name, version] = properties
        if kind == "models":
            data = {
                "ModelName": name,
                "ModelVersion": version,
                "ModelTags": properties.get("tags", {}),
                "ModelProperties": properties.get("properties", {}),
            }
            self.raise_event("ModelRegistered", f"models/{name}:{version}", data)
        return Response(201, self._asset(kind, name, version, properties))

    def _check_model_uri(self, uri: str) -> None:
        if match := re.match(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)", uri):
            job = self.jobs.get(match[1])
            if job is None or match[2] not in {*job.properties.get("outputs", {}), "artifacts"}:
                raise Problem(400, "UserError", f"{uri} is no output of a job in this workspace")

    def _asset(self, kind: str, name: str, version: str, properties: dict[str, Any]) -> dict[str, Any]:
        created = properties.get("createdAt", "2024-01-01T00:00:00+00:00")
        shown = {k: v for k, v in properties.items() if k != "createdAt"}
        identifier = f"{WORKSPACE}/{kind}/{name}/versions/{version}"
        return {**resource(identifier, shown), "systemData": {"createdAt": created, "lastModifiedAt": created}}

    def _job_named(self, name: str) -> Job:
        if name not in self.jobs:
            raise Problem(404, "ResourceNotFound", f"there is no job {name}")
        return self.jobs[name]

    def _list_jobs(self, request: Request) -> Response:
        return Response(body={"value": [self._job(job) for job in self.jobs.values()]})

    def _put_job(self, request: Request, name: str) -> Response:
        properties = self.properties(request, "jobs")
        if name in self.jobs:
            self.violations.append(f"job {name} was sent again while it was {self.jobs[name].status}")
            raise Problem(409, "Conflict", f"a job {name} exists")
        if properties["jobType"] == "Command":
            self._check_command(name, properties)
        for output, value in properties.setdefault("outputs", {}).items():
            value.setdefault("uri", f"azureml://datastores/{DATASTORE}/paths/azureml/{name}/{output}/")
        job = Job(name, properties, datetime.now(UTC).isoformat())
        self.jobs[name] = job
        if self.worker:
            self.worker.start(job)
        return Response(201, self._job(job))

    def _check_command(self, name: str, properties: dict[str, Any]) -> None:
        compute = properties.get("computeId", "").rpartition("/")[2]
        if compute not in self.computes:
            raise Problem(400, "UserError", f"Unknown compute target {compute!r}")
        for kind, key in (("codes", "codeId"), ("environments", "environmentId")):
            if (identifier := properties.get(key)) and self.asset(identifier, kind) is None:
                raise Problem(400, "UserError", f"job {name}: there is no {identifier}")
        for given in properties.get("inputs", {}).values():
            uri = given.get("uri", "")
            model = given.get("jobInputType") in ("mlflow_model", "custom_model")
            if model and "datastores/" not in uri and self.asset(uri, "models") is None:
                raise Problem(400, "UserError", f"job {name}: there is no model {uri}")

    def _job(self, job: Job) -> dict[str, Any]:
        services = {
            "Tracking": {"jobServiceType": "Tracking", "endpoint": f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0"},
            "Studio": {"jobServiceType": "Studio", "endpoint": f"https://ml.azure.com/runs/{job.name}"},
        }
        properties = {**job.properties, "status": job.status, "services": services}
        return {
            **resource(f"{WORKSPACE}/jobs/{job.name}", properties),
            "systemData": {"createdAt": job.created_at},
        }

    def _get_plain(self, kind: str, name: str, store: dict[str, dict[str, Any]]) -> Response:
        if name not in store:
            raise Problem(404, "ResourceNotFound", f"there is no {name} in {kind}")
        return Response(body=resource(f"{WORKSPACE}/{kind}/{name}", store[name]))

    def _put_plain(self, request: Request, kind: str, name: str, store: dict[str, dict[str, Any]]) -> Response:
        properties = self.properties(request, kind)
        if kind == "connections" and (properties["category"] not in CATEGORIES or "authType" not in properties):
            raise Problem(400, "ValidationError", f"connection {name}: no category {properties['category']}")
        store[name] = {**properties, "provisioningState": "Succeeded"}
        made = resource(f"{WORKSPACE}/{kind}/{name}", store[name])
        if kind == "connections":
            return Response(200, made)
        key, operation = self.begin()
        operation.status = "Succeeded"
        return self.accepted(key, made)


def resource(identifier: str, properties: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A resource as ARM shows it."""
    return {"id": identifier, "name": identifier.rpartition("/")[2], "properties": properties, **fields}


def _without_nulls(value: Any) -> Any:
    """The service leaves nulls out, and its clients do not expect them."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _fixed(properties: dict[str, Any]) -> str:
    """What may not change of an asset, to compare."""
    kept = {k: v for k, v in properties.items() if k not in MUTABLE and k != "createdAt" and v not in ({}, [], None)}
    return json.dumps(kept, sort_keys=True)
