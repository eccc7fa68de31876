"""Batch scoring as runs of a Synapse pipeline, which calls a batch endpoint of Azure ML."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.adapters.azure.attempts import GRACE, Attempts
from shared.adapters.azure.batch_deployments import BatchDeployments
from shared.adapters.azure.batch_pipeline import PIPELINE
from shared.adapters.azure.pipeline_runs import NAME, PipelineRuns
from shared.adapters.azure.workspace import Workspace
from shared.domain.records import from_record, to_record
from shared.errors import AlreadyExists, Missing, Rejected
from shared.ports.batch_service import BatchScoringJob
from shared.ports.jobs import JobStatus
from shared.ports.lake import Lake, check_path
from shared.ports.model_registry import ModelRegistry

if TYPE_CHECKING:
    from shared.jobs.score_lake import Progress

STATES = {
    "Queued": "queued",
    "Succeeded": "completed",
    "Failed": "failed",
    **dict.fromkeys(("Cancelled", "Canceled"), "cancelled"),
}
"""Synapse's states of a run as ours; all others are running."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_TABLE = re.compile(r"(?:(\w{1,128})\.)?(\w{1,128})")


class SynapseBatchService:
    """The BatchService port on the pipeline ``landfall-batch-scoring`` of the Synapse workspace ``synapse``.

    ``batch/jobs/<name>/`` of the lake has ``job.json``, what the job is; ``attempt-<n>.json``, who started it; and
    ``progress.json``, how it goes. Synapse starts any number of runs of one name, so a run is started by whoever
    could enter its attempt. The scoring job writes the output itself, in one piece, before the run is completed.
    """

    def __init__(
        self,
        synapse: str,
        workspace: Workspace,
        lake: Lake,
        registry: ModelRegistry,
        *,
        seconds: float = 10.0,
        grace: timedelta = GRACE,
    ) -> None:
        self._synapse = synapse
        self._runs = PipelineRuns(synapse, workspace.credential, seconds=seconds)
        self._deployments = BatchDeployments(workspace)
        self._lake = lake
        self._registry = registry
        self._attempts = Attempts(lake, grace)

    def submit(self, job: BatchScoringJob) -> None:
        """See :meth:`BatchService.submit`. The first job of a model version waits for its deployment.

        Raises Transient while that is not ready, and while it is not known whether an earlier call started
        the job; Rejected for names, paths and tables that cannot be, and when there is no such pipeline.
        """
        schema, table = _checked(job)
        folder = _folder(job.name)
        last = self._attempts.last(folder)
        if last is not None and last.made:
            return
        if self._registry.get(job.model, job.version) is None:
            raise Missing(f"model {job.model} has no version {job.version} to score with")
        target = self._deployments.ready(job.pipeline, job.model, job.version, job.compute)
        parameters = {
            NAME: job.name,
            "address": target.address,
            "deployment": target.deployment,
            "job": self._lake.uri(self._describe(job)),
            "data": self._lake.uri(job.input.rpartition("/")[0]),
            "input": job.input.rstrip("/"),
            "output": job.output,
            "query": job.query,
            "schema": schema,
            "table": table,
        }

        def find(since: datetime) -> str | None:
            found = self._runs.find(PIPELINE, job.name, since)
            return None if found is None else found.id

        self._attempts.once(folder, f"batch scoring {job.name}", find, lambda: self._runs.start(PIPELINE, parameters))

    def status(self, name: str) -> JobStatus | None:
        """See :meth:`BatchService.status`. The log's last line is the progress that the job told last.

        Synapse forgets its runs after some weeks; then it is what the job itself has told.
        """
        if not _NAME.fullmatch(name):
            return None
        folder = _folder(name)
        last = self._attempts.last(folder)
        if last is None or last.refused:
            return None
        run = self._runs.get(last.made) if last.made else self._runs.find(PIPELINE, name, last.at)
        if run is None and not last.made:
            return JobStatus(name=name, state="queued")
        told = self._told(folder)
        if run is not None:
            state = STATES.get(run.status, "running")
            reason = (told.reason or run.message or "Synapse gave no reason") if state == "failed" else ""
        elif told.state == "running":
            state, reason = "failed", f"Synapse does not know pipeline run {last.made} any more"
        else:
            state, reason = told.state, told.reason
        line = {"rows": told.rows, "problems": told.problems, "seconds": told.seconds}
        return JobStatus(name=name, state=state, reason=reason, log_tail=(json.dumps(line),) if told.seconds else ())

    def _describe(self, job: BatchScoringJob) -> str:
        """Put what the job is into the lake, for who scores, and return its path."""
        from shared.jobs.score_lake import LakeScoring

        path = f"{_folder(job.name)}/job.json"
        scoring = LakeScoring(
            job=job, account=self._lake.account, container=self._lake.container, folder=_folder(job.name)
        )
        with suppress(AlreadyExists):
            self._lake.write(path, json.dumps(to_record(scoring)).encode(), overwrite=False)
        return path

    def _told(self, folder: str) -> Progress:
        from shared.jobs.score_lake import Progress

        try:
            return from_record(Progress, json.loads(self._lake.read(f"{folder}/progress.json")))
        except Missing:
            return Progress()


def _folder(name: str) -> str:
    return f"batch/jobs/{name}"


def _checked(job: BatchScoringJob) -> tuple[str, str]:
    """Schema and name of the job's table. Raises Rejected for what cannot be."""
    if not _NAME.fullmatch(job.name):
        raise Rejected(f"{job.name!r} cannot name a batch job: use up to 200 letters, digits, ., - and _")
    for path in (job.input.removesuffix("/"), job.output):
        check_path(path)
        if "/" not in path:
            raise Rejected(f"job {job.name}: {path} is at the top of the lake; score from and into folders")
    if job.input.rstrip("/") == job.output:
        raise Rejected(f"job {job.name} would write its output over its input {job.input}")
    if job.query and not job.input.endswith("/"):
        raise Rejected(f"job {job.name}: the rows of a query need a folder; let input {job.input} end with a slash")
    table = _TABLE.fullmatch(job.table)
    if job.table and not table:
        raise Rejected(f"job {job.name}: {job.table!r} is no table; name one like dbo.scores")
    return (table[1] or "dbo", table[2]) if table else ("", "")
