"""Managed online endpoints and their deployments, as Azure Resource Manager shows them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standin.azureml import REGION, WORKSPACE, AzureML, Operation, resource
from tests.standin.http import Problem, Request, Response

NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
MOST_DEPLOYMENTS = 20
BUSY = ("Creating", "Updating", "Deleting", "Scaling")


@dataclass
class Deployment:
    """``log`` is what its container printed."""

    name: str
    properties: dict[str, Any]
    sku: dict[str, Any]
    state: str = "Creating"
    log: str = ""

    @property
    def model(self) -> tuple[str, str]:
        """Name and version of its model."""
        match = re.search(r"/models/([^/]+)/versions/([^/]+)$", self.properties["model"])
        assert match, self.properties["model"]
        return match[1], match[2]


@dataclass
class Endpoint:
    """``traffic`` and ``mirror`` are in force; what was asked for comes into force when the update has ended."""

    name: str
    properties: dict[str, Any]
    state: str = "Creating"
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is asked for predictions."""
        return f"https://{self.name.lower()}.{REGION}.inference.ml.azure.com/score"


@dataclass
class Pending:
    """A change under way: ``finish`` brings it to its end, ``fail`` to the other one."""

    call: str
    operation: Operation
    finish: Callable[[], None]
    fail: Callable[[str], None]


class OnlineEndpoints:
    """With ``held`` changes stay under way until :meth:`release`; else they end at once.

    ``prepare`` is called for a new deployment, to load its model for real: what it raises makes the
    deployment failed, with the text in its log.
    """

    def __init__(self, ml: AzureML) -> None:
        self.ml = ml
        self.all: dict[str, Endpoint] = {}
        self.held = False
        self.pending: list[Pending] = []
        self.prepare: Callable[[Endpoint, Deployment], None] = lambda endpoint, deployment: None
        self.forget: Callable[[Endpoint, Deployment], None] = lambda endpoint, deployment: None
        base = "/onlineEndpoints"
        ml.route("GET", f"{base}/{{e}}", lambda r, e: Response(body=self._show(self._named(e))))
        ml.route("PUT", f"{base}/{{e}}", self._put)
        ml.route("GET", f"{base}/{{e}}/deployments", self._list)
        ml.route("GET", f"{base}/{{e}}/deployments/{{d}}", self._get_deployment)
        ml.route("PUT", f"{base}/{{e}}/deployments/{{d}}", self._put_deployment)
        ml.route("DELETE", f"{base}/{{e}}/deployments/{{d}}", self._delete_deployment)
        ml.route("POST", f"{base}/{{e}}/deployments/{{d}}/getLogs", self._logs)

    def release(self, *, failing: str = "") -> None:
        """End every change that is under way; with ``failing`` as failed for that reason."""
        with self.ml.lock:
            waiting, self.pending = self.pending, []
            for change in waiting:
                if failing:
                    change.operation.status, change.operation.error = "Failed", failing
                    change.fail(failing)
                else:
                    change.finish()
                    change.operation.status = "Succeeded"

    def _begin(self, call: str, finish: Callable[[], None], fail: Callable[[str], None]) -> str:
        key, operation = self.ml.begin()
        self.pending.append(Pending(call, operation, finish, fail))
        if not self.held:
            self.release()
        return key

    def _named(self, name: str) -> Endpoint:
        if name not in self.all:
            raise Problem(404, "ResourceNotFound", f"there is no online endpoint {name}")
        return self.all[name]

    def _put(self, request: Request, name: str) -> Response:
        properties = self.ml.properties(request, "onlineEndpoints")
        if not NAME.fullmatch(name):
            raise Problem(400, "BadArgument", f"{name!r} cannot name an endpoint: 3 to 32 letters, digits and dashes")
        present = self.all.get(name)
        if present and present.state in BUSY:
            raise Problem(409, "Conflict", f"endpoint {name} is {present.state}: another operation is in progress")
        traffic = {d: s for d, s in properties.pop("traffic", {}).items() if s}
        if sum(traffic.values()) not in (0, 100) or any(share < 0 for share in traffic.values()):
            raise Problem(400, "BadArgument", f"traffic has to sum to 0 or 100: {traffic}")
        mirror = {d: s for d, s in properties.pop("mirrorTraffic", {}).items() if s}
        if len(mirror) > 1 or any(not 0 <= share <= 50 for share in mirror.values()):
            raise Problem(400, "BadArgument", f"mirror traffic goes to one deployment, up to 50 percent: {mirror}")
        if mirror.keys() & traffic.keys():
            raise Problem(400, "BadArgument", f"a deployment gets live or mirror traffic, not both: {mirror}")
        known = present.deployments if present else {}
        for deployment in (*traffic, *mirror):
            if deployment not in known or known[deployment].state != "Succeeded":
                raise Problem(400, "BadArgument", f"traffic names {deployment}, which is no deployment that can serve")
        endpoint = present or Endpoint(name, properties)
        endpoint.properties = properties
        endpoint.state = "Updating" if present else "Creating"
        self.all[name] = endpoint

        def finish() -> None:
            endpoint.state, endpoint.traffic, endpoint.mirror = "Succeeded", traffic, mirror

        def fail(reason: str) -> None:
            endpoint.state = "Succeeded" if present else "Failed"

        key = self._begin(f"endpoint {name}", finish, fail)
        return self.ml.accepted(key, self._show(endpoint), 200 if present else 201)

    def _show(self, endpoint: Endpoint) -> dict[str, Any]:
        properties = {
            **endpoint.properties,
            "traffic": dict(endpoint.traffic),
            "mirrorTraffic": dict(endpoint.mirror),
            "scoringUri": endpoint.address,
            "provisioningState": endpoint.state,
        }
        return resource(
            f"{WORKSPACE}/onlineEndpoints/{endpoint.name}", properties, location=REGION, kind="Managed", tags={}
        )

    def _show_deployment(self, endpoint: Endpoint, deployment: Deployment) -> dict[str, Any]:
        properties = {
            "scaleSettings": {"scaleType": "Default"},
            **deployment.properties,
            "provisioningState": deployment.state,
        }
        identifier = f"{WORKSPACE}/onlineEndpoints/{endpoint.name}/deployments/{deployment.name}"
        return resource(identifier, properties, location=REGION, kind="Managed", sku=deployment.sku, tags={})

    def _list(self, request: Request, name: str) -> Response:
        endpoint = self._named(name)
        return Response(body={"value": [self._show_deployment(endpoint, d) for d in endpoint.deployments.values()]})

    def _deployment(self, endpoint: str, name: str) -> tuple[Endpoint, Deployment]:
        found = self._named(endpoint)
        if name not in found.deployments:
            raise Problem(404, "ResourceNotFound", f"endpoint {endpoint} has no deployment {name}")
        return found, found.deployments[name]

    def _get_deployment(self, request: Request, endpoint: str, name: str) -> Response:
        return Response(body=self._show_deployment(*self._deployment(endpoint, name)))

    def _put_deployment(self, request: Request, endpoint_name: str, name: str) -> Response:
        properties = self.ml.properties(request, "deployments")
        endpoint = self._named(endpoint_name)
        if not NAME.fullmatch(name):
            raise Problem(400, "BadArgument", f"{name!r} cannot name a deployment: 3 to 32 letters, digits and dashes")
        if endpoint.state in BUSY:
            raise Problem(409, "Conflict", f"endpoint {endpoint_name} is {endpoint.state}")
        present = endpoint.deployments.get(name)
        if present and present.state in BUSY:
            raise Problem(409, "Conflict", f"deployment {name} is {present.state}")
        if not present and len(endpoint.deployments) >= MOST_DEPLOYMENTS:
            raise Problem(400, "BadArgument", f"endpoint {endpoint_name} has {MOST_DEPLOYMENTS} deployments, the most")
        if self.ml.asset(properties["model"], "models") is None:
            raise Problem(400, "BadArgument", f"there is no model {properties['model']}")
        if (identifier := properties.get("environmentId")) and self.ml.asset(identifier, "environments") is None:
            raise Problem(400, "BadArgument", f"there is no environment {identifier}")
        code = properties.get("codeConfiguration", {}).get("codeId")
        if code and self.ml.asset(code, "codes") is None:
            raise Problem(400, "BadArgument", f"there is no code {code}")
        deployment = Deployment(name, properties, request.json().get("sku", {}))
        if present:
            deployment.state = "Updating"
        endpoint.deployments[name] = deployment

        def finish() -> None:
            try:
                self.prepare(endpoint, deployment)
            except RuntimeError as error:
                deployment.state, deployment.log = "Failed", str(error)
            else:
                deployment.state = "Succeeded"

        def fail(reason: str) -> None:
            deployment.state, deployment.log = "Failed", reason

        key = self._begin(f"deployment {endpoint_name}/{name}", finish, fail)
        return self.ml.accepted(key, self._show_deployment(endpoint, deployment))

    def _delete_deployment(self, request: Request, endpoint_name: str, name: str) -> Response:
        endpoint, deployment = self._deployment(endpoint_name, name)
        if endpoint.traffic.get(name):
            raise Problem(409, "Conflict", f"deployment {name} has {endpoint.traffic[name]} percent of the traffic")
        if endpoint.mirror.get(name):
            raise Problem(409, "Conflict", f"deployment {name} gets {endpoint.mirror[name]} percent as mirror traffic")
        if endpoint.state in BUSY or deployment.state in BUSY:
            raise Problem(409, "Conflict", f"endpoint {endpoint_name} or its deployment {name} is being changed")
        deployment.state = "Deleting"

        def finish() -> None:
            del endpoint.deployments[name]
            self.forget(endpoint, deployment)

        def fail(reason: str) -> None:
            deployment.state, deployment.log = "Failed", reason

        key = self._begin(f"deletion of {endpoint_name}/{name}", finish, fail)
        return self.ml.accepted(key, None, 202)

    def _logs(self, request: Request, endpoint: str, name: str) -> Response:
        _, deployment = self._deployment(endpoint, name)
        return Response(body={"content": deployment.log})
