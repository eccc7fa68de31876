"""Batch scoring as child processes, with the same model and feature code as single requests."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

from shared.adapters.local import tracking
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.model_registry import MlflowRegistry
from shared.adapters.local.processes import Processes
from shared.domain.compiled import GRAPH, place
from shared.domain.records import to_record
from shared.errors import Rejected
from shared.features import manifests
from shared.jobs.score_batch import ScoringSpec
from shared.ports.batch_service import BatchScoringJob
from shared.ports.jobs import JobStatus
from shared.settings import ROOT

TIMEOUT = timedelta(hours=12)
SPEC = "scoring.json"


class ProcessBatchService:
    """The BatchService port on this machine; jobs live below ``home``/jobs and outlive this process."""

    def __init__(self, home: Path, lake: FolderLake, registry: MlflowRegistry) -> None:
        self._processes = Processes(home)
        self._lake = lake
        self._registry = registry

    def submit(self, job: BatchScoringJob) -> None:
        """See :meth:`BatchService.submit`. Raises Rejected for paths that cannot be in the lake."""
        if job.query or job.table:
            raise Rejected(
                f"job {job.name}: a laptop has no SQL pool; score a file of the lake without query and table"
            )
        if job.input.rstrip("/") == job.output:
            raise Rejected(f"job {job.name} would write its output over its input {job.input}")
        if job.input.endswith("/"):
            files = [file.path for file in self._lake.list(job.input) if Path(file.path).name[0].isalnum()]
        else:
            files = [job.input]
        graph = place(job.model, job.version, GRAPH)
        spec = ScoringSpec(
            files=tuple(self._lake.uri(path) for path in files if path != job.output),
            output=self._lake.uri(job.output),
            model=str(self._registry.model_folder(job.model, job.version)),
            version=job.version,
            key=job.key,
            label=job.label,
            positive=job.positive,
            manifest=self._lake.uri(manifests.place(job.features)) if job.features else "",
            compiled=self._lake.uri(graph) if self._lake.stat(graph) else "",
        )
        folder = self._processes.folder(job.name)
        self._processes.start(
            job.name,
            [sys.executable, "-m", "shared.jobs.score_batch", str(folder / SPEC)],
            cwd=ROOT,
            env=dict(tracking.QUIET),
            timeout=TIMEOUT,
            fill=lambda new: _write(new / SPEC, spec),
        )

    def status(self, name: str) -> JobStatus | None:
        """See :meth:`BatchService.status`."""
        return self._processes.status(name)


def _write(path: Path, spec: ScoringSpec) -> None:
    path.write_text(json.dumps(to_record(spec)))
