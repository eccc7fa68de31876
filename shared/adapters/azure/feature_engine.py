"""Feature preparation as batches of a Synapse Spark pool; single rows by DuckDB in this process."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.adapters.azure import spark_code
from shared.adapters.azure.attempts import GRACE, Attempt, Attempts
from shared.adapters.azure.failures import translated
from shared.adapters.azure.workspace import careful_retries
from shared.domain.records import to_record
from shared.errors import AlreadyExists, Conflict, Missing, Rejected, Transient
from shared.features import manifests
from shared.features.raw_rows import RawRows
from shared.ports.feature_engine import FeaturesJob
from shared.ports.jobs import JobStatus
from shared.ports.lake import Lake

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.synapse.spark import SparkClient
    from azure.synapse.spark.models import SparkBatchJob

STATES = {
    **dict.fromkeys(("not_started", "starting"), "queued"),
    **dict.fromkeys(("idle", "busy", "running", "recovering", "shutting_down"), "running"),
    "success": "completed",
    **dict.fromkeys(("dead", "error"), "failed"),
    "killed": "cancelled",
}
"""Livy's states of a batch as ours; one that is new to us counts as running."""
LOOKING = 60.0
"""Seconds in which the list of a pool has to be read to its end."""
PAGE = 20
LAKE_TAG = "landfall.lake"
TAIL_LINES = 20
SIZES: dict[str, Any] = {
    "driver_memory": "28g", "driver_cores": 4, "executor_memory": "28g", "executor_cores": 4, "executor_count": 2,
}  # fmt: skip
"""Three nodes of the smallest size, which is also the smallest pool that can grow."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_PASSING_LACK = re.compile("AVAILABLE_[A-Z_]*CAPACITY_EXCEEDED")


class SynapseFeatureEngine:
    """The FeatureEngine port on the Spark pool ``pool`` of the Synapse workspace ``workspace``.

    Synapse takes any number of batches of one name. So who creates one enters that in the lake first, in a file
    that only one can make, and what became of it behind it. When no answer came, and only then, the pool's list is
    searched for the name, and a second batch is sent only after :data:`GRACE` without it. That two ran all the same
    would change nothing: the job leaves alone what is there.

    ``spark/jobs/<name>/`` of the lake has ``spec.json``, ``attempt-<n>.json`` and, when the script failed,
    ``failure.json``; ``spark/code/`` the code. Spark opens the lake as who created the batch: this app's identity.
    """

    def __init__(
        self,
        workspace: str,
        pool: str,
        lake: Lake,
        credential: TokenCredential,
        *,
        seconds: float = 20.0,
        grace: timedelta = GRACE,
    ) -> None:
        self._workspace, self._pool = workspace, pool
        self._lake = lake
        self._credential = credential
        self._seconds = seconds
        self._grace = grace
        self._attempts = Attempts(lake, grace)
        self._rows = RawRows()

    def submit(self, job: FeaturesJob) -> None:
        """See :meth:`FeatureEngine.submit`.

        Raises Transient also while it is not known whether an earlier call had an effect, and Rejected when
        the workspace has no such pool or will never take such a batch.
        """
        if not _NAME.fullmatch(job.name):
            raise Rejected(f"{job.name!r} cannot name a Spark batch: use up to 255 letters, digits, ., - and _")
        folder = _folder(job.name)
        last = self._attempts.last(folder)
        if last is not None and last.made:
            return
        spec, code = self._put_spec(job), spark_code.stored(self._lake)

        def find(since: datetime) -> str | None:
            listed = self._listed(job.name)
            return None if listed is None else str(listed.id)

        self._attempts.once(folder, f"Spark batch {job.name}", find, lambda: self._create(job, spec, code))

    def status(self, name: str) -> JobStatus | None:
        """See :meth:`FeatureEngine.status`; the reason is what the script said, else what Synapse says.

        A batch that the pool does not list any more is what it left in the lake.
        """
        if not _NAME.fullmatch(name):
            return None
        last = self._attempts.last(_folder(name))
        if last is None or last.refused:
            return None
        batch = self._get(int(last.made)) if last.made else self._listed(name)
        if batch is None:
            return self._from_the_lake(name, last)
        state = STATES.get(str(batch.state or "").lower(), "running")
        tail = _tail(batch)
        if state in ("queued", "running"):
            return JobStatus(name=name, state=state, log_tail=tail)
        if self._has_manifest(name):
            return JobStatus(name=name, state="completed", log_tail=tail)
        reason = self._failure(name)
        if state == "cancelled" and not reason:
            reason = f"somebody cancelled Spark batch {batch.id} of pool {self._pool}"
        elif state == "completed":
            state, reason = "failed", f"Spark batch {batch.id} of pool {self._pool} ended without a manifest"
        said = "; ".join(str(error.message) for error in batch.errors or [] if error.message)
        reason = reason or said or (tail[-1] if tail else "") or "Synapse gave no reason"
        return JobStatus(name=name, state=state, reason=reason, log_tail=tail)

    def prepare_rows(
        self, sql: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """See :meth:`FeatureEngine.prepare_rows` and :meth:`shared.features.raw_rows.RawRows.run`."""
        return self._rows.run(sql, columns, rows)

    # The lake

    def _put_spec(self, job: FeaturesJob) -> str:
        from shared.jobs.prepare_features_spark import SparkFeaturesSpec

        path = f"{_folder(job.name)}/spec.json"
        root = self._lake.uri("spark").removesuffix("/spark")
        spec = SparkFeaturesSpec(job=job, root=root, failure=f"{_folder(job.name)}/failure.json")
        with suppress(AlreadyExists):
            self._lake.write(path, _json(spec), overwrite=False)
        return path

    def _has_manifest(self, name: str) -> bool:
        spec = json.loads(self._lake.read(f"{_folder(name)}/spec.json"))
        return self._lake.stat(manifests.place(spec["job"]["output"])) is not None

    def _failure(self, name: str) -> str:
        try:
            return str(json.loads(self._lake.read(f"{_folder(name)}/failure.json"))["reason"])
        except Missing:
            return ""

    def _from_the_lake(self, name: str, attempt: Attempt) -> JobStatus | None:
        """The state of a job whose batch is in no list."""
        if self._has_manifest(name):
            return JobStatus(name=name, state="completed")
        if reason := self._failure(name):
            return JobStatus(name=name, state="failed", reason=reason)
        if attempt.made:
            reason = f"pool {self._pool} does not know Spark batch {attempt.made} any more, and it left no manifest"
            return JobStatus(name=name, state="failed", reason=reason)
        waiting = datetime.now(UTC) - attempt.at < self._grace
        return JobStatus(name=name, state="queued") if waiting else None

    # Synapse

    def _create(self, job: FeaturesJob, spec: str, code: spark_code.SparkCode) -> str:
        from azure.synapse.spark.models import SparkBatchJobOptions

        options = SparkBatchJobOptions(
            name=job.name,
            file=self._lake.uri(code.script),
            arguments=[self._lake.uri(spec)],
            python_files=[self._lake.uri(code.archive)],
            tags={"landfall.run": job.run, "landfall.pipeline": job.pipeline.name, LAKE_TAG: self._lake_name},
            **SIZES,
        )
        try:
            with translated(
                f"create Spark batch {job.name} in pool {self._pool} of Synapse workspace {self._workspace}"
            ):
                return str(self._client.spark_batch.create_spark_batch_job(options, detailed=True).id)
        except Missing as error:
            raise self._no_pool(error) from error
        except Conflict as error:
            raise Transient(str(error)) from error.__cause__
        except Rejected as error:
            if _PASSING_LACK.search(str(error)):
                raise Transient(str(error)) from error.__cause__
            raise

    def _get(self, batch: int) -> SparkBatchJob | None:
        try:
            with translated(f"look at Spark batch {batch} of pool {self._pool}"):
                return self._client.spark_batch.get_spark_batch_job(batch, detailed=True)
        except Missing:
            return None

    def _listed(self, name: str) -> SparkBatchJob | None:
        """The batch of that name in the pool's list. Other lakes, which may share the pool, have such names, too."""
        for batch in self._all():
            if batch.name == name and (batch.tags or {}).get(LAKE_TAG, self._lake_name) == self._lake_name:
                return batch
        return None

    @property
    def _lake_name(self) -> str:
        return f"{self._lake.account}/{self._lake.container}"

    def _all(self) -> Iterator[SparkBatchJob]:
        until, seen = time.monotonic() + LOOKING, 0
        while True:
            try:
                with translated(f"list the batches of Spark pool {self._pool}"):
                    page = self._client.spark_batch.get_spark_batch_jobs(seen, PAGE, detailed=True).sessions or []
            except Missing as error:
                raise self._no_pool(error) from error
            yield from page
            seen += len(page)
            if len(page) < PAGE:
                return
            if time.monotonic() > until:
                raise Transient(f"the list of Spark pool {self._pool} did not end in {LOOKING:g} s ({seen} batches)")

    def _no_pool(self, error: Missing) -> Rejected:
        return Rejected(
            f"Synapse workspace {self._workspace} has no Spark pool {self._pool}:"
            f" make it, or name another in LANDFALL_SPARK_POOL ({error})"
        )

    @cached_property
    def _client(self) -> SparkClient:
        from azure.synapse.spark import SparkClient

        return SparkClient(
            self._credential,
            f"https://{self._workspace}.dev.azuresynapse.net",
            self._pool,
            retry_policy=careful_retries(self._seconds),
            connection_timeout=self._seconds,
            read_timeout=self._seconds,
        )


def _folder(name: str) -> str:
    return f"spark/jobs/{name}"


def _json(value: Any) -> bytes:
    return json.dumps(to_record(value)).encode()


def _tail(batch: SparkBatchJob) -> tuple[str, ...]:
    lines = [line for entry in batch.log_lines or [] for line in str(entry).splitlines() if line.strip()]
    return tuple(lines[-TAIL_LINES:])
