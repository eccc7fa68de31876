"""The whole loop alive on this machine: real app, host, engines; a test lands files and looks what comes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from landfall.follow import SETTLED, follow, run_of_file, settled
from landfall.host import LaptopHost
from landfall.session import fresh_app
from shared import bootstrap, pipeline_states, runs
from shared.domain.ledger import Claim, Decision, PipelineState, Run, Version
from shared.domain.signals import Signal
from shared.features import manifests
from shared.loop import Loop
from shared.ports.feature_engine import Manifest
from shared.ports.lake import FileInfo
from shared.settings import ROOT, Settings

T = TypeVar("T")

PACE = 600.0

TINY_YAML = """
name: tiny
landing:
  path: landing/tiny
  complete: {quiet: 60s, max_wait: 60m}
  columns: {id: string, x: double, kind: string, label: string}
  checks: [{column: x, between: [-100, 100]}, {column: id, unique: true}]
features: {key: id, label: label}
training: {timeout: 60s}
gate: {metric: roc_auc, positive: yes, max_latency_ms: 20000}
rollout: {bake: 10m, rollback_when: {error_rate: 0.05, min_requests: 5, p95_ms: 20000, prediction_psi: 100}}
retraining: {schedule: null}
"""
"""Its limits of latency allow for a machine that has much else to do."""

TINY_SQL = "select id, x, kind, label from landed"

TINY_TRAIN = """
import argparse

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

COLUMNS = ["x", "kind"]
UNKNOWN = "ignore"

parser = argparse.ArgumentParser()
for option in ("--data", "--test-data", "--model-output"):
    parser.add_argument(option)
args = parser.parse_args()
rows = pd.read_parquet(args.data)
x, y = rows[["x", "kind"]], rows["label"]
numbers = ("numbers", "passthrough", [name for name in COLUMNS if name == "x"])
columns = ColumnTransformer([("kind", OneHotEncoder(handle_unknown=UNKNOWN), ["kind"]), numbers])
with mlflow.start_run():
    model = make_pipeline(columns, LogisticRegression()).fit(x, y)
    mlflow.log_metric("rows", len(x))
    mlflow.sklearn.save_model(
        model, args.model_output, signature=infer_signature(x, model.predict(x)), pip_requirements=["scikit-learn"],
        skops_trusted_types=["numpy.dtype"],
    )
print(f"trained on {len(x)} rows with {COLUMNS}")
"""
BLIND_TRAIN = TINY_TRAIN.replace('["x", "kind"]\nUNKNOWN', '["kind"]\nUNKNOWN')
"""Learns from one column only, the one that says little."""
FRAGILE_TRAIN = TINY_TRAIN.replace('"ignore"', '"error"')
"""As good as the best on what it knows, and fails on a kind that it has never seen."""
NO_TRAIN = "import sys\nprint('reading the rows')\nsys.exit('the disk is full')"
"""For stories that end before a model does."""


def tiny_yaml(name: str, **changes: str) -> str:
    """The tiny pipeline under another name; each of ``changes`` replaces a line that begins with its name."""
    lines = TINY_YAML.replace("tiny", name).splitlines()
    for field, line in changes.items():
        assert any(present.strip().startswith(f"{field}:") for present in lines), field
        lines = [
            " " * (len(present) - len(present.lstrip())) + line if present.strip().startswith(f"{field}:") else present
            for present in lines
        ]
    return "\n".join(lines) + "\n"


class LivingLoop:
    """One home with its host. ``pipelines`` may be changed while it lives."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.pipelines = folder / "pipelines"
        self.pipelines.mkdir(parents=True)
        self.settings = Settings(
            backend="local",
            home=self.home,
            port=0,
            pipelines=self.pipelines,
            account="landfall",
            container="lake",
            pace=PACE,
        )
        self.loop: Loop
        self.host: LaptopHost
        self.http: httpx.Client

    def add_pipeline(self, name: str, yaml: str, sql: str, train: str) -> Path:
        """A folder of four files."""
        folder = self.pipelines / name
        folder.mkdir()
        (folder / "pipeline.yaml").write_text(yaml)
        (folder / "features.sql").write_text(sql)
        (folder / "train.py").write_text(train)
        (folder / "environment.yml").write_text(f"name: {name}\ndependencies: [python=3.11]\n")
        return folder

    def add_tiny(self, name: str, train: str = TINY_TRAIN, **changes: str) -> Path:
        """A tiny pipeline of that name, see :func:`tiny_yaml`."""
        return self.add_pipeline(name, tiny_yaml(name, **changes), TINY_SQL, train)

    def ship(self, name: str, **changes: str) -> None:
        """One of the pipelines that the project ships; each of ``changes`` gives a setting another value."""
        folder = self.pipelines / name
        shutil.copytree(ROOT / "pipelines" / name, folder)
        text = (folder / "pipeline.yaml").read_text()
        for field, value in changes.items():
            text, count = re.subn(rf"\b{field}: [^,}}\n]+", f"{field}: {value}", text)
            assert count == 1, field
        (folder / "pipeline.yaml").write_text(text)

    @contextmanager
    def alive(self, *run_at_start: str) -> Iterator[LivingLoop]:
        """The host runs inside the block."""
        self.loop = bootstrap.build(self.settings)
        bootstrap.use(self.loop)
        self.host = LaptopHost(fresh_app(), self.home, 0, run_at_start=run_at_start)
        self.host.start()
        try:
            with httpx.Client(base_url=self.host.url, timeout=30) as self.http:
                yield self
        finally:
            self.host.stop()
            self.loop.predictions.close()
            bootstrap.use(None)

    def land(self, path: str, content: str) -> FileInfo:
        return self.loop.ports.lake.write(path, content.encode())

    def folder(self, pipeline: str) -> Path:
        """Where files land for a pipeline, as people see it: a folder of this machine."""
        place = Path(self.loop.ports.lake.uri(f"landing/{pipeline}"))
        place.mkdir(parents=True, exist_ok=True)
        return place

    def found(self, path: str) -> FileInfo:
        """What the lake says of a file that somebody else put there."""
        info = self.loop.ports.lake.stat(path)
        assert info is not None, path
        return info

    def run_of(self, pipeline: str, info: FileInfo, seconds: float = 60) -> Run:
        """The run that the file ends up in."""
        found = run_of_file(self.loop, pipeline, info, lambda _: None, seconds)
        assert isinstance(found, Run), found
        return found

    def ended(self, run: Run) -> Run:
        return follow(self.loop, run, quiet=True)

    def pass_of(self, pipeline: str, info: FileInfo) -> Run:
        """The file's run, at its end."""
        return self.ended(self.run_of(pipeline, info))

    def ask(self, signal: Signal) -> Claim:
        """What came of a signal."""
        self.loop.ports.queue.send(signal)
        claim = settled(self.loop, signal)
        assert claim is not None, f"{signal} was not handled"
        return claim

    def state(self, pipeline: str) -> PipelineState:
        return pipeline_states.read(self.loop, pipeline)

    def version(self, pipeline: str, version: str) -> Version:
        found = self.loop.ports.ledger.read(Version, pipeline, version)
        assert found is not None
        return found

    def runs(self, pipeline: str, cause: str | None = None) -> list[Run]:
        """The pipeline's runs, the oldest first."""
        found = sorted(self.loop.ports.ledger.list(Run, pipeline), key=lambda run: run.created_at)
        return [run for run in found if cause in (None, run.cause)]

    def manifest(self, run: Run) -> Manifest:
        """What a run's features job said of them."""
        return manifests.read(self.loop.ports.lake, manifests.place(run.features))

    def operate(self, pipeline: str, action: str, **body: Any) -> str:
        """Ask for something over HTTP as an operator does; returns the signal's key."""
        answer = self.call("POST", f"/api/pipelines/{pipeline}/{action}", body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["signal"])

    def handled(self, signal: str, seconds: float = 60) -> Claim:
        """What came of a signal that was asked for over HTTP, by its key."""

        def look() -> Claim | None:
            claim = self.loop.ports.ledger.read(Claim, signal, "claim")
            return claim if claim and claim.status in SETTLED else None

        return eventually(look, seconds)

    def retrained(self, pipeline: str, request: str) -> Run:
        """The run that a retraining by hand began, at its end."""
        claim = self.handled(self.operate(pipeline, "retrain", request=request))
        assert claim.status == "done", claim.reason
        return self.ended(runs.read(self.loop, pipeline, f"{pipeline}-m{request}"))

    def decisions(self, pipeline: str, outcome: str | None = None) -> list[Decision]:
        found = list(self.loop.ports.ledger.list(Decision, pipeline))
        return [d for d in found if outcome in (None, d.outcome)]

    def story(self, pipeline: str) -> str:
        """What all decisions say."""
        return " ".join(decision.reason for decision in self.decisions(pipeline))

    def call(self, method: str, path: str, payload: Any = None, **headers: str) -> httpx.Response:
        """An HTTP function, with its key."""
        keyed = {"x-functions-key": self.host.keys.function, **{n.replace("_", "-"): v for n, v in headers.items()}}
        if isinstance(payload, bytes):
            return self.http.request(method, path, content=payload, headers=keyed)
        return self.http.request(method, path, json=payload, headers=keyed)

    def admin(self, function: str) -> None:
        """Run a function by hand, now, whatever its schedule."""
        answer = self.http.post(f"/admin/functions/{function}", headers={"x-functions-key": self.host.keys.master})
        assert answer.status_code == 202, answer.text

    def deliver(self, *events: dict[str, Any], function: str = "event_storage") -> httpx.Response:
        """Events to the webhook, as Event Grid sends them."""
        return self.http.post(
            "/runtime/webhooks/eventgrid",
            params={"functionName": function},
            headers={"aeg-event-type": "Notification"},
            json=list(events),
        )

    def event(self, info: FileInfo, **changes: Any) -> dict[str, Any]:
        """The storage event of a file; ``changes`` are to its data."""
        return {
            "topic": "/subscriptions/0/resourceGroups/x/providers/Microsoft.Storage/storageAccounts/landfall",
            "subject": f"/blobServices/default/containers/lake/blobs/{info.path}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "eventTime": info.modified.isoformat(),
            "id": f"{info.path}-{info.etag}",
            "data": {
                "api": "FlushWithClose",
                "eTag": info.etag,
                "contentLength": info.size,
                "url": f"https://landfall.dfs.core.windows.net/lake/{info.path}",
                **changes,
            },
            "dataVersion": "2",
            "metadataVersion": "1",
        }

    def environment(self) -> dict[str, str]:
        """For a command line on the same home."""
        return {
            **os.environ,
            "LANDFALL_HOME": str(self.home),
            "LANDFALL_PIPELINES": str(self.pipelines),
            "LANDFALL_PACE": str(PACE),
            "LANDFALL_PORT": "0",
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "landfall.cli", *arguments],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def command_json(self, *arguments: str) -> Any:
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


class Visitors:
    """Somebody who asks a pipeline's endpoint all the time inside the block, with one body after the other.

    ``splits`` are the traffic splits in the order in which they came into force, ``answered`` counts who answered
    under which of them, ``refused`` are the texts of answers that were none.
    """

    def __init__(self, living: LivingLoop, pipeline: str, bodies: Sequence[Any]) -> None:
        self.splits: list[dict[str, int]] = []
        self.answered: dict[str, Counter[str]] = {}
        self.refused: list[str] = []
        self._living = living
        self._pipeline = pipeline
        self._bodies = bodies
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="visitors")

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def shares(self, split: dict[str, int]) -> Counter[str]:
        """How many answers each deployment gave while the traffic was split so."""
        return self.answered.get(json.dumps(split), Counter())

    def _ask(self) -> None:
        turn = 0
        while not self._stop.wait(0.005):
            before = self._split()
            answer = self._living.call(
                "POST", f"/api/pipelines/{self._pipeline}/score", self._bodies[turn % len(self._bodies)]
            )
            turn += 1
            if answer.status_code != 200:
                self.refused.append(answer.text)
            elif self._split() == before:
                self.answered.setdefault(json.dumps(before), Counter())[answer.headers["x-landfall-deployment"]] += 1

    def _split(self) -> dict[str, int]:
        split = self._living.loop.ports.endpoints.traffic(self._pipeline)
        if self.splits[-1:] != [split]:
            self.splits.append(split)
        return split


def tiny_rows(count: int, *, start: int = 0, effect: float = 1.0) -> str:
    """CSV of ``count`` rows whose label follows x, and kind a little (``effect`` 0: nothing), always the same."""
    import numpy as np

    random = np.random.default_rng(start + 1)
    x = random.normal(size=count)
    kind = random.choice(["a", "b", "c"], count)
    yes = random.random(count) < 1 / (1 + np.exp(-effect * (3 * x + (kind == "a"))))
    lines = ["id,x,kind,label"]
    for n in range(count):
        lines.append(f"k{start + n},{x[n]:.4f},{kind[n]},{'yes' if yes[n] else 'no'}")
    return "\n".join(lines) + "\n"


def eventually(look: Callable[[], T], seconds: float = 30) -> T:
    """What ``look`` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come true within {seconds} s")
