"""What the loop is doing, for people and programs."""

from __future__ import annotations

from typing import Any

from shared import pipeline_states
from shared.definitions.catalog import PipelineFolder
from shared.domain.ledger import Run
from shared.domain.performance import Estimate
from shared.domain.realised import Realised
from shared.domain.records import to_record
from shared.loop import Loop


def status(loop: Loop) -> dict[str, Any]:
    """Each pipeline with name, champion {version, metrics, serving}, traffic and mirror {deployment:
    percent}, last_run {id, cause, stage, status, reason}, drift {status, at}, performance and flags; and the
    faults of broken pipelines.

    Performance is what the last drift check found of the champion: estimated without labels {metric, value, held_out,
    low, high, hurt}, and realised with those that landed later, which also has rows and late (seconds, median); each
    None where it cannot be judged.

    A broken pipeline that was valid before goes on as it was defined ``as_of`` then, None for a valid one.

    Costs two ledger reads a pipeline.
    """
    pipelines = [_pipeline(loop, folder) for folder in loop.catalog.live()]
    faults = {name: [str(fault) for fault in faults] for name, faults in loop.catalog.faults().items()}
    return {"pipelines": pipelines, "faults": faults}


def _pipeline(loop: Loop, folder: PipelineFolder) -> dict[str, Any]:
    name = folder.pipeline.name
    state = pipeline_states.read(loop, name)
    run = loop.ports.ledger.read(Run, name, state.last_run) if state.last_run else None
    return {
        "name": name,
        "description": folder.pipeline.description,
        "as_of": folder.since and folder.since.isoformat(),
        "champion": {"version": state.champion, "metrics": state.metrics, "serving": state.serving}
        if state.champion
        else None,
        "previous": state.previous or None,
        "traffic": state.traffic,
        "mirror": state.mirror,
        "last_run": run
        and {
            "id": run.id,
            "cause": run.cause,
            "stage": run.stage,
            "status": run.status,
            "reason": run.reason,
            "version": run.version or None,
            "updated_at": run.updated_at.isoformat(),
        },
        "drift": {"status": state.drift_status, "at": state.drift_at and state.drift_at.isoformat()},
        "performance": {"estimated": _judged(state.estimated), "realised": _judged(state.realised)},
        "rollout": state.rollout or None,
        "frozen": state.frozen,
        "pinned": state.pinned or None,
        "missing_since": state.missing_since and state.missing_since.isoformat(),
        "last_landed_at": state.last_landed_at and state.last_landed_at.isoformat(),
    }


def _judged(found: Estimate | Realised | None) -> dict[str, Any] | None:
    return {**to_record(found), "hurt": found.hurt} if found else None
