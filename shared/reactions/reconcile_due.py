"""Compare the ledger with the world, and raise the signals that never came."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta

from shared import (
    claims,
    decisions,
    evaluation,
    pipeline_states,
    preparation,
    rolling_look,
    rollouts,
    runs,
    training,
    versions,
)
from shared.decisions import Outcome
from shared.definitions.catalog import PipelineFolder
from shared.domain.ledger import Batch, PipelineState, RolloutState, Run, Version
from shared.domain.rollout import ENDED, RETRY
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
from shared.errors import LandfallError
from shared.features import manifests
from shared.loop import Loop
from shared.reactions import data_landed, retraining_due

PATIENCE = timedelta(minutes=2)
"""How late a signal may be before it counts as lost."""


def react(signal: ReconcileDue, loop: Loop) -> Outcome:
    """Look at every pipeline, one in trouble or not; say what was raised, or that nothing was missing.

    What is known to be under way is looked at each time, the rest in turn (:mod:`shared.rolling_look`).
    """
    raised, troubles = [], []
    folders = loop.catalog.live()
    turn = rolling_look.pipelines(loop, folders)
    for folder in folders:
        try:
            raised += _live(loop, folder) if folder.faults else _pipeline(loop, folder, folder.pipeline.name in turn)
        except LandfallError as error:
            troubles.append(f"{folder.pipeline.name} could not be looked at: {error}")
        except Exception as error:
            logging.exception("reconcile of pipeline %s", folder.pipeline.name)
            troubles.append(f"{folder.pipeline.name} could not be looked at, see the log: {error!r}")
    troubles += [
        f"{name} has faults, see landfall check: no run begins, what is live goes on as last defined"
        for name in loop.catalog.faults()
    ]
    return Outcome(
        pipeline="",
        what="reconcile",
        outcome="alarm" if troubles else "done" if raised else "nothing",
        reason="; ".join((*raised, *troubles)) or "nothing was missing",
    )


def _pipeline(loop: Loop, folder: PipelineFolder, its_turn: bool) -> list[str]:
    state = pipeline_states.read(loop, folder.pipeline.name)
    return [
        *(_raise(loop, _unseen(loop, folder, state)) if its_turn else ()),
        *_raise(loop, _batches(loop, folder, state)),
        *_raise(loop, _jobs(loop, state)),
        *(_raise(loop, _versions(loop, folder)) if its_turn or state.active_runs else ()),
        *_raise(loop, _evaluations(loop, state)),
        *_raise(loop, _rollouts(loop, state)),
        *_runs(loop, folder, state),
        *_turns(loop, folder, state),
        *_missing_data(loop, folder, state),
        *(_traffic(loop, folder, state) if its_turn else ()),
    ]


def _live(loop: Loop, folder: PipelineFolder) -> list[str]:
    """Of a pipeline whose folder has faults only what serves is looked at."""
    state = pipeline_states.read(loop, folder.pipeline.name)
    return [*_raise(loop, _rollouts(loop, state)), *_traffic(loop, folder, state)]


def _raise(loop: Loop, signals: Iterable[Signal]) -> Iterator[str]:
    for lost in signals:
        claims.reopen(loop, lost)
        loop.ports.queue.send(lost)
        yield f"raised {lost.claim_key}"


def _unseen(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[Signal]:
    """Of what is looked at in turn: files that are in no batch, and batches of which the state says nothing.

    The event of a file that is still on its way will be a duplicate.
    """
    loop.catalog.keep(folder)
    lake = loop.ports.lake
    for info in rolling_look.unknown_files(loop, folder):
        if data_landed.is_marker(folder, info.path) or data_landed.why_not(folder, info.path, "Found", info.size):
            continue
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
    listed = {*state.open_batches.values(), *state.closed_batches}
    for batch in rolling_look.batches(loop, folder.pipeline.name):
        if batch.id not in listed:
            yield from _overdue_batch(loop, folder, state, batch)


def _batches(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[Signal]:
    """Batches that the state lists, and that are open for longer than they may be, or closed without a run."""
    ledger, name = loop.ports.ledger, folder.pipeline.name
    for batch_id in state.open_batches.values():
        batch = ledger.read(Batch, name, batch_id)
        if batch:
            yield from _overdue_batch(loop, folder, state, batch)
    for batch_id in () if state.frozen else state.closed_batches:
        batch = ledger.read(Batch, name, batch_id)
        if batch and batch.status == "closed" and ledger.read(Run, name, f"{name}-{batch_id}") is None:
            yield from _overdue_batch(loop, folder, state, batch)
        else:
            runs.unlist(loop, name, batch_id)


def _overdue_batch(loop: Loop, folder: PipelineFolder, state: PipelineState, batch: Batch) -> Iterator[Signal]:
    complete, now = folder.pipeline.landing.complete, loop.ports.clock.now()
    # One opened later than now was opened, and its look put off, by a clock that was ahead.
    overdue = batch.status in ("open", "closing") and not (
        timedelta(0) <= now + PATIENCE - batch.opened_at <= PATIENCE + _longest(complete.max_wait, complete.quiet)
    )
    forgotten = batch.status == "closed" and not state.frozen and batch.closed_at and now > batch.closed_at + PATIENCE
    if overdue or (forgotten and loop.ports.ledger.read(Run, batch.pipeline, f"{batch.pipeline}-{batch.id}") is None):
        yield BatchDue(pipeline=batch.pipeline, batch=batch.id, due=now)


def _longest(*spans: timedelta) -> timedelta:
    return max(spans) + PATIENCE


def _jobs(loop: Loop, state: PipelineState) -> Iterator[Signal]:
    """Features and training jobs that have ended without anybody saying so."""
    ports = loop.ports
    for run in _active(loop, state):
        if run.stage == "features":
            status = ports.features.status(preparation.job_name(run))
            if (status and status.ended) or ports.lake.stat(manifests.place(run.features)):
                yield FeaturesReady(pipeline=run.pipeline, run=run.id)
        elif run.stage == "training":
            status = ports.training.status(training.job_name(run))
            if status and status.ended:
                yield TrainingFinished(pipeline=run.pipeline, run=run.id, status=status.state)


def _active(loop: Loop, state: PipelineState) -> list[Run]:
    found = (loop.ports.ledger.read(Run, state.pipeline, run_id) for run_id in state.active_runs)
    return [run for run in found if run and not run.ended]


def _versions(loop: Loop, folder: PipelineFolder) -> Iterator[Signal]:
    """Registered versions that the ledger has never heard of."""
    name = folder.pipeline.name
    known = {version.version for version in loop.ports.ledger.list(Version, name)}
    for version in loop.ports.registry.versions(name):
        if version.version not in known:
            yield ModelRegistered(model=version.name, version=version.version)


def _evaluations(loop: Loop, state: PipelineState) -> Iterator[Signal]:
    """Versions whose evaluation has ended without anybody saying so, or has never begun."""
    for number in state.open_versions:
        version = loop.ports.ledger.read(Version, state.pipeline, number)
        if version is None or version.status == "waiting":
            continue
        if version.status not in versions.OPEN:
            versions.unlist(loop, version)
            continue
        status = loop.ports.training.status(version.job) if version.job else None
        if status is None:
            yield ModelRegistered(model=version.pipeline, version=version.version)
        elif status.ended:
            yield EvaluationFinished(
                pipeline=version.pipeline, version=version.version, status=status.state, job=version.job
            )


def _rollouts(loop: Loop, state: PipelineState) -> Iterator[Signal]:
    """Rollouts, also promoted ones that keep the previous deployment warm, whose next move is overdue."""
    for rollout in rollouts.active(loop, state.pipeline):
        if rollout.phase in ENDED:
            rollouts.unlist(loop, rollout)
        elif _overdue(loop, rollout) and not rollouts.held(state, rollout):
            yield RolloutDue(pipeline=rollout.pipeline, rollout=rollout.id, wake=rollout.wake)


def _overdue(loop: Loop, rollout: RolloutState) -> bool:
    """Late, or further away than a rollout ever waits: put off by a clock that was ahead."""
    if rollout.next_at is None:
        return False
    keep_previous = loop.catalog.get(rollout.pipeline).pipeline.rollout.keep_previous
    left = rollout.next_at - loop.ports.clock.now()
    return not -PATIENCE <= left <= _longest(rollout.bake, keep_previous, RETRY)


def _runs(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[str]:
    """Runs that a process had begun something for before it died, and nobody goes on with: jobs not submitted."""
    for run_id in state.active_runs:
        run = loop.ports.ledger.read(Run, state.pipeline, run_id)
        if run is None or run.ended:
            runs.leave(loop, state.pipeline, run_id)
        elif loop.ports.clock.now() > run.updated_at + PATIENCE:
            if run.stage == "features" and run_id not in state.to_prepare:
                if loop.ports.features.status(preparation.job_name(run)) is None:
                    yield f"{run_id} goes on: features are {preparation.request(loop, folder, run).status}"
            elif run.stage == "training":
                waits = run_id == state.waiting and bool(state.training or state.frozen)
                if not waits and loop.ports.training.status(training.job_name(run)) is None:
                    yield f"{run_id} goes on: {training.request(loop, folder, run)}"


def _turns(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[str]:
    """Turns that a process that died had not handed on."""
    for run_id, next_id, stage, release in (
        (state.preparing, state.to_prepare[:1], "features", preparation.release),
        (state.training, () if state.frozen else (state.waiting,), "training", training.release),
    ):
        if not run_id and not any(next_id):
            continue
        run = loop.ports.ledger.read(Run, state.pipeline, run_id)
        if run is None and run_id and not retraining_due.give_up(loop, state.pipeline, run_id, PATIENCE):
            continue
        if run is None or ((run.ended or run.stage != stage) and loop.ports.clock.now() > run.updated_at + PATIENCE):
            release(loop, folder, run_id)
            yield f"the turn of {run_id or 'nobody'} for {stage} is over"
    if not state.rollout:
        evaluation.next_waiting(loop, folder)


def _missing_data(loop: Loop, folder: PipelineFolder, state: PipelineState) -> Iterator[str]:
    expected = folder.pipeline.landing.expect_every
    if not expected or not state.last_landed_at:
        return
    name, now = folder.pipeline.name, loop.ports.clock.now()
    if now < state.last_landed_at:
        # By a clock that was ahead: the time until the alarm begins now.
        pipeline_states.set_fields(loop, name, last_landed_at=now)
        return
    if now <= state.last_landed_at + expected:
        if state.missing_since:
            pipeline_states.set_fields(loop, name, missing_since=None)
        return
    if state.missing_since:
        return
    reason = (
        f"nothing has landed in {folder.pipeline.landing.path} since {state.last_landed_at:%Y-%m-%d %H:%M} UTC, "
        f"expected every {expected}"
    )
    decisions.decide(loop, Outcome(pipeline=name, what="missing data", outcome="alarm", reason=reason), at=now)
    loop.ports.events.publish(
        "DataMissing",
        name,
        {"pipeline": name, "since": state.last_landed_at.isoformat()},
        id=f"{name}-{state.last_landed_at.isoformat()}",
    )
    pipeline_states.set_fields(loop, name, missing_since=now)
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
    decisions.decide(
        loop,
        Outcome(pipeline=state.pipeline, what="traffic", outcome="alarm", reason=reason),
        at=loop.ports.clock.now(),
    )
    pipeline_states.set_fields(loop, state.pipeline, traffic=present)
    yield reason
