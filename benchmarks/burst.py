"""Ten thousand storage events at once, a fifth of them told twice and in no order, through the webhook of the host."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.figures import Figure
from landfall.host import running
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.run_ledger import SqliteLedger
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.system_clock import SystemClock
from shared.decisions import NOWHERE
from shared.domain.ledger import Batch, Decision, Run
from shared.ports.lake import FileInfo

CONNECTIONS = 32
BATCH = 100
"""Events of one delivery, where Event Grid was told to batch them."""
WEBHOOK = "/runtime/webhooks/eventgrid?functionName=event_storage"
PIPELINE = """
name: burst
landing:
  path: landing/burst
  complete: {quiet: 5s, max_wait: 1h}
  columns: {id: string, x: double, label: string}
features: {key: id, label: label}
"""


def run(quick: bool) -> list[Figure]:
    """How long a delivery waits for its acknowledgement, and signals a second until all are handled.

    Raises RuntimeError when a file was lost or is in two batches, or a batch has not exactly one run.
    """
    files = 800 if quick else 8000
    return [*_burst("one event a delivery", files, 1), *_burst(f"{BATCH} events a delivery", files, BATCH)]


def _burst(what: str, files: int, together: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="landfall-burst-") as name:
        home, pipelines = Path(name) / "home", Path(name) / "pipelines"
        lake = FolderLake(home / "lake", "landfall", "lake")
        infos = [lake.write(f"landing/burst/{n}.csv", f"id,x,label\nk{n},1,a\n".encode()) for n in range(files)]
        events = [_event(info) for info in infos]
        events += random.Random(1).sample(events, files // 4)
        random.Random(2).shuffle(events)
        deliveries = [
            load.request(
                WEBHOOK,
                json.dumps(events[begin : begin + together]).encode(),
                {"aeg-event-type": "Notification"},
            )
            for begin in range(0, len(events), together)
        ]
        with _host(home, pipelines) as url:
            # The host looks through the lake when it starts. It must not find the files by itself: a burst is to tell.
            ledger, queue = SqliteLedger(home / "ledger.db"), SqliteQueue(home / "queue.db", SystemClock())
            _until(lambda: any(ledger.list(Decision, NOWHERE)))
            _pipeline(pipelines / "burst")
            began = time.perf_counter()
            took = load.run(urlsplit(url).port or 0, deliveries, CONNECTIONS, status=202)
            _until(lambda: not queue.counts()["visible"])
            handled = time.perf_counter() - began
            _until(lambda: all(batch.status != "open" for batch in _batches(ledger)) and _ended(ledger))
        _whole(ledger, infos)
        ledger.close()
        queue.close()
    figures = {
        ("delivery acknowledged, median", "ms"): took.p50,
        ("delivery acknowledged, p99", "ms"): took.p99,
        ("events acknowledged", "/s"): took.rate * len(events) / len(deliveries),
        ("events handled", "/s"): len(events) / handled,
    }
    return [
        Figure(f"burst of {len(events):,}, {what}", name, unit, value, value, 1, 1.0)
        for (name, unit), value in figures.items()
    ]


@contextmanager
def _host(home: Path, pipelines: Path) -> Iterator[str]:
    """A host of its own process; its address."""
    pipelines.mkdir(parents=True)
    environment = {
        **os.environ,
        "LANDFALL_HOME": str(home),
        "LANDFALL_PIPELINES": str(pipelines),
        "LANDFALL_PORT": "0",
    }
    command = [sys.executable, "-m", "landfall.cli", "up"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as host:
        try:
            _until(lambda: (info := running(home)) is not None and bool(info.url))
            info = running(home)
            yield info.url if info else ""
        finally:
            host.terminate()


def _pipeline(folder: Path) -> None:
    """A pipeline in one step, as the host is looking."""
    made = folder.with_name(".made")
    made.mkdir()
    (made / "pipeline.yaml").write_text(PIPELINE)
    (made / "features.sql").write_text("select id, x, label from landed")
    (made / "train.py").write_text("raise SystemExit('only the signals are measured')")
    (made / "environment.yml").write_text("name: burst\ndependencies: [python=3.11]\n")
    made.rename(folder)


def _until(true: Callable[[], bool], seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the burst was not over within {seconds:g} s")
        time.sleep(0.25)


def _batches(ledger: SqliteLedger) -> list[Batch]:
    return list(ledger.list(Batch, "burst"))


def _ended(ledger: SqliteLedger) -> bool:
    runs = list(ledger.list(Run, "burst"))
    return bool(runs) and all(run.ended for run in runs)


def _whole(ledger: SqliteLedger, infos: Sequence[FileInfo]) -> None:
    batches, runs = _batches(ledger), list(ledger.list(Run, "burst"))
    files = [file.path for batch in batches for file in batch.files]
    closed = sorted(batch.id for batch in batches if batch.status != "empty")
    if sorted(files) != sorted(info.path for info in infos):
        raise RuntimeError(f"of {len(infos)} files {len(set(files))} are in batches, {len(files)} times")
    if sorted(batch for run in runs for batch in run.batches) != closed:
        raise RuntimeError(f"{len(runs)} runs for the batches {closed}")


def _event(info: FileInfo) -> dict[str, Any]:
    return {
        "topic": "/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/landfall",
        "subject": f"/blobServices/default/containers/lake/blobs/{info.path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": info.modified.isoformat(),
        "id": info.etag,
        "data": {
            "api": "FlushWithClose",
            "eTag": info.etag,
            "contentLength": info.size,
            "url": f"https://landfall.dfs.core.windows.net/lake/{info.path}",
            "sequencer": info.etag,
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }
