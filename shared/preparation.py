"""From what has landed to a features job: one run of a pipeline at a time, unchanged input never twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from shared import runs
from shared.catalog import PipelineFolder
from shared.domain.landing import LandedFile
from shared.domain.ledger import Batch, PipelineState, Run
from shared.domain.records import from_record, to_record
from shared.errors import Missing
from shared.loop import Loop
from shared.ports.feature_engine import FeaturesJob, Manifest

UNPREPARED = ("closed", "failed")


def read_manifest(loop: Loop, folder: str) -> Manifest:
    """The manifest in a run's features folder. Raises Missing when it is not there (yet)."""
    return from_record(Manifest, json.loads(loop.ports.lake.read(f"{folder}/manifest.json")))


def job_name(run: Run) -> str:
    """The name of a run's features job."""
    return f"{run.id}-features"


def request(loop: Loop, folder: PipelineFolder, run: Run) -> Run:
    """Prepare features for ``run`` now, or after those that were asked for before it."""
    name = folder.pipeline.name

    state = loop.ports.ledger.update(
        PipelineState, name, "state", lambda s: in_line(s or PipelineState(pipeline=name), run.id)
    )
    if state.preparing != run.id:
        return runs.move(loop, run, "features", "waiting", f"after {state.preparing}")
    return submit(loop, folder, run)


def in_line(state: PipelineState, run_id: str) -> PipelineState:
    """The state in which ``run_id`` has its turn, or a place among those that wait for it."""
    if run_id in (state.preparing, *state.to_prepare):
        return state
    if not state.preparing:
        return replace(state, preparing=run_id)
    return replace(state, to_prepare=(*state.to_prepare, run_id))


def submit(loop: Loop, folder: PipelineFolder, run: Run) -> Run:
    """Submit the features job of the run whose turn it is. The same run submits the same job."""
    pipeline = folder.pipeline
    batches = list(loop.ports.ledger.list(Batch, pipeline.name))
    earlier = _files(b for b in batches if b.status == "accepted")
    fresh = [b for b in batches if b.id in run.batches or b.status in UNPREPARED]
    files = _files(fresh)
    fingerprint = _fingerprint(folder, files, earlier)
    run = runs.move(loop, run, "features", "running", batches=tuple(b.id for b in fresh), job=job_name(run))
    if _reuse(loop, run, fingerprint):
        return run
    now = loop.ports.clock.now()
    waited = max((now - b.opened_at for b in fresh), default=timedelta(0))
    short_allowed = fresh and run.cause == "landing" and waited < pipeline.landing.complete.max_wait
    loop.ports.features.submit(
        FeaturesJob(
            name=job_name(run),
            pipeline=pipeline,
            run=run.id,
            sql=folder.sql,
            files=files,
            earlier=earlier,
            fingerprint=fingerprint,
            output=run.features,
            min_rows=pipeline.landing.complete.min_rows if short_allowed else 0,
        )
    )
    return run


def release(loop: Loop, folder: PipelineFolder, run_id: str) -> None:
    """The run needs no more preparation: the next one that waits has its turn."""
    name = folder.pipeline.name

    def hand_over(state: PipelineState | None) -> PipelineState:
        state = state or PipelineState(pipeline=name)
        if state.preparing not in ("", run_id):
            return state
        following = state.to_prepare[0] if state.to_prepare else ""
        return replace(state, preparing=following, to_prepare=state.to_prepare[1:])

    state = loop.ports.ledger.update(PipelineState, name, "state", hand_over)
    following = loop.ports.ledger.read(Run, name, state.preparing) if state.preparing else None
    if following is not None and following.id != run_id:
        submit(loop, folder, following)


def settle_batches(loop: Loop, run: Run, status: str, reason: str = "") -> None:
    """Say of all batches of the run what became of them: accepted, rejected, failed or carried."""

    def settle(batch: Batch | None) -> Batch:
        if batch is None:
            raise Missing(f"run {run.id} names a batch that the ledger of {run.pipeline} does not have")
        return replace(batch, status=status, reason=reason, run=run.id)

    for batch_id in run.batches:
        loop.ports.ledger.update(Batch, run.pipeline, batch_id, settle)


def _reuse(loop: Loop, run: Run, fingerprint: str) -> bool:
    known = f"features/{run.pipeline}/by-input/{fingerprint}.json"
    if loop.ports.lake.stat(known) is None:
        return False
    manifest = from_record(Manifest, json.loads(loop.ports.lake.read(known)))
    if manifest.run != run.id:
        record = to_record(replace(manifest, run=run.id))
        loop.ports.lake.write(f"{run.features}/manifest.json", json.dumps(record).encode())
    return True


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
