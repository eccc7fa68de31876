"""Managed online endpoints of Azure ML: blue/green deployments behind one address."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.endpoint_names import online_endpoint
from shared.adapters.azure.failures import of_status, translated
from shared.adapters.azure.model_environment import environment_of
from shared.adapters.azure.workspace import SCORING, Workspace
from shared.domain.compiled import GRAPH, place
from shared.domain.pipelines import Rollout, Training
from shared.errors import Conflict, InvalidRequest, Missing, Refused, Rejected, Transient
from shared.ports.endpoint_service import Answer, Deployment, Route, check_split
from shared.ports.lake import Lake
from shared.ports.model_registry import ModelRegistry
from shared.settings import ROOT

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint

STATES = {
    "Creating": "creating",
    "Succeeded": "ready",
    "Failed": "failed",
    "Canceled": "failed",
    "Updating": "updating",
    "Scaling": "updating",
    "Deleting": "deleting",
}
ROUTES_SECONDS = 10.0
REQUEST_MS, CONCURRENT = 90_000, 4
SERVING = ("azureml-inference-server-http==1.5.1", "pandas==3.1.1")
"""What a deployment needs beside the requirements that its model was saved with."""
SERVING_COMPILED = (*SERVING, "numba==0.68.1", "onnxruntime==1.32.0")
SCRIPT = "score.py"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
_VERSION = re.compile(r"/models/([^/]+)/versions/([^/]+)$|^azureml:([^:/]+):([^:/]+)$")


@dataclass(frozen=True)
class _Look:
    """What was seen of an endpoint at ``at``, with our names of deployments."""

    at: float
    address: str
    routes: tuple[Route, ...]


class AzureEndpoints:
    """The EndpointService port. Deployment ``v7`` is ``version-7`` on Azure, where names have 3 letters at least,
    and an endpoint has the name that :func:`~shared.adapters.azure.endpoint_names.online_endpoint` gives it.

    A deployment serves with :mod:`shared.jobs.serve`, in the environment that its model was saved with, and brings
    the compiled form along if the lake has one.
    Requests go to the scoring address with a token of the app's identity.
    """

    def __init__(self, workspace: Workspace, registry: ModelRegistry, lake: Lake) -> None:
        self._workspace = workspace
        self._registry = registry
        self._lake = lake
        self._looks: dict[str, _Look] = {}
        self._looking = threading.Lock()

    def ensure(self, endpoint: str) -> None:
        """See :meth:`EndpointService.ensure`. It takes minutes to be there: ``deploy`` is Transient till then."""
        _check_name(endpoint, "an endpoint")
        if self._endpoint(endpoint) is not None:
            return
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        name = self._named(endpoint)
        entity = ManagedOnlineEndpoint(name=name, auth_mode="aad_token", tags={"landfall": "endpoint"})
        try:
            with translated(f"create endpoint {name}"):
                self._workspace.client.online_endpoints.begin_create_or_update(entity)
        except (Transient, Conflict) as error:
            if self._endpoint(endpoint) is None:
                raise Transient(str(error)) from error

    def deploy(self, endpoint: str, deployment: str, *, model: str, version: str, sizing: Rollout) -> None:
        """See :meth:`EndpointService.deploy`. A create whose answer was lost is looked up, not sent again."""
        _check_name(_azure_name(deployment), "a deployment")
        present = self._required(endpoint)
        if self._deployment(endpoint, deployment) is not None:
            return
        if self._registry.get(model, version) is None:
            raise Missing(f"model {model} has no version {version}; register it before it is deployed")
        self._refuse_while_changing(endpoint, present)
        with tempfile.TemporaryDirectory(prefix="landfall-serve-") as folder:
            entity = self._entity(endpoint, deployment, model, version, sizing, Path(folder))
            try:
                with translated(f"create deployment {deployment} of endpoint {endpoint}"):
                    self._workspace.client.online_deployments.begin_create_or_update(entity)
            except (Transient, Conflict) as error:
                if self._deployment(endpoint, deployment) is None:
                    raise Transient(str(error)) from error

    def deployments(self, endpoint: str) -> dict[str, Deployment]:
        """See :meth:`EndpointService.deployments`; why one failed is told by the last line of its container's log."""
        found: dict[str, Deployment] = {}
        for entity in self._list(endpoint):
            name, state = _our_name(str(entity.name)), _state(entity)
            model, version = _model_of(entity)
            reason = self._why(endpoint, str(entity.name)) if state == "failed" else ""
            found[name] = Deployment(name=name, model=model, version=version, state=state, reason=reason)
        return found

    def traffic(self, endpoint: str) -> dict[str, int]:
        """See :meth:`EndpointService.traffic`."""
        present = self._endpoint(endpoint)
        return {} if present is None else _shares(present.traffic)

    def routes(self, endpoint: str) -> tuple[Route, ...]:
        """See :meth:`EndpointService.routes`."""
        look = self._look(endpoint)
        return () if look is None else look.routes

    def mirror(self, endpoint: str) -> dict[str, int]:
        """See :meth:`EndpointService.mirror`.

        Azure ML copies what reaches the endpoint without the name of a deployment; who names one, as scoring over HTTP
        does, makes the copies.
        """
        present = self._endpoint(endpoint)
        return {} if present is None else _shares(present.mirror_traffic)

    def set_traffic(self, endpoint: str, traffic: dict[str, int], *, mirror: dict[str, int] | None = None) -> None:
        """See :meth:`EndpointService.set_traffic`. Asking for the split that is in force changes nothing."""
        wanted = {name: share for name, share in traffic.items() if share}
        copied = {name: share for name, share in (mirror or {}).items() if share}
        check_split(endpoint, wanted, copied)
        present = self._required(endpoint)
        states = {_our_name(str(entity.name)): _state(entity) for entity in self._list(endpoint)}
        for name in (*wanted, *copied):
            if states.get(name) != "ready":
                what = f"is {states[name]}" if name in states else "does not exist"
                raise Refused(f"deployment {name} of endpoint {endpoint} {what}: only a ready one can take traffic")
        self._refuse_while_changing(endpoint, present)
        if (_shares(present.traffic), _shares(present.mirror_traffic)) == (wanted, copied):
            return
        present.traffic = {_azure_name(name): share for name, share in wanted.items()}
        present.mirror_traffic = {_azure_name(name): share for name, share in copied.items()}
        try:
            with translated(f"shift traffic of endpoint {endpoint} to {wanted}, copies {copied}"):
                self._workspace.client.online_endpoints.begin_create_or_update(present)
        except Conflict as error:
            raise Transient(str(error)) from error
        finally:
            self._looks.pop(endpoint, None)

    def remove(self, endpoint: str, deployment: str) -> None:
        """See :meth:`EndpointService.remove`."""
        present = self._endpoint(endpoint)
        entity = None if present is None else self._deployment(endpoint, deployment)
        if present is None or entity is None or _state(entity) == "deleting":
            return
        if share := _shares(present.traffic).get(deployment):
            raise Refused(
                f"deployment {deployment} of endpoint {endpoint} has {share} % of the traffic:"
                " move it to another one first"
            )
        if _shares(present.mirror_traffic).get(deployment):
            raise Refused(f"deployment {deployment} of endpoint {endpoint} gets copies of requests: end that first")
        self._refuse_while_changing(endpoint, present)
        try:
            with translated(f"delete deployment {deployment} of endpoint {endpoint}"):
                self._workspace.client.online_deployments.begin_delete(_azure_name(deployment), self._named(endpoint))
        except Missing:
            return
        except Conflict as error:
            raise Transient(str(error)) from error
        finally:
            self._looks.pop(endpoint, None)

    def score(
        self, endpoint: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, deployment: str | None = None
    ) -> Answer:
        """See :meth:`EndpointService.score`."""
        import httpx

        look = self._fresh_look(endpoint, deployment)
        headers = {"Authorization": f"Bearer {self._workspace.token(SCORING)}"}
        if deployment is not None:
            headers["azureml-model-deployment"] = _azure_name(deployment)
        doing = f"ask endpoint {endpoint}"
        start = time.perf_counter()
        try:
            answer = self._workspace.http.post(
                look.address,
                json={"input_data": {"columns": list(columns), "data": [list(row) for row in rows]}},
                headers=headers,
            )
        except httpx.HTTPError as error:
            raise Transient(f"{doing}: no answer came ({type(error).__name__}: {error})") from error
        elapsed = (time.perf_counter() - start) * 1000
        if answer.status_code == 424:
            raise Transient(f"{doing}: its model failed ({answer.text[:500]})")
        if answer.status_code != 200:
            raise of_status(doing, answer.status_code, answer.text[:500])
        body = answer.json()
        if "refused" in body:
            raise InvalidRequest(body["refused"], body.get("faults", ()))
        served = _our_name(answer.headers.get("azureml-model-deployment") or _azure_name(deployment or ""))
        versions = {route.deployment: route.version for route in look.routes}
        return Answer(
            predictions=body["predictions"],
            deployment=served,
            version=versions.get(served, ""),
            milliseconds=float(body.get("milliseconds", elapsed)),
            probabilities=body.get("probabilities"),
            classes=body.get("classes"),
        )

    def _fresh_look(self, endpoint: str, deployment: str | None) -> _Look:
        """A look at the endpoint that shows where the request can go; it is made anew when the last one does not."""
        for fresh in (False, True):
            if fresh:
                self._looks.pop(endpoint, None)
            look = self._look(endpoint)
            shares = {route.deployment: route.share for route in look.routes} if look else {}
            if look and (deployment in shares if deployment is not None else any(shares.values())):
                return look
        if look is None:
            raise Missing(f"there is no endpoint {endpoint}")
        if deployment is None:
            raise Missing(f"no deployment of endpoint {endpoint} has traffic")
        present = self._deployment(endpoint, deployment)
        if present is None:
            raise Missing(f"endpoint {endpoint} has no deployment {deployment}")
        raise Transient(f"deployment {deployment} of endpoint {endpoint} is {_state(present)}; ask again later")

    def _look(self, endpoint: str) -> _Look | None:
        look = self._looks.get(endpoint)
        if look is not None and time.monotonic() - look.at < ROUTES_SECONDS:
            return look
        with self._looking:
            look = self._looks.get(endpoint)
            if look is not None and time.monotonic() - look.at < ROUTES_SECONDS:
                return look
            at, present = time.monotonic(), self._endpoint(endpoint)
            if present is None:
                return None
            shares, copies = _shares(present.traffic), _shares(present.mirror_traffic)
            routes = []
            for entity in self._list(endpoint):
                if _state(entity) in ("ready", "updating"):
                    name = _our_name(str(entity.name))
                    routes.append(Route(name, *_model_of(entity), shares.get(name, 0), copies.get(name, 0)))
            look = _Look(at, str(present.scoring_uri), tuple(routes))
            self._looks[endpoint] = look
            return look

    def _named(self, endpoint: str) -> str:
        return online_endpoint(endpoint, self._workspace.path)

    def _endpoint(self, endpoint: str) -> OnlineEndpoint | None:
        if not _NAME.fullmatch(endpoint):
            return None
        try:
            with translated(f"look up endpoint {self._named(endpoint)}"):
                return self._workspace.client.online_endpoints.get(self._named(endpoint))
        except Missing:
            return None

    def _required(self, endpoint: str) -> OnlineEndpoint:
        present = self._endpoint(endpoint)
        if present is None:
            raise Missing(f"there is no endpoint {endpoint}; create it before it is changed")
        return present

    def _refuse_while_changing(self, endpoint: str, present: OnlineEndpoint) -> None:
        state = _state(present)
        if state == "failed":
            raise Refused(f"endpoint {present.name} could not be created; delete it in Azure ML, it is then made anew")
        if state != "ready":
            raise Transient(f"endpoint {endpoint} is {state} and refuses changes; try again later")

    def _deployment(self, endpoint: str, deployment: str) -> ManagedOnlineDeployment | None:
        try:
            with translated(f"look up deployment {deployment} of endpoint {endpoint}"):
                return self._workspace.client.online_deployments.get(_azure_name(deployment), self._named(endpoint))
        except Missing:
            return None

    def _list(self, endpoint: str) -> list[ManagedOnlineDeployment]:
        if not _NAME.fullmatch(endpoint):
            return []
        try:
            with translated(f"list the deployments of endpoint {endpoint}"):
                return list(self._workspace.client.online_deployments.list(self._named(endpoint)))
        except Missing:
            return []

    def _why(self, endpoint: str, name: str) -> str:
        try:
            with translated(f"read the log of deployment {name} of endpoint {endpoint}"):
                log = self._workspace.client.online_deployments.get_logs(name, self._named(endpoint), lines=50)
        except (Rejected, Transient, Conflict) as error:
            return f"its log could not be read ({error})"
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        return lines[-1] if lines else "Azure ML gave no reason"

    def _entity(
        self, endpoint: str, deployment: str, model: str, version: str, sizing: Rollout, folder: Path
    ) -> ManagedOnlineDeployment:
        from azure.ai.ml.entities import CodeConfiguration, Environment, ManagedOnlineDeployment, OnlineRequestSettings

        graph = place(model, version, GRAPH)
        compiled = self._lake.stat(graph) is not None
        if compiled:
            (folder / GRAPH).write_bytes(self._lake.read(graph))
        environment = environment_of(self._workspace, model, version, SERVING_COMPILED if compiled else SERVING)
        shutil.copytree(ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        shutil.copy(ROOT / "shared" / "jobs" / SCRIPT, folder / SCRIPT)
        with translated(f"describe deployment {deployment} of endpoint {endpoint}"):
            return ManagedOnlineDeployment(
                name=_azure_name(deployment),
                endpoint_name=self._named(endpoint),
                model=f"azureml:{model}:{version}",
                code_configuration=CodeConfiguration(code=str(folder), scoring_script=SCRIPT),
                environment=Environment(image=Training().image, conda_file=environment),
                instance_type=sizing.instance_type,
                instance_count=sizing.instance_count,
                request_settings=OnlineRequestSettings(
                    request_timeout_ms=REQUEST_MS, max_concurrent_requests_per_instance=CONCURRENT
                ),
            )


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise Rejected(f"{name!r} cannot name {what}: use 3 to 32 letters, digits and dashes, a letter first")


def _azure_name(deployment: str) -> str:
    match = re.fullmatch(r"v(\d+)", deployment)
    return f"version-{match[1]}" if match else deployment


def _our_name(deployment: str) -> str:
    match = re.fullmatch(r"version-(\d+)", deployment)
    return f"v{match[1]}" if match else deployment


def _state(entity: ManagedOnlineDeployment | OnlineEndpoint) -> str:
    # An enum for the states that the SDK knows, text for the others.
    state = entity.provisioning_state
    return STATES.get(getattr(state, "value", state) or "", "updating")


def _model_of(entity: ManagedOnlineDeployment) -> tuple[str, str]:
    match = _VERSION.search(str(entity.model))
    if not match:
        return str(entity.model or ""), ""
    return match[1] or match[3], match[2] or match[4]


def _shares(percents: dict[str, int] | None) -> dict[str, int]:
    return {_our_name(name): share for name, share in (percents or {}).items() if share}
