"""Synapse pipelines that run: a small interpreter of the activities that ours have.

Web activities call the stand-in with the identity of the Synapse workspace, and copies read and write the storage
account. A SQL pool is simulated: a query gives the rows that a test has put into ``rows``, and what is loaded is in
``tables``. Waiting is made short.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt

from tests.standin import identity
from tests.standin.blobs import Blobs
from tests.standin.expressions import Functions, Unevaluable, evaluate
from tests.standin.http import Handler, Problem, Request, Reset, Response
from tests.standin.memory_blobs import MemoryBlobs
from tests.standin.synapse import ARTIFACTS, Synapse

ACTIVITIES = {"Copy", "Fail", "IfCondition", "SetVariable", "Until", "Wait", "WebActivity"}
LONGEST_WAIT = 0.2
PAGE = 2
"""Runs on a page of a query: small, so that there is more than one."""


class Failure(Exception):
    """An activity failed."""


@dataclass
class Run:
    """A run of a pipeline: Queued, InProgress, Succeeded, Failed or Cancelled."""

    id: str
    pipeline: str
    parameters: dict[str, Any]
    started: datetime
    status: str = "Queued"
    message: str = ""
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))
    outputs: dict[str, Any] = field(default_factory=dict)
    """What each activity gave, by its name."""

    def shown(self) -> dict[str, Any]:
        """As Synapse shows it."""
        return {
            "runId": self.id,
            "pipelineName": self.pipeline,
            "status": self.status,
            "message": self.message,
            "parameters": self.parameters,
            "runStart": self.started.isoformat(),
            "lastUpdated": self.updated.isoformat(),
        }


class Pipelines:
    """Datasets, checks of what a pipeline refers to, and runs; everything else is ``synapse``'s.

    With ``held`` runs stay Queued, and a test sets their status. ``listed`` is what of the runs a query sees by now.
    """

    def __init__(self, synapse: Synapse, call: Handler, blobs: Callable[[], Blobs | MemoryBlobs]) -> None:
        self._synapse, self._call, self._blobs = synapse, call, blobs
        self.runs: dict[str, Run] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.held = False
        self.listed: Callable[[list[Run]], list[Run]] = lambda runs: runs

    def __call__(self, request: Request) -> Response:
        """Any call to the workspace's development host."""
        path = request.path.strip("/").split("/")
        mine = path[0] in ("datasets", "pipelineruns", "queryPipelineRuns") or path[-1] == "createRun"
        if not mine:
            if path[0] == "pipelines" and request.method == "PUT":
                identity.check(request, identity.SYNAPSE, identity.SYNAPSE + "/")
                self._check(path[1], request.json().get("properties") or {})
            return self._synapse(request)
        identity.check(request, identity.SYNAPSE, identity.SYNAPSE + "/")
        if request.query.get("api-version") != ARTIFACTS:
            raise Problem(400, "InvalidApiVersion", f"{request.query.get('api-version')!r} is not known")
        with self._synapse.lock:
            match (request.method, *path):
                case ("POST", "pipelines", name, "createRun"):
                    return self._create_run(name, request.json() if request.body else {})
                case ("GET", "pipelineruns", key) if key in self.runs:
                    return Response(body=self.runs[key].shown())
                case ("POST", "queryPipelineRuns"):
                    return self._query(request.json())
                case (method, "datasets", name):
                    return self._dataset(method, name, request)
        raise Problem(404, "NotFound", f"a Synapse workspace has no {request.method} {request.path}")

    # Artifacts

    def _dataset(self, method: str, name: str, request: Request) -> Response:
        if method == "PUT":
            properties = request.json().get("properties")
            if not isinstance(properties, dict) or "linkedServiceName" not in properties:
                raise Problem(400, "BadRequest", f"properties of dataset {name} are missing; is it wrapped twice?")
            if not re.fullmatch(r"[A-Za-z0-9_][\w .]*", name):
                raise Problem(400, "BadRequest", f"{name!r} cannot name a dataset")
            self._linked(f"dataset {name}", properties["linkedServiceName"])
            self.datasets[name] = properties
        if name not in self.datasets:
            raise Problem(404, "NotFound", f"there is no dataset {name}")
        made = {"id": f"/datasets/{name}", "name": name, "properties": self.datasets[name], "etag": str(uuid.uuid4())}
        return Response(200, made)

    def _linked(self, who: str, reference: dict[str, Any]) -> None:
        if reference.get("referenceName") not in self._synapse.linked_services:
            raise Problem(400, "BadRequest", f"{who} names the linked service {reference}: there is none")

    def _check(self, name: str, properties: dict[str, Any]) -> None:
        names = set()
        for activity in _all_activities(properties.get("activities", [])):
            who = f"activity {activity['name']} of pipeline {name}"
            if activity["type"] not in ACTIVITIES:
                raise Problem(400, "BadRequest", f"{who} has the type {activity['type']}, which the stand-in lacks")
            if activity["name"] in names:
                raise Problem(400, "BadRequest", f"{who}: its name is taken")
            names.add(activity["name"])
            for reference in (*activity.get("inputs", []), *activity.get("outputs", [])):
                if reference["referenceName"] not in self.datasets:
                    raise Problem(400, "BadRequest", f"{who} names the dataset {reference}: there is none")
            if staging := activity["typeProperties"].get("stagingSettings"):
                self._linked(who, staging["linkedServiceName"])

    # Runs

    def _create_run(self, name: str, given: dict[str, Any]) -> Response:
        if name not in self._synapse.pipelines:
            raise Problem(404, "PipelineNotFound", f"there is no pipeline {name}")
        declared = self._synapse.pipelines[name]["properties"].get("parameters", {})
        if unknown := sorted(set(given) - set(declared)):
            raise Problem(400, "BadRequest", f"pipeline {name} has no parameters {unknown}")
        parameters = {key: given.get(key, spec.get("defaultValue")) for key, spec in declared.items()}
        run = Run(str(uuid.uuid4()), name, parameters, datetime.now(UTC))
        self.runs[run.id] = run
        if not self.held:
            threading.Thread(target=self._run, args=(run,), name=f"pipeline run {run.id}", daemon=True).start()
        return Response(202, {"runId": run.id})

    def _query(self, body: dict[str, Any]) -> Response:
        after, before = (datetime.fromisoformat(body[key]) for key in ("lastUpdatedAfter", "lastUpdatedBefore"))
        found = [run for run in self.listed(list(self.runs.values())) if after <= run.updated <= before]
        for wanted in body.get("filters", []):
            if (wanted["operand"], wanted["operator"]) != ("PipelineName", "Equals"):
                raise Problem(400, "BadRequest", f"the stand-in has no filter {wanted}")
            found = [run for run in found if run.pipeline in wanted["values"]]
        start = int(body.get("continuationToken") or 0)
        answer: dict[str, Any] = {"value": [run.shown() for run in found[start : start + PAGE]]}
        if len(found) > start + PAGE:
            answer["continuationToken"] = str(start + PAGE)
        return Response(body=answer)

    def _run(self, run: Run) -> None:
        properties = self._synapse.pipelines[run.pipeline]["properties"]
        variables = {name: spec.get("defaultValue") for name, spec in properties.get("variables", {}).items()}
        self._end(run, "InProgress", "")
        try:
            _Interpreter(self, run, variables).all(properties["activities"])
        except Failure as failure:
            self._end(run, "Failed", str(failure))
        else:
            self._end(run, "Succeeded", "")

    def _end(self, run: Run, status: str, message: str) -> None:
        with self._synapse.lock:
            run.status, run.message, run.updated = status, message, datetime.now(UTC)

    # What activities do

    def web(self, properties: dict[str, Any]) -> dict[str, Any]:
        """The JSON that an address answers."""
        url = urlsplit(properties["url"])
        audience = properties["authentication"]["resource"]
        headers = {name.lower(): str(value) for name, value in properties.get("headers", {}).items()}
        request = Request(
            method=properties["method"],
            host=url.netloc.lower(),
            path=url.path,
            query=dict(parse_qsl(url.query)),
            headers={**headers, "authorization": f"Bearer {_token(audience)}"},
            body=json.dumps(properties["body"]).encode() if "body" in properties else b"",
        )
        try:
            response = self._call(request)
        except Problem as problem:
            response = problem.response
        except Reset as reset:
            raise Failure(f"{url.netloc} has cut the connection") from reset
        if response.status >= 400:
            raise Failure(f"{response.status}: {json.dumps(response.body)}")
        return json.loads(json.dumps(response.body))

    def copy(self, activity: dict[str, Any], functions: Functions) -> dict[str, Any]:
        """Rows from a dataset to another; returns how many there were."""
        source = evaluate(activity["typeProperties"]["source"], functions)
        sink = evaluate(activity["typeProperties"]["sink"], functions)
        rows = self._read(self._resolved(activity["inputs"][0], functions), source)
        for column in source.get("additionalColumns", []):
            rows = [{**row, column["name"]: column["value"]} for row in rows]
        self._write(self._resolved(activity["outputs"][0], functions), sink, rows)
        return {"rowsCopied": len(rows)}

    def _resolved(self, reference: dict[str, Any], functions: Functions) -> dict[str, Any]:
        dataset = self.datasets[reference["referenceName"]]
        given = evaluate(reference.get("parameters", {}), functions)
        return evaluate(dataset, {"dataset": lambda: given})

    def _read(self, dataset: dict[str, Any], source: dict[str, Any]) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        if dataset["type"] == "AzureSqlDWTable":
            if source["sqlReaderQuery"] not in self.rows:
                raise Failure(f"the SQL pool refuses {source['sqlReaderQuery']!r}")
            return self.rows[source["sqlReaderQuery"]]
        place = dataset["typeProperties"]["location"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.parquet"
            path = f"{place['folderPath']}/{place['fileName']}"
            if not self._blobs().download(place["fileSystem"], path, file):
                raise Failure(f"there is no {path} in {place['fileSystem']}")
            rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        return rows

    def _write(self, dataset: dict[str, Any], sink: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        place = dataset["typeProperties"]
        if dataset["type"] == "AzureSqlDWTable":
            name = f"{place['schema']}.{place['table']}"
            self._prepare(name, sink.get("preCopyScript", ""))
            self.tables.setdefault(name, []).extend(rows)
            return
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        place = place["location"]
        self._blobs().write(place["fileSystem"], f"{place['folderPath']}/{place['fileName']}", buffer.getvalue())

    def _prepare(self, table: str, script: str) -> None:
        """The one statement that is understood: rows of a column's value go, where there is the table."""
        schema, name = table.split(".")
        match = re.fullmatch(
            rf"IF OBJECT_ID\('\[{schema}\]\.\[{name}\]'\) IS NOT NULL "
            rf"EXEC\('DELETE FROM \[{schema}\]\.\[{name}\] WHERE (\w+) = ''([^']*)'''\)",
            script,
        )
        if match is None:
            raise Failure(f"the SQL pool refuses {script!r}")
        if table in self.tables:
            self.tables[table] = [row for row in self.tables[table] if row.get(match[1]) != match[2]]


class _Interpreter:
    """One run of one pipeline."""

    def __init__(self, pipelines: Pipelines, run: Run, variables: dict[str, Any]) -> None:
        self._pipelines, self._run, self._variables = pipelines, run, variables
        self._functions: Functions = {
            "pipeline": lambda: {"parameters": run.parameters, "RunId": run.id, "Pipeline": run.pipeline},
            "variables": lambda name: self._variables[name],
            "activity": lambda name: {"output": run.outputs[name]},
        }

    def all(self, activities: list[dict[str, Any]]) -> None:
        """Run each activity once those that it waits for have succeeded; the first failure ends it."""
        waiting, done = list(activities), set()
        while waiting:
            ready = [a for a in waiting if {d["activity"] for d in a.get("dependsOn", [])} <= done]
            if not ready:
                raise Failure(f"nothing can run any more of {[a['name'] for a in waiting]}")
            for activity in ready:
                self._one(activity)
                done.add(activity["name"])
                waiting.remove(activity)

    def _one(self, activity: dict[str, Any]) -> None:
        attempts = 1 + int(activity.get("policy", {}).get("retry", 0))
        for attempt in range(attempts):
            try:
                self._run.outputs[activity["name"]] = self._do(activity)
                return
            except (Failure, Unevaluable) as failure:
                if attempt + 1 == attempts:
                    inner = isinstance(failure, Failure) and str(failure).startswith("Operation on target")
                    said = str(failure) if inner else f"Operation on target {activity['name']} failed: {failure}"
                    raise Failure(said) from failure

    def _do(self, activity: dict[str, Any]) -> dict[str, Any]:
        properties = activity["typeProperties"]
        match activity["type"]:
            case "WebActivity":
                return self._pipelines.web(evaluate(properties, self._functions))
            case "Copy":
                return self._pipelines.copy(activity, self._functions)
            case "Wait":
                time.sleep(min(LONGEST_WAIT, evaluate(properties["waitTimeInSeconds"], self._functions)))
            case "SetVariable":
                value = evaluate(properties["value"], self._functions)
                self._variables[properties["variableName"]] = value
            case "Fail":
                raise Failure(evaluate(properties["message"], self._functions))
            case "IfCondition":
                chosen = "True" if evaluate(properties["expression"], self._functions) else "False"
                self.all(properties.get(f"if{chosen}Activities", []))
            case "Until":
                while not evaluate(properties["expression"], self._functions):
                    self.all(properties["activities"])
        return {}


def _all_activities(activities: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for activity in activities:
        yield activity
        for inner in ("activities", "ifTrueActivities", "ifFalseActivities"):
            yield from _all_activities(activity.get("typeProperties", {}).get(inner, []))


def _token(audience: str) -> str:
    now = int(time.time())
    claims = {"aud": audience, "nbf": now - 60, "iat": now - 60, "exp": now + 3600, "oid": "of the Synapse workspace"}
    return jwt.encode(claims, identity.SECRET, algorithm="HS256")
