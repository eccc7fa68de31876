"""Command jobs as child processes: the same command that Azure ML would run, on this machine."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Protocol

from shared.adapters.local import tracking
from shared.adapters.local.processes import Processes
from shared.adapters.local.spool import RunEvent, azureml_run_event
from shared.errors import Missing, Rejected
from shared.ports.jobs import JobStatus
from shared.ports.lake import Lake
from shared.ports.training_service import MODEL, REFERENCE, CommandJob, command_words
from shared.settings import ROOT

TOPIC = "/subscriptions/local/resourceGroups/local/providers/Microsoft.MachineLearningServices/workspaces/local"
"""The workspace that events of this machine come from."""


class Models(Protocol):
    """Where the files of registered models are."""

    def model_folder(self, name: str, version: str) -> Path:
        """The folder of a version's MLflow model. Raises Missing when there is none."""
        ...


class ProcessTrainingService:
    """The TrainingService port: one supervised process a job, with MLflow tracking below ``home``.

    Every compute is this machine, so none is unknown. A job runs on a copy of its code folder, so that
    who edits train.py meanwhile changes the next job and not this one. Its end raises the events of
    Azure ML: RunCompleted and RunStatusChanged, or RunStatusChanged alone when it failed;
    a job that was killed with its supervisor raises none.
    """

    def __init__(self, home: Path, lake: Lake, registry: Models) -> None:
        self._home = home.absolute()
        self._lake = lake
        self._registry = registry
        self._processes = Processes(home)

    def submit(self, job: CommandJob) -> None:
        folder = self._processes.folder(job.name)
        if folder.exists():
            # Only to go on with a start that was interrupted.
            self._processes.status(job.name)
            return
        argv = self._argv(job, folder)

        def fill(staged: Path) -> None:
            if not _is_app(job.code):
                shutil.copytree(job.code, staged / "code", ignore=shutil.ignore_patterns("__pycache__"))
            for output in job.outputs:
                (staged / "outputs" / output).mkdir(parents=True)

        self._processes.start(
            job.name,
            # -P: a module of the job's folder must not stand in for one of ours.
            [sys.executable, "-P", "-m", tracking.__name__, str(self._home), job.experiment, *argv],
            cwd=folder if _is_app(job.code) else folder / "code",
            env={
                **tracking.QUIET,
                "PYTHONPATH": str(ROOT),
                "MLFLOW_TRACKING_URI": tracking.uri(self._home),
                "MLFLOW_EXPERIMENT_NAME": job.experiment,
                # MLflow puts these on every run that the process starts.
                "MLFLOW_RUN_CONTEXT": json.dumps({**job.tags, "mlflow.runName": job.name, "landfall.job": job.name}),
            },
            timeout=job.timeout,
            events=_events(job),
            fill=fill,
        )

    def status(self, name: str) -> JobStatus | None:
        return self._processes.status(name)

    def read_output(self, name: str, output: str, file: str) -> bytes:
        status = self._processes.status(name)
        if status is None or status.state != "completed":
            state = "was never submitted" if status is None else f"is {status.state}"
            raise Missing(f"job {name} has no output {output}/{file}: it {state}")
        folder = self.output_folder(name, output)
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise Rejected(f"{file!r} is not below output {output} of job {name}")
        if not path.is_file():
            raise Missing(f"job {name} did not write {output}/{file}")
        return path.read_bytes()

    def output_folder(self, name: str, output: str) -> Path:
        """Where output ``output`` of job ``name`` is, whether it exists or not."""
        return self._processes.folder(name) / "outputs" / output

    def _argv(self, job: CommandJob, folder: Path) -> list[str]:
        """The command with its references resolved; ``python`` is the interpreter that runs this."""
        words = command_words(job)
        if words[0] in ("python", "python3"):
            words[0] = sys.executable

        def value(match: re.Match[str]) -> str:
            kind, name = match[1], match[2]
            return self._input(job, name) if kind == "inputs" else str(folder / "outputs" / name)

        return [REFERENCE.sub(value, word) for word in words]

    def _input(self, job: CommandJob, name: str) -> str:
        source = job.inputs[name]
        if match := MODEL.fullmatch(source):
            return str(self._registry.model_folder(match[1], match[2]))
        return self._lake.uri(source)


def _is_app(code: Path) -> bool:
    """True for the app's own code: it is found by PYTHONPATH, and nobody edits it while it runs."""
    return code.resolve() in (ROOT, ROOT / "shared")


def _events(job: CommandJob) -> list[dict[str, object]]:
    """What to say at the end, each with the states in which it is said."""
    said: list[tuple[RunEvent, str]] = [
        ("RunCompleted", "completed"),
        ("RunStatusChanged", "completed"),
        ("RunStatusChanged", "failed"),
    ]
    return [
        {"when": [state], "topic": TOPIC}
        | azureml_run_event(kind, experiment=job.experiment, run=job.name, state=state, tags=job.tags)
        for kind, state in said
    ]
