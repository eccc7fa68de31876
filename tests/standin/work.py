"""Real work: command jobs run in child processes, with their code, inputs and outputs in the storage account."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from shared.settings import child_environment
from tests.standin.azureml import AzureML, Job
from tests.standin.blobs import Blobs
from tests.standin.memory_blobs import MemoryBlobs

DATASTORE_URI = re.compile(r"azureml://(?:.*/)?datastores/[^/]+/paths/(.*)")
LAKE_URI = re.compile(r"abfss://([^@]+)@[^/]+/(.*)")
BLOB_URI = re.compile(r"https://[^/]+/([^/]+)/(.*)")
JOB_URI = re.compile(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths)?/?(.*)")
REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs)\.([\w-]+)\s*\}\}")


class Worker:
    """The cluster: one thread and one process for each job. Environments are those of this process."""

    def __init__(self, ml: AzureML, blobs: Blobs | MemoryBlobs, folder: Path) -> None:
        self._ml, self._blobs, self._folder = ml, blobs, folder
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._cancelled: set[str] = set()

    def start(self, job: Job) -> None:
        """Run a job; the service is told how it goes."""
        threading.Thread(target=self._run, args=(job,), name=f"job {job.name}", daemon=True).start()

    def cancel(self, name: str) -> None:
        """Kill a job with all its children."""
        self._cancelled.add(name)
        if name in self._processes:
            _kill(self._processes[name])

    def stop(self) -> None:
        """Kill all jobs."""
        for name in list(self._processes):
            self.cancel(name)

    def fetch(self, uri: str, target: Path) -> None:
        """Bring what an address means (datastore, lake, job output, registered model) to ``target``."""
        if found := self._ml.asset(uri, "models"):
            uri = self._ml.assets["models", *found]["modelUri"]
        if match := JOB_URI.fullmatch(uri):
            base = self._ml.jobs[match[1]].properties["outputs"][match[2]]["uri"]
            uri = base.rstrip("/") + "/" + match[3]
        if match := DATASTORE_URI.fullmatch(uri):
            container, path = self._ml.container, match[1]
        elif match := LAKE_URI.fullmatch(uri) or BLOB_URI.fullmatch(uri):
            container, path = match[1], match[2]
        else:
            raise RuntimeError(f"nothing is at {uri}")
        if not self._blobs.download(container, path, target):
            raise RuntimeError(f"there is nothing at {uri}")

    def code(self, identifier: str, target: Path) -> None:
        """Bring an uploaded code folder to ``target``."""
        found = self._ml.asset(identifier, "codes")
        assert found, identifier
        self.fetch(self._ml.assets["codes", *found]["codeUri"], target)

    def _run(self, job: Job) -> None:
        folder = self._folder / job.name
        try:
            self._stage(job, folder)
        except Exception as error:  # noqa: BLE001 - the service calls a job failed whose data it cannot bring
            self._ml.move(job.name, "Failed", error=f"the data of the job could not be mounted: {error}")
            return
        if job.name in self._cancelled:
            self._ml.move(job.name, "Canceled")
            return
        process = subprocess.Popen(
            ["bash", "-c", self._command(job, folder)],
            cwd=folder / "code",
            env=child_environment(
                {
                    **job.properties.get("environmentVariables", {}),
                    "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
                    "PYTHONUNBUFFERED": "1",
                    "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
                    "AZUREML_RUN_ID": job.name,
                }
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._processes[job.name] = process
        self._ml.move(job.name, "Running")
        limit = _seconds(job.properties.get("limits", {}).get("timeout"))
        timer = threading.Timer(limit, lambda: (setattr(process, "late", True), _kill(process)))
        timer.daemon = True
        timer.start()
        assert process.stdout
        for line in process.stdout:
            with self._ml.lock:
                job.log += line
        code = process.wait()
        timer.cancel()
        self._end(job, folder, code, late=hasattr(process, "late"), limit=limit)
        shutil.rmtree(folder, ignore_errors=True)

    def _end(self, job: Job, folder: Path, code: int, *, late: bool, limit: float) -> None:
        if job.name in self._cancelled:
            self._ml.move(job.name, "Canceled")
        elif late:
            self._ml.move(job.name, "Failed", error=f"Job exceeded its limits: the timeout of {limit:g} s")
        elif code:
            error = f"Execution failed. User process exited with status code {code}. Please check std_log.txt"
            self._ml.move(job.name, "Failed", error=error)
        else:
            for name, output in job.properties["outputs"].items():
                match = DATASTORE_URI.fullmatch(output["uri"])
                assert match, output
                self._blobs.upload(folder / "outputs" / name, self._ml.container, match[1])
            self._ml.move(job.name, "Completed")

    def _stage(self, job: Job, folder: Path) -> None:
        (folder / "code").mkdir(parents=True, exist_ok=True)
        if identifier := job.properties.get("codeId"):
            self.code(identifier, folder / "code")
        for name, given in job.properties.get("inputs", {}).items():
            if given.get("jobInputType") != "literal":
                self.fetch(given["uri"], folder / "inputs" / name)
        for name in job.properties["outputs"]:
            (folder / "outputs" / name).mkdir(parents=True, exist_ok=True)

    def _command(self, job: Job, folder: Path) -> str:
        def place(match: re.Match[str]) -> str:
            given: dict[str, Any] = job.properties.get(match[1], {})[match[2]]
            return given["value"] if "value" in given else str(folder / match[1] / match[2])

        return REFERENCE.sub(place, job.properties["command"])


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process with all that it started, which is what taking a container away does."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.kill()


def _seconds(duration: str | None) -> float:
    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", duration or "PT1H")
    assert match, duration
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds
