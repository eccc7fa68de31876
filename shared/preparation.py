"""From what has landed to a features job: one run of a pipeline at a time, unchanged input never twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from shared import pipeline_states, runs
from shared.definitions.catalog import PipelineFolder
from shared.domain.landing import LandedFile
from shared.domain.ledger import Batch, PipelineState, Run
from shared.domain.records import to_record
from shared.errors import Missing, Rejected
from shared.features import manifests
from shared.loop import Loop
from shared.ports.feature_engine import FeaturesJob

UNPREPARED = ("closed", "failed")


def job_name(run: Run) -> str:
    """The name of a run's features job."""
    return f"{run.id}-features"


def request(loop: Loop, folder: PipelineFolder, run: Run) -> Run:
    """Prepare features for ``run`` now, or after those that were asked for before it."""
    name = folder.pipeline.name
    loop.catalog.keep(folder)
    state = pipeline_states.update(loop, name, lambda state: in_line(state, run.id))
    if state.preparing == run.id:
        _go_on(loop, folder, state)
        return runs.read(loop, name, run.id)
    # Not when it has had its turn meanwhile.
    return runs.move(loop, run, "features", "waiting", f"after {state.preparing}", only_if=lambda r: not r.job)


def in_line(state: PipelineState, run_id: str) -> PipelineState:
    """The state in which ``run_id`` has its turn, or a place among those that wait for it."""
    if run_id in (state.preparing, *state.to_prepare):
        return state
    if not state.preparing:
        return replace(state, preparing=run_id)
    return replace(state, to_prepare=(*state.to_prepare, run_id))


def release(loop: Loop, folder: PipelineFolder, run_id: str) -> None:
    """The run needs no more preparation: the next one that waits has its turn."""
    _go_on(loop, folder, _hand_over(loop, folder, run_id), passed=run_id)


def _hand_over(loop: Loop, folder: PipelineFolder, run_id: str) -> PipelineState:
    name = folder.pipeline.name

    def change(state: PipelineState) -> PipelineState:
        if state.preparing not in ("", run_id):
            return state
        following = state.to_prepare[0] if state.to_prepare else ""
        return replace(state, preparing=following, to_prepare=state.to_prepare[1:])

    return pipeline_states.update(loop, name, change)


def _go_on(loop: Loop, folder: PipelineFolder, state: PipelineState, passed: str = "") -> None:
    """Submit for the run whose turn it is; one that needs no job gives its turn on at once."""
    while state.preparing not in ("", passed):
        run = loop.ports.ledger.read(Run, folder.pipeline.name, state.preparing)
        # Its entry may be written only after its place in the line.
        if run is None or _submit(loop, folder, run):
            return
        passed = run.id
        state = _hand_over(loop, folder, run.id)


def _submit(loop: Loop, folder: PipelineFolder, run: Run) -> bool:
    """Submit the run's features job, the same however often; False when the run needs none any more.

    While the folder has faults it is not submitted: reconcile goes on with it once they are mended.
    """
    pipeline = folder.pipeline
    if folder.faults:
        return True
    if not run.job and run.cause == "landing":
        own = _batches(loop, run)
        if not any(batch.status in UNPREPARED for batch in own):
            reason = f"its files went with run {own[0].run}"
            run = runs.end(loop, run, "superseded", reason, only_if=lambda r: not r.job)
    batches = list(loop.ports.ledger.list(Batch, pipeline.name))
    # What a job works on is entered before it is submitted: what lands later is not part of it.
    run = runs.move(
        loop,
        run,
        "features",
        "running",
        only_if=lambda r: r.stage == "features" and not r.job,
        batches=tuple(b.id for b in batches if b.status in UNPREPARED),
        job=job_name(run),
    )
    if run.ended or run.stage != "features":
        return False
    fresh = _batches(loop, run)
    files = _files(fresh)
    earlier = _files(b for b in batches if b.status == "accepted" and b.id not in run.batches)
    fingerprint = _fingerprint(folder, files, earlier)
    if _reuse(loop, run, fingerprint):
        return True
    now = loop.ports.clock.now()
    waited = max((now - b.opened_at for b in fresh), default=timedelta(0))
    short_allowed = fresh and run.cause == "landing" and waited < pipeline.landing.complete.max_wait
    job = FeaturesJob(
        name=job_name(run),
        pipeline=pipeline,
        run=run.id,
        sql=folder.sql,
        files=files,
        earlier=earlier,
        fingerprint=fingerprint,
        output=run.features,
        min_rows=pipeline.landing.complete.min_rows if short_allowed else 0,
        base=_base(loop, folder, earlier),
    )
    try:
        loop.ports.features.submit(job)
    except Rejected as error:
        fail(loop, run, f"the features job cannot run: {error}")
        return False
    return True


def nothing_new(loop: Loop, folder: PipelineFolder, features: str) -> bool:
    """True when preparing all that has landed would give again what is in ``features``, a run's folder in the lake.

    False where nobody can tell any more, as the folder was removed or its manifest is broken.
    """
    if not features:
        return False
    try:
        made = manifests.read(loop.ports.lake, manifests.place(features))
    except Rejected:
        return False
    batches = list(loop.ports.ledger.list(Batch, folder.pipeline.name))
    files = _files(b for b in batches if b.status in UNPREPARED)
    earlier = _files(b for b in batches if b.status == "accepted")
    return made.fingerprint == _fingerprint(folder, files, earlier)


def fail(loop: Loop, run: Run, reason: str) -> None:
    """The run ends; its batches are prepared again with the next one."""
    settle_batches(loop, run, "failed", reason)
    runs.end(loop, run, "failed", reason)


def settle_batches(
    loop: Loop, run: Run, status: str, reason: str = "", *, batches: Collection[str] | None = None
) -> None:
    """Say of the run's batches (of ``batches`` alone) what became of them: accepted, rejected, failed or carried."""

    def settle(batch: Batch | None) -> Batch:
        if batch is None:
            raise Missing(f"run {run.id} names a batch that the ledger of {run.pipeline} does not have")
        return replace(batch, status=status, reason=reason, run=run.id)

    for batch_id in run.batches if batches is None else batches:
        loop.ports.ledger.update(Batch, run.pipeline, batch_id, settle)


def _batches(loop: Loop, run: Run) -> list[Batch]:
    found = (loop.ports.ledger.read(Batch, run.pipeline, batch_id) for batch_id in run.batches)
    return [batch for batch in found if batch is not None]


def _reuse(loop: Loop, run: Run, fingerprint: str) -> bool:
    try:
        manifest = manifests.read(loop.ports.lake, _by_input(run.pipeline, fingerprint))
    except Rejected:
        # None was made of this input, or it is broken: it is prepared anew.
        return False
    if manifest.run != run.id:
        record = to_record(replace(manifest, run=run.id))
        loop.ports.lake.write(manifests.place(run.features), json.dumps(record).encode())
    return True


def _base(loop: Loop, folder: PipelineFolder, earlier: Sequence[LandedFile]) -> str:
    """The manifest of just ``earlier``, for the job to add to; empty when there is none."""
    path = _by_input(folder.pipeline.name, _fingerprint(folder, (), earlier))
    return path if earlier and loop.ports.lake.stat(path) else ""


def _by_input(pipeline: str, fingerprint: str) -> str:
    return f"features/{pipeline}/by-input/{fingerprint}.json"


def _files(batches: Iterable[Batch]) -> tuple[LandedFile, ...]:
    return tuple(f for b in sorted(batches, key=lambda b: (b.closed_at or b.opened_at, b.id)) for f in b.files)


def _fingerprint(folder: PipelineFolder, files: Sequence[LandedFile], earlier: Sequence[LandedFile]) -> str:
    landing = to_record(folder.pipeline.landing)
    del landing["complete"], landing["expect_every"]
    what = {
        "files": [[f.path, f.etag] for f in (*earlier, *files)],
        "landing": landing,
        "features": to_record(folder.pipeline.features),
        "sql": folder.sql,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
