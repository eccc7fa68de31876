"""Batch scoring: a file or folder of the lake in, predictions out, outside the app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.ports.jobs import JobStatus


@dataclass(frozen=True, kw_only=True)
class BatchScoringJob:
    """Score the lake file ``input`` with a model version into the lake file ``output`` (parquet)."""

    name: str
    pipeline: str
    model: str
    version: str
    input: str
    output: str


class BatchService(Protocol):
    """Runs batch scoring jobs, each at most once per name."""

    def submit(self, job: BatchScoringJob) -> None:
        """Start the job and return at once. A second submit with the same name meets the first job."""
        ...

    def status(self, name: str) -> JobStatus | None:
        """The job's state, None when no job of that name was ever submitted."""
        ...
