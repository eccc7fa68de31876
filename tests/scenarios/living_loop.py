"""The whole loop alive on this machine: real app, host, engines; a test lands files and looks what comes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from landfall.follow import follow, run_of_file, settled
from landfall.host import LaptopHost
from landfall.session import fresh_app
from shared import bootstrap, runs
from shared.domain.ledger import Claim, Decision, PipelineState, Run, Version
from shared.domain.signals import Signal
from shared.loop import Loop
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
gate: {metric: roc_auc, positive: yes}
"""
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

parser = argparse.ArgumentParser()
for option in ("--data", "--test-data", "--model-output"):
    parser.add_argument(option)
args = parser.parse_args()
rows = pd.read_parquet(args.data)
x, y = rows[["x", "kind"]], rows["label"]
columns = ColumnTransformer([("kind", OneHotEncoder(handle_unknown="ignore"), ["kind"])], remainder="passthrough")
model = make_pipeline(columns, LogisticRegression()).fit(x, y)
print(f"trained on {len(x)} rows")
mlflow.sklearn.save_model(
    model, args.model_output, signature=infer_signature(x, model.predict(x)), pip_requirements=["scikit-learn"],
    skops_trusted_types=["numpy.dtype"],
)
"""


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

    def ship(self, name: str) -> None:
        """One of the pipelines that the project ships."""
        shutil.copytree(ROOT / "pipelines" / name, self.pipelines / name)

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
        return runs.state_of(self.loop, pipeline)

    def version(self, pipeline: str, version: str) -> Version:
        found = self.loop.ports.ledger.read(Version, pipeline, version)
        assert found is not None
        return found

    def decisions(self, pipeline: str, outcome: str | None = None) -> list[Decision]:
        found = list(self.loop.ports.ledger.list(Decision, pipeline))
        return [d for d in found if outcome in (None, d.outcome)]

    def call(self, method: str, path: str, payload: Any = None, **headers: str) -> httpx.Response:
        """An HTTP function, with its key."""
        keyed = {"x-functions-key": self.host.keys.function, **{n.replace("_", "-"): v for n, v in headers.items()}}
        if isinstance(payload, bytes):
            return self.http.request(method, path, content=payload, headers=keyed)
        return self.http.request(method, path, json=payload, headers=keyed)

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


def tiny_rows(count: int, *, start: int = 0, effect: float = 1.0, only: str = "") -> str:
    """CSV of ``count`` rows whose label follows x (``effect`` 0: not at all), the same for the same arguments."""
    import numpy as np

    random = np.random.default_rng(start + 1)
    x = random.normal(size=count)
    yes = random.random(count) < 1 / (1 + np.exp(-3 * effect * x))
    kind = random.choice(["a", "b", "c"], count)
    lines = ["id,x,kind,label"]
    for n in range(count):
        lines.append(f"k{start + n},{x[n]:.4f},{only or kind[n]},{'yes' if yes[n] else 'no'}")
    return "\n".join(lines) + "\n"


def eventually(look: Callable[[], T], seconds: float = 30) -> T:
    """What ``look`` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come true within {seconds} s")
