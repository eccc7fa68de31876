"""Command jobs: train.py of a pipeline and our own evaluation, on a cluster or in a child process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from shared.ports.jobs import JobStatus


@dataclass(frozen=True, kw_only=True)
class CommandJob:
    """A command in a folder of code.

    ``command`` holds ``${{inputs.x}}`` and ``${{outputs.y}}``; inputs are lake folders or files
    (as paths of the Lake port) or outputs of other jobs (``job:<name>/<output>``) or registered
    models (``model:<name>:<version>``); ``outputs`` maps a name to uri_folder or mlflow_model.
    ``tags`` are shown with the job and carried to what it registers.
    """

    name: str
    experiment: str
    code: Path
    command: str
    timeout: timedelta
    environment: str
    image: str
    compute: str
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class TrainingService(Protocol):
    """Runs command jobs, each at most once per name."""

    def submit(self, job: CommandJob) -> None:
        """Start the job and return at once. A second submit with the same name meets the first job.

        Raises :class:`~shared.errors.Rejected` for a job that can never run (no such compute, code
        folder without the script), :class:`~shared.errors.Transient` when it cannot be taken now.
        """
        ...

    def status(self, name: str) -> JobStatus | None:
        """The job's state, None when no job of that name was ever submitted.

        A process that died without an exit code, with its machine or by a kill, is failed.
        """
        ...

    def cancel(self, name: str) -> None:
        """Ask the job and all its children to stop; nothing happens when it has ended or never was."""
        ...

    def read_output(self, name: str, output: str, file: str) -> bytes:
        """A file of a completed job's output folder. Raises Missing when it did not write it."""
        ...
