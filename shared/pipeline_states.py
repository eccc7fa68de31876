"""Where a pipeline stands, in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shared.domain.ledger import PipelineState
from shared.loop import Loop


def read(loop: Loop, pipeline: str) -> PipelineState:
    """The state; a fresh one when nothing ever happened to the pipeline."""
    return loop.ports.ledger.read(PipelineState, pipeline, "state") or PipelineState(pipeline=pipeline)


def update(loop: Loop, pipeline: str, change: Callable[[PipelineState], PipelineState]) -> PipelineState:
    """Replace the state by what ``change`` makes of it, which is asked again when somebody else was faster."""
    fresh = PipelineState(pipeline=pipeline)
    return loop.ports.ledger.update(PipelineState, pipeline, "state", lambda state: change(state or fresh))


def set_fields(loop: Loop, pipeline: str, **fields: object) -> PipelineState:
    """Set fields of the state whatever they were."""
    return update(loop, pipeline, lambda state: replace(state, **fields))  # type: ignore[arg-type]
