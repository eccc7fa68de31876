"""The Spark pool: batches run one after the other in one process that keeps its Spark, with their lake mirrored."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from shared.settings import ROOT, child_environment
from tests.standin.blobs import Blobs
from tests.standin.memory_blobs import MemoryBlobs
from tests.standin.synapse import Batch, Synapse

ADDRESS = re.compile(r"abfss://([^@/]+)@[^/]+/")


class SparkPool:
    """One driver for all batches (:mod:`tests.standin.spark_driver`), started with the first one.

    PySpark brings no client for the storage service. So the containers that a batch names are copied to a folder
    before it and back after it, ``manifest.json`` last; in between Hadoop's own ViewFs shows the folder under the
    container's abfss address. What a batch writes is seen when it has ended, and nothing of one that was killed.
    """

    def __init__(self, synapse: Synapse, blobs: Blobs | MemoryBlobs, folder: Path) -> None:
        self.blobs = blobs
        self._synapse, self._folder = synapse, folder
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._mirrored: dict[tuple[str, str], str] = {}
        self._driver: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._running: Batch | None = None
        self._lock = threading.Lock()

    def start(self, batch: Batch) -> None:
        """Run a batch when those before it have ended; the service is told how it goes."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="spark pool", daemon=True)
                self._thread.start()
        self._waiting.put(batch)

    def kill(self, batch: Batch) -> None:
        """End a batch's driver with all that it started; the next batch starts a new one."""
        with self._lock:
            if self._running is batch and self._driver is not None:
                _kill(self._driver)

    def stop(self) -> None:
        """End everything."""
        self._waiting.put(None)
        with self._lock:
            if self._driver is not None:
                _kill(self._driver)
        if self._thread is not None:
            self._thread.join(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self) -> None:
        while (batch := self._waiting.get()) is not None:
            if batch.state == "killed":
                continue
            try:
                self._run(batch)
            except Exception as error:  # noqa: BLE001 - the service calls a batch dead whose data it cannot bring
                self._synapse.move(batch.id, "dead", error=f"the pool could not run it: {error!r}")

    def _run(self, batch: Batch) -> None:
        self._synapse.move(batch.id, "starting")
        addresses = [batch.body["file"], *batch.body.get("pyFiles", []), *batch.body.get("args", [])]
        containers = {match[1] for address in addresses if (match := ADDRESS.match(address))}
        stamps = {container: self._fetch(container) for container in containers}
        driver = self._opened(batch)
        self._synapse.move(batch.id, "running")
        assert driver.stdin is not None and driver.stdout is not None
        driver.stdin.write(json.dumps(batch.body) + "\n")
        driver.stdin.flush()
        line = driver.stdout.readline()
        with self._lock:
            self._running = None
        if batch.state == "killed" or not line:
            self._forget()
            self._synapse.move(batch.id, "dead", error="the driver was lost")
            return
        ended = json.loads(line)
        for container, before in stamps.items():
            self._send(container, before)
        state = "dead" if ended["failed"] else "success"
        self._synapse.move(batch.id, state, log=ended["log"], error=ended["failed"])

    def _opened(self, batch: Batch) -> subprocess.Popen[str]:
        with self._lock:
            self._running = batch
            if self._driver is None or self._driver.poll() is not None:
                self._driver = subprocess.Popen(
                    [sys.executable, "-m", "tests.standin.spark_driver", str(self._folder)],
                    cwd=ROOT,
                    env=child_environment({"PYTHONUNBUFFERED": "1"}),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            return self._driver

    def _forget(self) -> None:
        """What a driver left that did not end by itself is not to be seen."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._mirrored.clear()
        if self._driver is not None:
            _kill(self._driver)
            self._driver = None

    def _fetch(self, container: str) -> dict[str, tuple[int, int]]:
        """Make the folder what the container is; returns stamps of its files."""
        folder, there = self._folder / container, self.blobs.etags(container)
        folder.mkdir(parents=True, exist_ok=True)
        for path in _stamps(folder).keys() - there.keys():
            (folder / path).unlink()
        for path, etag in there.items():
            place = folder / path
            if self._mirrored.get((container, path)) != etag or not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(self.blobs.read(container, path))
                self._mirrored[container, path] = etag
        return _stamps(folder)

    def _send(self, container: str, before: dict[str, tuple[int, int]]) -> None:
        """Make the container what the folder is now."""
        folder = self._folder / container
        after = _stamps(folder)
        changed = [path for path, stamp in after.items() if before.get(path) != stamp]
        for path in sorted(changed, key=lambda path: (path.endswith("/manifest.json"), path)):
            self.blobs.write(container, path, (folder / path).read_bytes())
        for path in before.keys() - after.keys():
            self.blobs.delete(container, path)
        etags = self.blobs.etags(container)
        self._mirrored |= {(container, path): etags[path] for path in changed}


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What every file of a folder is known by. Checksums that Hadoop puts beside files of a folder are removed."""
    for checksum in folder.rglob(".*.crc"):
        checksum.unlink()
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in files}


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
