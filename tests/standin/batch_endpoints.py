"""Batch endpoints: deployments of pipeline components, and the hosts that take jobs for them."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.standin import identity
from tests.standin.azureml import REGION, WORKSPACE, AzureML, Job, Operation, resource
from tests.standin.http import Handler, Problem, Request, Response

NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
MOST_DEPLOYMENTS = 20
INPUT_TYPES = {"urifile": "uri_file", "urifolder": "uri_folder", "literal": "string", "mlflowmodel": "mlflow_model"}


@dataclass
class Deployment:
    """A deployment of an endpoint."""

    name: str
    properties: dict[str, Any]
    created: str
    state: str = "Creating"


@dataclass
class Endpoint:
    """``jobs`` are the names of those that were posted to it, with the deployment that took each."""

    name: str
    properties: dict[str, Any]
    state: str = "Creating"
    deployments: dict[str, Deployment] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where jobs are posted."""
        return f"https://{self.name.lower()}.{REGION}.inference.ml.azure.com/jobs"


class BatchEndpoints:
    """With ``held`` what is made stays Creating until :meth:`release`; else it is there at once.

    A job is the one step of a deployment's pipeline component, run by the workspace's worker; without one a test
    moves it.
    """

    def __init__(self, ml: AzureML) -> None:
        self.ml = ml
        self.all: dict[str, Endpoint] = {}
        self.held = False
        self._pending: list[tuple[Endpoint | Deployment, Operation]] = []
        base = "/batchEndpoints"
        ml.route("GET", f"{base}/{{e}}", lambda r, e: Response(body=self._show(self._named(e))))
        ml.route("PUT", f"{base}/{{e}}", self._put)
        ml.route("GET", f"{base}/{{e}}/deployments", self._list)
        ml.route("GET", f"{base}/{{e}}/deployments/{{d}}", self._get_deployment)
        ml.route("PUT", f"{base}/{{e}}/deployments/{{d}}", self._put_deployment)
        ml.route("DELETE", f"{base}/{{e}}/deployments/{{d}}", self._delete_deployment)

    def release(self, *, failing: str = "") -> None:
        """Let everything that is being made be there; with ``failing`` as failed for that reason."""
        with self.ml.lock:
            waiting, self._pending = self._pending, []
            for made, operation in waiting:
                made.state = operation.status = "Failed" if failing else "Succeeded"
                operation.error = failing

    def host(self, online: Handler) -> Handler:
        """What answers on the hosts of endpoints: jobs are taken here, everything else by ``online``."""

        def answer(request: Request) -> Response:
            if request.path != "/jobs" and not request.path.startswith("/jobs/"):
                return online(request)
            with self.ml.lock:
                return self._jobs(request)

        return answer

    def _jobs(self, request: Request) -> Response:
        name = request.host.partition(".")[0]
        endpoint = next((e for e in self.all.values() if e.name.lower() == name), None)
        if endpoint is None:
            raise Problem(404, "NotFound", f"there is no batch endpoint behind {request.host}")
        identity.check(request, identity.ML)
        if request.method == "POST" and request.path == "/jobs":
            return self._post(endpoint, request)
        job = request.path.removeprefix("/jobs/")
        if request.method == "GET" and job in endpoint.jobs:
            return Response(body=self._show_job(endpoint, self.ml.jobs[job]))
        raise Problem(404, "NotFound", f"endpoint {endpoint.name} has no {request.method} {request.path}")

    def _post(self, endpoint: Endpoint, request: Request) -> Response:
        wanted = request.headers.get("azureml-model-deployment") or ""
        deployment = endpoint.deployments.get(wanted)
        if deployment is None or deployment.state != "Succeeded":
            raise Problem(404, "NotFound", f"endpoint {endpoint.name} has no deployment {wanted!r} that takes jobs")
        step, pipeline = self._step(deployment)
        given = self._given(request.json(), pipeline)
        inputs = {name: self._bound(value, given) for name, value in step["inputs"].items()}
        component = self._spec(step["componentId"])
        for name, declared in component["inputs"].items():
            if name not in inputs:
                raise Problem(400, "UserError", f"the step has no input {name} ({declared['type']})")
        properties = {
            "jobType": "Pipeline",
            "experimentName": endpoint.name,
            "command": component["command"],
            "codeId": component["code"].removeprefix("azureml:"),
            "environmentId": component["environment"].removeprefix("azureml:"),
            "identity": step.get("identity", {}),
            "inputs": inputs,
            "outputs": {},
        }
        job = Job(f"batchjob-{uuid.uuid4()}", properties, datetime.now(UTC).isoformat())
        self.ml.jobs[job.name] = job
        endpoint.jobs[job.name] = deployment.name
        if self.ml.worker:
            self.ml.worker.start(job)
        return Response(201, self._show_job(endpoint, job))

    def _given(self, body: dict[str, Any], pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The inputs of a request as those of a job; refused when they are not what the component declares."""
        data = (body.get("properties") or {}).get("InputData")
        if not isinstance(data, dict):
            raise Problem(400, "BadArgument", "a job has properties.InputData")
        declared = pipeline.get("inputs", {})
        if set(data) != set(declared):
            raise Problem(400, "BadArgument", f"the deployment takes {sorted(declared)}, the job has {sorted(data)}")
        given = {}
        for name, value in data.items():
            kind = INPUT_TYPES.get(str(value.get("JobInputType", "")).lower())
            if kind != declared[name]["type"]:
                raise Problem(400, "BadArgument", f"input {name} is {declared[name]['type']}, not {value}")
            given[name] = {"jobInputType": kind, "uri": value["Uri"]}
        return given

    def _bound(self, value: dict[str, Any], given: dict[str, dict[str, Any]]) -> dict[str, Any]:
        match = re.fullmatch(r"\$\{\{parent\.inputs\.(\w+)\}\}", str(value.get("value", "")))
        if match:
            return given[match[1]]
        if value["job_input_type"] == "mlflow_model" and self.ml.asset(value["uri"], "models") is None:
            raise Problem(400, "UserError", f"there is no model {value['uri']}")
        return {"jobInputType": value["job_input_type"], "uri": value["uri"]}

    def _step(self, deployment: Deployment) -> tuple[dict[str, Any], dict[str, Any]]:
        """The only step of a deployment's component, and the component."""
        pipeline = self._spec(deployment.properties["deploymentConfiguration"]["componentId"]["assetId"])
        (step,) = pipeline["jobs"].values()
        return step, pipeline

    def _spec(self, identifier: str) -> dict[str, Any]:
        found = self.ml.asset(identifier, "components")
        if found is None:
            raise Problem(400, "UserError", f"there is no component {identifier}")
        spec: dict[str, Any] = self.ml.assets["components", *found]["componentSpec"]
        return spec

    def _show_job(self, endpoint: Endpoint, job: Job) -> dict[str, Any]:
        properties = {"jobType": "Batch", "status": job.status, "experimentName": endpoint.name}
        return resource(f"{WORKSPACE}/batchEndpoints/{endpoint.name}/jobs/{job.name}", properties)

    # The control plane.

    def _named(self, name: str) -> Endpoint:
        if name not in self.all:
            raise Problem(404, "ResourceNotFound", f"there is no batch endpoint {name}")
        return self.all[name]

    def _put(self, request: Request, name: str) -> Response:
        properties = self.ml.properties(request, "batchEndpoints")
        if not NAME.fullmatch(name):
            raise Problem(400, "BadArgument", f"{name!r} cannot name an endpoint: 3 to 32 letters, digits and dashes")
        if properties["authMode"].lower() != "aadtoken":
            raise Problem(400, "BadArgument", "a batch endpoint is opened with Entra tokens only")
        present = self.all.get(name)
        if present and present.state == "Creating":
            raise Problem(409, "Conflict", f"endpoint {name} is being created: another operation is in progress")
        endpoint = present or Endpoint(name, properties)
        endpoint.properties, endpoint.state = properties, "Creating"
        self.all[name] = endpoint
        return self.ml.accepted(self._begin(endpoint), self._show(endpoint), 200 if present else 201)

    def _put_deployment(self, request: Request, name: str, deployment: str) -> Response:
        endpoint = self._named(name)
        properties = self.ml.properties(request, "batchDeployments")
        settings = properties.get("deploymentConfiguration", {}).get("settings", {})
        if not NAME.fullmatch(deployment):
            raise Problem(400, "BadArgument", f"{deployment!r} cannot name a deployment")
        if endpoint.state != "Succeeded":
            raise Problem(409, "Conflict", f"endpoint {name} is {endpoint.state}")
        present = endpoint.deployments.get(deployment)
        if present and present.state == "Creating":
            raise Problem(409, "Conflict", f"deployment {deployment} is being created")
        if not present and len(endpoint.deployments) >= MOST_DEPLOYMENTS:
            raise Problem(400, "BadArgument", f"endpoint {name} has {MOST_DEPLOYMENTS} deployments, which is the most")
        made = Deployment(deployment, properties, datetime.now(UTC).isoformat())
        self._step(made)
        if settings.get("default_compute") not in self.ml.computes:
            raise Problem(400, "UserError", f"Unknown compute target {settings.get('default_compute')!r}")
        endpoint.deployments[deployment] = made
        return self.ml.accepted(self._begin(made), self._show_deployment(endpoint, made), 200 if present else 201)

    def _begin(self, made: Endpoint | Deployment) -> str:
        key, operation = self.ml.begin()
        self._pending.append((made, operation))
        if not self.held:
            self.release()
        return key

    def _list(self, request: Request, name: str) -> Response:
        endpoint = self._named(name)
        return Response(body={"value": [self._show_deployment(endpoint, d) for d in endpoint.deployments.values()]})

    def _get_deployment(self, request: Request, name: str, deployment: str) -> Response:
        endpoint = self._named(name)
        if deployment not in endpoint.deployments:
            raise Problem(404, "ResourceNotFound", f"endpoint {name} has no deployment {deployment}")
        return Response(body=self._show_deployment(endpoint, endpoint.deployments[deployment]))

    def _delete_deployment(self, request: Request, name: str, deployment: str) -> Response:
        endpoint = self._named(name)
        if deployment not in endpoint.deployments:
            return Response(204)
        del endpoint.deployments[deployment]
        key, operation = self.ml.begin()
        operation.status = "Succeeded"
        return self.ml.accepted(key, None, 202)

    def _show(self, endpoint: Endpoint) -> dict[str, Any]:
        properties = {**endpoint.properties, "scoringUri": endpoint.address, "provisioningState": endpoint.state}
        return resource(f"{WORKSPACE}/batchEndpoints/{endpoint.name}", properties, location=REGION, tags={})

    def _show_deployment(self, endpoint: Endpoint, deployment: Deployment) -> dict[str, Any]:
        properties = {**deployment.properties, "provisioningState": deployment.state}
        identifier = f"{WORKSPACE}/batchEndpoints/{endpoint.name}/deployments/{deployment.name}"
        shown = resource(identifier, properties, location=REGION, tags={})
        return {**shown, "systemData": {"createdAt": deployment.created, "lastModifiedAt": deployment.created}}
