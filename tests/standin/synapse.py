"""A Synapse workspace: Livy batches of its Spark pools, linked services, and pipelines as they are kept."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.standin import identity
from tests.standin.http import Problem, Request, Response

ARTIFACTS = "2020-12-01"
RESULTS = {"success": "Succeeded", "dead": "Failed", "error": "Failed", "killed": "Cancelled"}
"""What a batch's result is once it is in an end state; Uncertain before."""


@dataclass
class Batch:
    """A Spark batch; ``body`` is what it was submitted with."""

    id: int
    pool: str
    body: dict[str, Any]
    state: str = "not_started"
    log: list[str] = field(default_factory=list)
    error: str = ""


class Synapse:
    """``started`` is called for each new batch, ``killed`` for one that is cancelled; a test, or what runs the
    batch, moves it by :meth:`move`.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pools = {"spark"}
        self.batches: list[Batch] = []
        self.linked_services: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.started: Callable[[Batch], None] = lambda batch: None
        self.killed: Callable[[Batch], None] = lambda batch: None
        self.listed: Callable[[list[Batch]], list[Batch]] = lambda batches: batches
        """What of a pool's batches is in its list by now."""
        self.forgotten: set[int] = set()
        self.cores, self.busy_cores = 1000, 0
        """Virtual cores that the workspace may use, and those in use."""

    def __call__(self, request: Request) -> Response:
        """Any call to the workspace's development host."""
        identity.check(request, identity.SYNAPSE, identity.SYNAPSE + "/")
        with self.lock:
            match = re.fullmatch(
                r"/livyApi/versions/(2019-11-01-preview)/sparkPools/([^/]+)/batches(?:/(\d+))?", request.path
            )
            return self._livy(request, match[2], match[3]) if match else self._artifact(request)

    def move(self, batch: int, state: str, *, log: list[str] | None = None, error: str = "") -> None:
        """Bring a batch to a Livy state: starting, running, success, dead, killed."""
        with self.lock:
            found = self.batches[batch]
            if found.state not in RESULTS:
                found.state, found.error = state, error
                found.log += log or []

    def forget(self, batch: int) -> None:
        """Let a batch be in no list and at no address any more, as old ones are."""
        with self.lock:
            self.forgotten.add(batch)

    def _livy(self, request: Request, pool: str, number: str | None) -> Response:
        if pool not in self.pools:
            raise Problem(404, "SparkPoolNotFound", f"the workspace has no Spark pool {pool}")
        mine = [batch for batch in self.batches if batch.pool == pool and batch.id not in self.forgotten]
        if number is None and request.method == "GET":
            start, size = int(request.query.get("from", "0")), int(request.query.get("size", "20"))
            page = self.listed(mine)[::-1][start : start + min(size, 20)]
            return Response(body={"from": start, "total": len(page), "sessions": [_livy(b) for b in page]})
        if number is None and request.method == "POST":
            return self._submit(request, pool)
        batch = next((b for b in mine if number is not None and b.id == int(number)), None)
        if batch is None:
            raise Problem(404, "LivyBatchNotFound", f"pool {pool} has no batch {number}")
        if request.method == "DELETE":
            self.move(batch.id, "killed")
            self.killed(batch)
            return Response(200, {"msg": "deleted"})
        return Response(body=_livy(batch))

    def _submit(self, request: Request, pool: str) -> Response:
        body = request.json()
        if "properties" in body or not body.get("name") or not body.get("file"):
            raise Problem(400, "InvalidRequest", "a batch has name and file at its top")
        for size in ("driverMemory", "executorMemory"):
            if not re.fullmatch(r"\d+g", str(body.get(size, ""))):
                raise Problem(400, "InvalidRequest", f"{size} is {body.get(size)!r}, not like 28g")
        if len(request.body) > 100_000:
            raise Problem(400, "InvalidRequest", "the payload of a Livy request is larger than 100 kB")
        for address in (body["file"], *body.get("pyFiles", [])):
            if not re.fullmatch(r"abfss://[^@/]+@[^/]+\.dfs\.core\.windows\.net/.+", address):
                raise Problem(400, "InvalidRequest", f"{address} is no file that a pool can open")
        asked = body.get("driverCores", 4) + body.get("executorCores", 4) * body.get("numExecutors", 2)
        free = self.cores - self.busy_cores
        if asked > free:
            which, limit = ("MAXIMUM", self.cores) if asked > self.cores else ("AVAILABLE", free)
            said = f"[{which}_WORKSPACE_CAPACITY_EXCEEDED] the job requested {asked} vcores; the workspace has {limit}"
            raise Problem(400, "InvalidHttpRequestToLivy", said)
        batch = Batch(len(self.batches), pool, body)
        self.batches.append(batch)
        self.started(batch)
        return Response(200, _livy(batch))

    def _artifact(self, request: Request) -> Response:
        if request.query.get("api-version") != ARTIFACTS:
            raise Problem(
                400, "InvalidApiVersion", f"the api-version {request.query.get('api-version')!r} is not known"
            )
        kinds = {"linkedservices": self.linked_services, "pipelines": self.pipelines}
        match request.path.strip("/").split("/"):
            case [kind, name] if kind in kinds:
                return self._resource(request, kind, name, kinds[kind])
            case ["operationResults", kind, name] if kind in kinds and name in kinds[kind]:
                return Response(200, kinds[kind][name])
        raise Problem(404, "NotFound", f"a Synapse workspace has no {request.method} {request.path}")

    def _resource(self, request: Request, kind: str, name: str, store: dict[str, dict[str, Any]]) -> Response:
        if request.method == "PUT":
            properties = request.json().get("properties")
            wanted = "type" if kind == "linkedservices" else "activities"
            if not isinstance(properties, dict) or wanted not in properties:
                raise Problem(400, "BadRequest", f"properties.{wanted} of {name} is required; is it wrapped twice?")
            if kind == "pipelines":
                self._check_references(name, properties)
            store[name] = {"id": f"/{kind}/{name}", "name": name, "properties": properties, "etag": str(uuid.uuid4())}
            address = f"https://{request.host}/operationResults/{kind}/{name}?api-version={ARTIFACTS}"
            return Response(202, None, {"Location": address, "x-ms-retry-after-ms": "50"})
        if name not in store:
            raise Problem(404, "NotFound", f"there is no {name} in {kind}")
        if request.method == "DELETE":
            del store[name]
            return Response(200)
        return Response(body=store[name])

    def _check_references(self, name: str, properties: dict[str, Any]) -> None:
        for activity in properties["activities"]:
            linked = activity.get("linkedServiceName", {}).get("referenceName")
            if linked and linked not in self.linked_services:
                raise Problem(400, "BadRequest", f"pipeline {name} names the linked service {linked}: there is none")


def _livy(batch: Batch) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "id": batch.id,
        "name": batch.body["name"],
        "appId": f"application_{batch.id}",
        "state": batch.state,
        "result": RESULTS.get(batch.state, "Uncertain"),
        "sparkPoolName": batch.pool,
        "tags": batch.body.get("tags", {}),
        "log": batch.log,
        "errorInfo": [{"message": batch.error, "errorCode": "SPARK", "source": "User"}] if batch.error else [],
        "schedulerInfo": {"submittedAt": now},
    }
