"""The story of runs in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from shared import pipeline_states
from shared.domain.ledger import PipelineState, Run, Step
from shared.domain.redaction import without_secrets
from shared.domain.spending import added, spending
from shared.errors import AlreadyExists, Missing
from shared.loop import Loop


def begin(loop: Loop, pipeline: str, run_id: str, cause: str, batches: Sequence[str] = (), note: str = "") -> Run:
    """The run of this id, made when it does not exist yet. The same cause has the same id, so it begins once."""
    now = loop.ports.clock.now()
    run = Run(
        pipeline=pipeline,
        id=run_id,
        cause=cause,
        stage="features",
        status="waiting",
        created_at=now,
        updated_at=now,
        batches=tuple(batches),
        features=f"features/{pipeline}/{run_id}",
        steps=(Step("features", "waiting", now, note),),
    )
    try:
        run = loop.ports.ledger.insert(run)
    except AlreadyExists:
        run = read(loop, pipeline, run_id)
    if not run.ended:
        pipeline_states.update(loop, pipeline, lambda s: _with_run(s, run))
    return run


def read(loop: Loop, pipeline: str, run_id: str) -> Run:
    """The run. Raises Missing when the ledger has none of that id."""
    run = loop.ports.ledger.read(Run, pipeline, run_id)
    if run is None:
        raise Missing(f"no run {run_id} of pipeline {pipeline} in the ledger")
    return run


def always(run: Run) -> bool:
    """A condition that every run meets."""
    return True


def move(
    loop: Loop,
    run: Run,
    stage: str,
    status: str,
    note: str = "",
    *,
    only_if: Callable[[Run], bool] = always,
    **changes: object,
) -> Run:
    """Bring a run to a stage and status and add that to its story; a run that has ended stays as it is.

    So does one of which ``only_if`` is false: others may have brought it further since it was read.
    Moving to the same stage and status with the same note again changes nothing, so it may be repeated.
    """

    def wanted(present: Run) -> Run:
        if not only_if(present):
            return present
        return replace(present, stage=stage, status=status, reason=note, **changes)  # type: ignore[arg-type]

    return _change(loop, run, wanted)


def end(loop: Loop, run: Run, status: str, reason: str, *, only_if: Callable[[Run], bool] = always) -> Run:
    """Bring a run to its end in whatever stage it is, and tell others; not when ``only_if`` is false.

    A turn that it has is its caller's to release.
    """
    ended = _change(
        loop, run, lambda present: replace(present, status=status, reason=reason) if only_if(present) else present
    )
    if not ended.ended:
        return ended
    leave(loop, run.pipeline, run.id)
    loop.ports.events.publish(
        "RunEnded",
        run.id,
        {
            "pipeline": run.pipeline,
            "run": run.id,
            "status": ended.status,
            "stage": ended.stage,
            "reason": ended.reason,
            "version": ended.version,
        },
        id=f"{run.id}-{ended.status}",
    )
    return ended


def leave(loop: Loop, pipeline: str, run_id: str) -> None:
    """Take a run that has ended off the list of those under way, and note what it used."""
    run = loop.ports.ledger.read(Run, pipeline, run_id)
    used = run and spending(run_id, [(step.stage, step.status, step.at) for step in run.steps], run.updated_at)

    def change(state: PipelineState) -> PipelineState:
        return replace(
            state,
            spendings=added(state.spendings, used) if used and run_id in state.active_runs else state.spendings,
            active_runs=tuple(r for r in state.active_runs if r != run_id),
            to_prepare=tuple(r for r in state.to_prepare if r != run_id),
            waiting="" if state.waiting == run_id else state.waiting,
        )

    pipeline_states.update(loop, pipeline, change)


def _change(loop: Loop, run: Run, wanted: Callable[[Run], Run]) -> Run:
    def change(present: Run | None) -> Run:
        if present is None:
            raise Missing(f"no run {run.id} of pipeline {run.pipeline} in the ledger")
        changed = present if present.ended else wanted(present)
        changed = replace(changed, reason=without_secrets(changed.reason))
        if changed == present:
            return present
        now = loop.ports.clock.now()
        step = Step(changed.stage, changed.status, now, changed.reason)
        return replace(changed, updated_at=now, steps=(*present.steps, step))

    return loop.ports.ledger.update(Run, run.pipeline, run.id, change)


def unlist(loop: Loop, pipeline: str, batch: str) -> None:
    """Take a batch that needs no run of its own from the list of those that were closed."""
    pipeline_states.update(
        loop,
        pipeline,
        lambda state: replace(state, closed_batches=tuple(b for b in state.closed_batches if b != batch)),
    )


def _with_run(state: PipelineState, run: Run) -> PipelineState:
    closed = tuple(batch for batch in state.closed_batches if run.id != f"{run.pipeline}-{batch}")
    if run.id in state.active_runs:
        return replace(state, closed_batches=closed)
    return replace(state, closed_batches=closed, active_runs=(*state.active_runs, run.id), last_run=run.id)
