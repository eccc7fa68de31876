"""Runs of the pipelines of a Synapse workspace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.failures import translated
from shared.adapters.azure.workspace import careful_retries
from shared.errors import Conflict, Missing, Rejected, Transient

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.synapse.artifacts import ArtifactsClient
    from azure.synapse.artifacts.models import PipelineRun as SynapseRun

SKEW = timedelta(minutes=15)
"""How far the clocks of this machine and of Synapse may be apart."""
LOOKING = 60.0
"""Seconds in which the list of a pipeline's runs has to be read to its end."""
NAME = "name"
"""The parameter that says which of our jobs a run is for."""


@dataclass(frozen=True)
class PipelineRun:
    """A run by Synapse's words: ``status`` is Queued, InProgress, Succeeded, Failed, Cancelling or Cancelled."""

    id: str
    status: str
    message: str


class PipelineRuns:
    """Starts runs of a pipeline of ``workspace`` and looks at them. A start is sent once, whatever comes of it."""

    def __init__(self, workspace: str, credential: TokenCredential, *, seconds: float = 10.0) -> None:
        self._workspace, self._credential, self._seconds = workspace, credential, seconds

    def start(self, pipeline: str, parameters: dict[str, str]) -> str:
        """Start a run and return its id.

        Raises Rejected when there is no such pipeline or it refuses the parameters, Transient for
        everything that can pass, also when it is not known whether the run was started.
        """
        given: dict[str, Any] = dict(parameters)
        try:
            with translated(f"start pipeline {pipeline} of Synapse workspace {self._workspace}"):
                return str(self._client.pipeline.create_pipeline_run(pipeline, parameters=given).run_id)
        except Missing as error:
            raise Rejected(
                f"Synapse workspace {self._workspace} has no pipeline {pipeline}: run landfall setup, which makes it"
            ) from error.__cause__
        except Conflict as error:
            raise Transient(str(error)) from error.__cause__

    def get(self, run: str) -> PipelineRun | None:
        """The run, None when Synapse does not know it (any more: it forgets them after 45 days)."""
        try:
            with translated(f"look at pipeline run {run} of Synapse workspace {self._workspace}"):
                return _ours(self._client.pipeline_run.get_pipeline_run(run))
        except Missing:
            return None

    def find(self, pipeline: str, name: str, since: datetime) -> PipelineRun | None:
        """The first run that was started after ``since`` with our ``name``; None when there is none (yet).

        Raises Transient when the list of runs does not end in :data:`LOOKING` seconds.
        """
        found = [
            run
            for run in self._started(pipeline, since)
            if run.pipeline_name == pipeline and (run.parameters or {}).get(NAME) == name
        ]
        found.sort(key=lambda run: run.run_start or datetime.max.replace(tzinfo=UTC))
        return _ours(found[0]) if found else None

    def _started(self, pipeline: str, since: datetime) -> Iterator[SynapseRun]:
        from azure.synapse.artifacts.models import RunFilterParameters, RunQueryFilter

        wanted = RunFilterParameters(
            last_updated_after=since - SKEW,
            last_updated_before=datetime.now(UTC) + SKEW,
            filters=[RunQueryFilter(operand="PipelineName", operator="Equals", values=[pipeline])],
        )
        until, seen = time.monotonic() + LOOKING, 0
        while True:
            with translated(f"list the runs of pipeline {pipeline} of Synapse workspace {self._workspace}"):
                page = self._client.pipeline_run.query_pipeline_runs_by_workspace(wanted)
            yield from page.value
            seen += len(page.value)
            if not page.continuation_token:
                return
            if time.monotonic() > until:
                raise Transient(f"the list of runs of pipeline {pipeline} did not end in {LOOKING:g} s ({seen} runs)")
            wanted.continuation_token = page.continuation_token

    @cached_property
    def _client(self) -> ArtifactsClient:
        from azure.synapse.artifacts import ArtifactsClient

        return ArtifactsClient(
            self._credential,
            f"https://{self._workspace}.dev.azuresynapse.net",
            retry_policy=careful_retries(self._seconds),
            connection_timeout=self._seconds,
            read_timeout=self._seconds,
        )


def _ours(run: SynapseRun) -> PipelineRun:
    return PipelineRun(str(run.run_id), str(run.status), str(run.message or ""))
