"""Command jobs on an Azure ML compute cluster."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.failures import translated
from shared.adapters.azure.job_files import JobFiles, output_uri
from shared.adapters.azure.workspace import ARM, Workspace
from shared.errors import Conflict, LandfallError, Missing, Rejected, Transient
from shared.ports.jobs import JobStatus
from shared.ports.lake import Lake
from shared.ports.model_registry import ModelRegistry
from shared.ports.training_service import MODEL, CommandJob, command_words
from shared.settings import ROOT

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

STATES = {
    **dict.fromkeys(("NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Paused"), "queued"),
    **dict.fromkeys(("Running", "Finalizing", "CancelRequested", "NotResponding", "Unknown"), "running"),
    "Completed": "completed",
    "Failed": "failed",
    "Canceled": "cancelled",
}
"""Azure ML's states of a job as ours; one that is new to us counts as running."""
ENDED = ("completed", "failed", "cancelled")
TAIL_LINES, TAIL_BYTES = 20, 16_384

# The SDK puts a job's name into lower case, and would then not find it.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,254}")


class AzureTrainingService:
    """The TrainingService port. A job's name is its identity: what has been submitted is never sent again.

    A job looks up the lake with the identity of its cluster. The app's own code is sent without the
    rest of the app: only the package ``shared``.
    """

    def __init__(self, workspace: Workspace, lake: Lake, registry: ModelRegistry) -> None:
        self._workspace = workspace
        self._lake = lake
        self._registry = registry
        self._files = JobFiles(workspace)

    def submit(self, job: CommandJob) -> None:
        """See :meth:`TrainingService.submit`.

        Azure ML is asked for the job before it is sent, and again when the answer to it was lost; so
        an error means that there is no such job, as far as the service knows.
        """
        if not _NAME.fullmatch(job.name):
            raise Rejected(f"{job.name!r} cannot name a job: use up to 255 lower-case letters, digits, - and _")
        if self._find(job.name) is not None:
            return
        command_words(job)
        with _staged(job.code) as code:
            entity = self._entity(job, code)
            try:
                with translated(f"submit job {job.name}"):
                    self._workspace.client.jobs.create_or_update(entity)
            except (Transient, Conflict) as error:
                if self._find(job.name) is None:
                    raise Transient(str(error)) from error

    def status(self, name: str) -> JobStatus | None:
        """See :meth:`TrainingService.status`; the reason and the log's last lines are those of run history."""
        job = self._find(name)
        if job is None:
            return None
        state = _state(job)
        if state == "queued":
            return JobStatus(name=name, state=state)
        reason, tail = self._history(name)
        if state != "failed":
            return JobStatus(name=name, state=state, log_tail=tail)
        last = f": {tail[-1]}" if tail else ""
        return JobStatus(name=name, state=state, reason=f"{reason or 'Azure ML gave no reason'}{last}", log_tail=tail)

    def read_output(self, name: str, output: str, file: str) -> bytes:
        """See :meth:`TrainingService.read_output`."""
        job = self._find(name)
        if job is None or _state(job) != "completed":
            state = "was never submitted" if job is None else f"is {_state(job)}"
            raise Missing(f"job {name} has no output {output}/{file}: it {state}")
        try:
            return self._files.read(_output_of(job, output), file)
        except Missing as error:
            raise Missing(f"job {name} did not write {output}/{file}") from error

    def _find(self, name: str) -> Job | None:
        if not _NAME.fullmatch(name):
            return None
        try:
            with translated(f"look up job {name}"):
                return self._workspace.client.jobs.get(name)
        except Missing:
            return None

    def _entity(self, job: CommandJob, code: Path) -> Any:
        from azure.ai.ml import Output, command
        from azure.ai.ml.entities import CommandJobLimits, Environment, ManagedIdentityConfiguration

        conda = job.code / job.environment
        if not conda.is_file():
            raise Rejected(f"job {job.name}: there is no environment file {conda}")
        inputs = {name: self._input(job, name) for name in job.inputs}
        with translated(f"describe job {job.name}"):
            return command(
                name=job.name,
                display_name=job.name,
                experiment_name=job.experiment,
                tags=job.tags,
                code=str(code),
                command=job.command,
                environment=Environment(image=job.image, conda_file=str(conda)),
                compute=job.compute,
                inputs=inputs,
                outputs={
                    name: Output(type=kind, path=output_uri(job.name, name)) for name, kind in job.outputs.items()
                },
                limits=CommandJobLimits(timeout=max(1, int(job.timeout.total_seconds()))),
                # The lake is opened by the cluster's identity: a job that a function submits has no user.
                identity=ManagedIdentityConfiguration(),
            )

    def _input(self, job: CommandJob, name: str) -> Any:
        from azure.ai.ml import Input

        source = job.inputs[name]
        if match := MODEL.fullmatch(source):
            if self._registry.get(match[1], match[2]) is None:
                raise Missing(f"job {job.name}: input {name} is {source}, and there is no such model version")
            return Input(type="mlflow_model", path=f"azureml:{match[1]}:{match[2]}")
        kind = "uri_folder" if self._lake.stat(source) is None else "uri_file"
        return Input(type=kind, path=self._lake.uri(source))

    def _history(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Why the run failed, and the last lines of its log. What cannot be had is empty: the state is known."""
        import httpx

        try:
            address = f"{self._workspace.api}/history/v1.0{self._workspace.path}/runs/{name}/details"
            headers = {"Authorization": f"Bearer {self._workspace.token(ARM)}"}
            details = self._workspace.http.get(address, headers=headers).raise_for_status().json()
            error = details.get("error") or {}
            reason = str((error.get("error") or error).get("message") or "")
            logs = details.get("logFiles") or {}
        except (httpx.HTTPError, LandfallError) as problem:
            return f"run history could not be read ({problem})", ()
        log = next((url for path, url in logs.items() if path.endswith("std_log.txt")), None)
        try:
            return reason, self._tail(log) if log else ()
        except httpx.HTTPStatusError as problem:
            lack = f"the service answered {problem.response.status_code}"
        except httpx.HTTPError as problem:
            # Its text may have the address, and that is signed.
            lack = f"no answer came: {type(problem).__name__}"
        return f"{reason or 'Azure ML gave no reason'} (its log could not be read, {lack})", ()

    def _tail(self, address: str) -> tuple[str, ...]:
        """The last lines behind a signed address; only the end of a long log is fetched."""
        http = self._workspace.http
        size = int(http.head(address).raise_for_status().headers.get("content-length", "0"))
        if not size:
            return ()
        start = max(0, size - TAIL_BYTES)
        answer = http.get(address, headers={"x-ms-range": f"bytes={start}-{size - 1}"}).raise_for_status()
        lines = answer.content.decode(errors="replace").splitlines()
        return tuple(lines[1 if start else 0 :][-TAIL_LINES:])


def _state(job: Job) -> str:
    # An enum for the states that the SDK knows, text for the others.
    return STATES.get(getattr(job.status, "value", job.status) or "", "running")


def _output_of(job: Job, output: str) -> str:
    """The address of a job's output. Raises Missing when the job has none of that name."""
    declared = (getattr(job, "outputs", None) or {}).get(output)
    if declared is None:
        raise Missing(f"job {job.name} has no output {output}")
    return str(declared.path or output_uri(str(job.name), output))


@contextmanager
def _staged(code: Path) -> Iterator[Path]:
    """A copy of the folder that is sent, without what Python leaves in it; of the app's own, ``shared`` alone."""
    with tempfile.TemporaryDirectory(prefix="landfall-code-") as folder:
        staged = Path(folder) / "code"
        source, target = (ROOT / "shared", staged / "shared") if code.resolve() == ROOT else (code, staged)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        yield staged
