"""Model versions in the ledger, and which of them are open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shared import pipeline_states
from shared.domain.ledger import PipelineState, Version
from shared.errors import Missing
from shared.loop import Loop

OPEN = ("registered", "evaluating", "waiting")
"""Statuses of a version that the loop has something to do for."""


def read(loop: Loop, pipeline: str, version: str) -> Version:
    """What the ledger knows of a version. Raises Missing when it knows nothing."""
    entry = loop.ports.ledger.read(Version, pipeline, version)
    if entry is None:
        known = ", ".join(v.version for v in loop.ports.ledger.list(Version, pipeline)) or "none"
        raise Missing(f"{pipeline} has no version {version}; known: {known}")
    return entry


def enter(loop: Loop, version: Version) -> Version:
    """The version's entry in the ledger, made when there is none."""
    _list(loop, version)
    entered = loop.ports.ledger.update(Version, version.pipeline, version.version, lambda present: present or version)
    if entered.status not in OPEN:
        unlist(loop, entered)
    return entered


def change(
    loop: Loop, version: Version, *, only_if: Callable[[Version], bool] = lambda present: True, **changes: object
) -> Version:
    """Set fields of a version's entry; it stays as it is when ``only_if`` is false."""

    def changed_fields(present: Version | None) -> Version:
        present = present or version
        return replace(present, **changes) if only_if(present) else present  # type: ignore[arg-type]

    if changes.get("status") in OPEN:
        _list(loop, version)
    changed = loop.ports.ledger.update(Version, version.pipeline, version.version, changed_fields)
    if changed.status not in OPEN:
        unlist(loop, changed)
    return changed


def unlist(loop: Loop, version: Version) -> None:
    """Take a version that waits for nothing more off the list of open ones."""

    def without(state: PipelineState) -> PipelineState:
        return replace(state, open_versions=tuple(v for v in state.open_versions if v != version.version))

    pipeline_states.update(loop, version.pipeline, without)


def _list(loop: Loop, version: Version) -> None:
    def with_it(state: PipelineState) -> PipelineState:
        listed = version.version in state.open_versions
        return state if listed else replace(state, open_versions=(*state.open_versions, version.version))

    pipeline_states.update(loop, version.pipeline, with_it)
