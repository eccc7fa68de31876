"""Ten thousand storage events at once, a fifth of them twice and in no order, through the webhook of the host."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import Figure
from landfall.host import running
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.run_ledger import SqliteLedger
from shared.domain.ledger import Batch, Run
from shared.ports.lake import FileInfo

CONNECTIONS = 32
PIPELINE = """
name: burst
landing:
  path: landing/burst
  complete: {quiet: 5s, max_wait: 1h}
  columns: {id: string, x: double, label: string}
features: {key: id, label: label}
"""


def run(quick: bool) -> list[Figure]:
    """Milliseconds until an event is acknowledged, and signals a second until all are handled; nothing may be lost."""
    files = 800 if quick else 8000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        pipeline = folder / "pipelines" / "burst"
        pipeline.mkdir(parents=True)
        (pipeline / "pipeline.yaml").write_text(PIPELINE)
        (pipeline / "features.sql").write_text("select id, x, label from landed")
        (pipeline / "train.py").write_text("raise SystemExit('only the signals are measured')")
        (pipeline / "environment.yml").write_text("name: burst\ndependencies: [python=3.11]\n")
        lake = FolderLake(home / "lake", "landfall", "lake")
        infos = [lake.write(f"landing/burst/{n}.csv", f"id,x,label\nk{n},1,a\n".encode()) for n in range(files)]
        events = [_event(info) for info in infos]
        shuffled = events + random.Random(1).sample(events, files // 4)
        random.Random(2).shuffle(shuffled)
        environment = {
            **os.environ,
            "LANDFALL_HOME": str(home),
            "LANDFALL_PIPELINES": str(folder / "pipelines"),
            "LANDFALL_PORT": "0",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "landfall.cli", "up"], env=environment, stdout=subprocess.DEVNULL
        ) as host:
            try:
                while (info := running(home)) is None or not info.url:
                    time.sleep(0.05)
                began = time.perf_counter()
                waits = asyncio.run(_deliver(info.url, shuffled))
                sent = time.perf_counter() - began
                handled = _handled(SqliteLedger(home / "ledger.db"), infos) - began
            finally:
                host.terminate()
        ledger = SqliteLedger(home / "ledger.db")
        batches, runs = list(ledger.list(Batch, "burst")), list(ledger.list(Run, "burst"))
        landed = {file.path for batch in batches for file in batch.files}
        assert landed == {info.path for info in infos}, "a file was lost"
        assert sum(len(batch.files) for batch in batches) == files, "a file is in two batches"
        assert len(runs) == len([batch for batch in batches if batch.status != "empty"]), "not one run for each batch"
    many = len(shuffled)
    figures = {
        ("acknowledged, median", "ms"): statistics.median(waits) * 1000,
        ("acknowledged, p99", "ms"): sorted(waits)[int(len(waits) * 0.99)] * 1000,
        ("events acknowledged", "/s"): many / sent,
        ("signals handled", "/s"): many / handled,
    }
    return [Figure("burst", what, unit, value, value, 1, 1.0) for (what, unit), value in figures.items()]


async def _deliver(url: str, events: list[dict[str, Any]]) -> list[float]:
    """The seconds that each event waited for its acknowledgement."""
    waits: list[float] = []
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    todo = iter(events)

    async def send(client: httpx.AsyncClient) -> None:
        for event in todo:
            began = time.perf_counter()
            answer = await client.post(
                "/runtime/webhooks/eventgrid",
                params={"functionName": "event_storage"},
                headers={"aeg-event-type": "Notification"},
                json=[event],
            )
            waits.append(time.perf_counter() - began)
            assert answer.status_code == 202, answer.text

    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60, trust_env=False) as client:
        await asyncio.gather(*(send(client) for _ in range(CONNECTIONS)))
    return waits


def _handled(ledger: SqliteLedger, infos: list[FileInfo]) -> float:
    """When the last of the files was in a batch and all batches were closed with a run."""
    while True:
        now = time.perf_counter()
        batches = list(ledger.list(Batch, "burst"))
        if sum(len(batch.files) for batch in batches) >= len(infos) and list(ledger.list(Run, "burst")):
            return now
        time.sleep(0.5)


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
