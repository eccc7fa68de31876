"""Compare the ledger with the world, and raise the signals that never came."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from shared import evaluation, preparation, runs, training
from shared.catalog import PipelineFolder
from shared.domain.landing import ignored
from shared.domain.ledger import Batch, Landed, PipelineState, RolloutState, Run, Version, path_key
from shared.domain.rollout import ENDED
from shared.domain.signals import (
    BatchDue,
    DataLanded,
    EvaluationFinished,
    FeaturesReady,
    ModelRegistered,
    ReconcileDue,
    RolloutDue,
    Signal,
    TrainingFinished,
)
from shared.loop import Loop
from shared.runs import Outcome

PATIENCE = timedelta(minutes=2)
"""How late a signal may be before it counts as lost."""


def react(signal: ReconcileDue, loop: Loop) -> Outcome:
    """Look at every pipeline; say what was raised, or that nothing was missing."""
    raised = [said for folder in loop.catalog.all() for said in _pipeline(loop, folder)]
    broken = [f"{name}: pipeline.yaml has faults, see landfall check" for name in loop.catalog.faults()]
    return Outcome(
        pipeline="",
        what="reconcile",
        outcome="done" if raised else "nothing",
        reason="; ".join((*raised, *broken)) or "nothing was missing",
    )


def _pipeline(loop: Loop, folder: PipelineFolder) -> Iterator[str]:
    state = runs.state_of(loop, folder.pipeline.name)
    for lost in (
        *_files(loop, folder),
        *_batches(loop, folder, state),
        *_runs(loop, folder, state),
        *_versions(loop, folder),
        *_rollout(loop, state),
    ):
        loop.ports.queue.send(lost)
        yield f"raised {lost.claim_key}"
    yield from _turns(loop, folder, state)
    yield from _missing_data(loop, folder, state)
    yield from _traffic(loop, folder, state)


def _files(loop: Loop, folder: PipelineFolder) -> Iterator[Signal]:
    """Files of the lake that are in no batch. The event of one that is still on its way will be a duplicate."""
    lake, landing = loop.ports.lake, folder.pipeline.landing
    for info in lake.list(f"{landing.path.rstrip('/')}/"):
        marker = landing.complete.marker
        counts = landing.format == "delta" or not ignored(info.path, "Found", info.size)
        if not counts or info.path.rsplit("/", 1)[-1] == marker:
            continue
        known = loop.ports.ledger.read(Landed, folder.pipeline.name, path_key(info.path))
        if known is None or known.file_etag != info.etag:
            yield DataLanded(
                account=lake.account,
                container=lake.container,
                path=info.path,
                api="Found",
                event="reconcile",
                at=info.modified,
                etag=info.etag,
                size=info.size,
            )


def _batches(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[Signal]:
    """Batches that are open for longer than they may be, or closed without a run."""
    complete, now = folder.pipeline.landing.complete, loop.ports.clock.now()
    for batch in loop.ports.ledger.list(Batch, folder.pipeline.name):
        overdue = batch.status in ("open", "closing") and now > batch.opened_at + _longest(
            complete.max_wait, complete.quiet
        )
        forgotten = (
            batch.status == "closed" and not state.frozen and batch.closed_at and now > batch.closed_at + PATIENCE
        )
        if overdue or (
            forgotten and loop.ports.ledger.read(Run, batch.pipeline, f"{batch.pipeline}-{batch.id}") is None
        ):
            yield BatchDue(pipeline=batch.pipeline, batch=batch.id, due=now)


def _longest(*spans: timedelta) -> timedelta:
    return max(spans) + PATIENCE


def _runs(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[Signal]:
    """Runs whose job has ended without anybody saying so."""
    ports = loop.ports
    for run_id in state.active_runs:
        run = ports.ledger.read(Run, state.pipeline, run_id)
        if run is None or run.ended or run.status != "running":
            continue
        if run.stage == "features":
            status = ports.features.status(run.job)
            if (status and status.ended) or ports.lake.stat(f"{run.features}/manifest.json"):
                yield FeaturesReady(pipeline=run.pipeline, run=run.id)
        elif run.stage == "training":
            status = ports.training.status(run.job)
            if status is None or status.ended:
                yield TrainingFinished(pipeline=run.pipeline, run=run.id, status=status.state if status else "unknown")
        elif run.stage == "evaluation":
            status = ports.training.status(run.job)
            if status and status.ended:
                yield EvaluationFinished(pipeline=run.pipeline, version=run.version, status=status.state, job=run.job)


def _versions(loop: Loop, folder: PipelineFolder) -> Iterator[Signal]:
    """Registered versions that the ledger has never heard of."""
    for version in loop.ports.registry.versions(folder.pipeline.name):
        if loop.ports.ledger.read(Version, folder.pipeline.name, version.version) is None:
            yield ModelRegistered(model=version.name, version=version.version)


def _rollout(loop: Loop, state: PipelineState) -> Iterator[Signal]:
    """Rollouts, also promoted ones that keep the previous deployment warm, whose next move is overdue."""
    now = loop.ports.clock.now()
    for rollout in loop.ports.ledger.list(RolloutState, state.pipeline):
        if rollout.phase not in ENDED and rollout.next_at and now > rollout.next_at + PATIENCE:
            yield RolloutDue(pipeline=rollout.pipeline, rollout=rollout.id, wake=rollout.wake)


def _turns(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[str]:
    """What a process that died had begun and nobody goes on with: jobs not submitted, turns not handed on."""
    for run_id in state.active_runs:
        run = loop.ports.ledger.read(Run, state.pipeline, run_id)
        if (
            run
            and not run.ended
            and loop.ports.clock.now() > run.updated_at + PATIENCE
            and _forgotten(loop, run, state)
        ):
            said = _resume(loop, folder, run)
            yield f"{run.id} goes on: {said}"
    for run_id, stage, release in (
        (state.preparing, "features", preparation.release),
        (state.training, "training", training.release),
    ):
        if not run_id:
            continue
        run = loop.ports.ledger.read(Run, state.pipeline, run_id)
        over = run is None or run.ended or run.stage != stage
        if over and (run is None or loop.ports.clock.now() > run.updated_at + PATIENCE):
            release(loop, folder, run_id)
            yield f"the turn of {run_id} for {stage} is over"
    if not state.rollout:
        evaluation.next_waiting(loop, folder)


def _forgotten(loop: Loop, run: Run, state: PipelineState) -> bool:
    """True when the run waits for nobody and no job works for it."""
    if run.stage == "features":
        return run.id not in state.to_prepare and loop.ports.features.status(preparation.job_name(run)) is None
    if run.stage == "training":
        waits = run.id == state.waiting and bool(state.training or state.frozen)
        return not waits and loop.ports.training.status(training.job_name(run)) is None
    if run.stage == "evaluation":
        version = loop.ports.ledger.read(Version, run.pipeline, run.version) if run.version else None
        begun = version is not None and version.status in ("registered", "evaluating")
        return begun and (not run.job.count("-evaluate-") or loop.ports.training.status(run.job) is None)
    return False


def _resume(loop: Loop, folder: PipelineFolder, run: Run) -> str:
    if run.stage == "features":
        return f"features are {preparation.request(loop, folder, run).status}"
    if run.stage == "training":
        return training.request(loop, folder, run)
    return evaluation.begin(loop, folder, evaluation.read_version(loop, run.pipeline, run.version))


def _missing_data(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[str]:
    expected = folder.pipeline.landing.expect_every
    if not expected or not state.last_landed_at:
        return
    name, now = folder.pipeline.name, loop.ports.clock.now()
    if now <= state.last_landed_at + expected:
        if state.missing_since:
            runs.change_state(loop, name, missing_since=None)
        return
    if state.missing_since:
        return
    reason = (
        f"nothing has landed in {folder.pipeline.landing.path} since {state.last_landed_at:%Y-%m-%d %H:%M} UTC, "
        f"expected every {expected}"
    )
    runs.decide(loop, Outcome(pipeline=name, what="missing data", outcome="alarm", reason=reason), at=now)
    loop.ports.events.publish(
        "DataMissing",
        name,
        {"pipeline": name, "since": state.last_landed_at.isoformat()},
        id=f"{name}-{state.last_landed_at.isoformat()}",
    )
    runs.change_state(loop, name, missing_since=now)
    yield reason


def _traffic(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[str]:
    """Traffic that somebody else moved is said, not moved back: a person may be at work there."""
    if state.rollout or not state.champion:
        return
    present = loop.ports.endpoints.traffic(folder.pipeline.endpoint)
    if present == state.traffic:
        return
    reason = (
        f"traffic of endpoint {folder.pipeline.endpoint} is {present}, the ledger says {state.traffic}: "
        "somebody moved it by hand"
    )
    runs.decide(
        loop,
        Outcome(pipeline=state.pipeline, what="traffic", outcome="alarm", reason=reason),
        at=loop.ports.clock.now(),
    )
    runs.change_state(loop, state.pipeline, traffic=present)
    yield reason
