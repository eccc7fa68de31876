"""Command jobs: train.py of a pipeline and our own evaluation, on a cluster or in a child process."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from shared.errors import Rejected
from shared.ports.jobs import JobStatus

REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs)\.([\w-]+)\s*\}\}")
"""How a command names an input or output: its kind, and its name."""
MODEL = re.compile(r"model:(.+):([^:]+)")
"""An input that is a registered model: its name, and its version."""


@dataclass(frozen=True, kw_only=True)
class CommandJob:
    """A command in a folder of code.

    ``command`` holds ``${{inputs.x}}`` and ``${{outputs.y}}``; inputs are lake folders or files
    (as paths of the Lake port) or registered models (``model:<name>:<version>``); ``outputs`` maps a
    name to uri_folder or mlflow_model.
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

    def read_output(self, name: str, output: str, file: str) -> bytes:
        """A file of a completed job's output folder. Raises Missing when it did not write it."""
        ...


def command_words(job: CommandJob) -> list[str]:
    """The words of the job's command; a reference in them is written without blanks.

    Raises :class:`~shared.errors.Rejected` for a job that can never run, wherever: its code folder or its
    script is missing, its command cannot be read, or names an input or output that it does not have.
    """
    if not job.code.is_dir():
        raise Rejected(f"job {job.name}: there is no code folder {job.code}")
    # Without blanks inside, a reference stays one word; the shell would join continued lines.
    text = REFERENCE.sub(r"${{\1.\2}}", job.command.replace("\\\n", " "))
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Rejected(f"job {job.name}: its command cannot be read ({error}): {job.command}") from error
    if not words:
        raise Rejected(f"job {job.name} has an empty command")
    script = words[1] if len(words) > 1 else ""
    if script.endswith(".py") and not (job.code / script).is_file():
        raise Rejected(f"job {job.name}: there is no {script} in its code folder {job.code}")
    for kind, name in REFERENCE.findall(text):
        if name not in (job.inputs if kind == "inputs" else job.outputs):
            raise Rejected(f"job {job.name}: its command names {kind}.{name}, which the job does not have")
    return words
