"""What happened and why: runs with their stories, and decisions by what they are about."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from shared import decisions, runs
from shared.domain.ledger import Decision, Run, Version
from shared.domain.records import to_record
from shared.errors import Missing
from shared.loop import Loop

_DIGEST = re.compile(r"-[0-9a-f]{8}(?=(\.[^.]*)?$)")
MOST = 200
"""Decisions about a whole pipeline that are told at once."""


def runs_of(loop: Loop, pipeline: str, *, limit: int | None = None) -> list[dict[str, Any]]:
    """The runs of a pipeline, newest first, without their stories."""
    loop.catalog.get(pipeline)
    newest = sorted(loop.ports.ledger.list(Run, pipeline), key=lambda run: run.created_at, reverse=True)
    return [{k: v for k, v in to_record(run).items() if k != "steps"} for run in newest[:limit]]


def run(loop: Loop, pipeline: str, run_id: str) -> dict[str, Any]:
    """One run with its story (``steps``), its version's evaluation and verdict, the end of its log, and its decisions.

    Steps and decisions are oldest first.
    """
    entry = runs.read(loop, pipeline, run_id)
    version = loop.ports.ledger.read(Version, pipeline, entry.version) if entry.version else None
    job = loop.ports.training.status(entry.job) or loop.ports.features.status(entry.job) if entry.job else None
    return {
        **to_record(entry),
        "model": to_record(version) if version else None,
        "log": list(job.log_tail) if job else [],
        "decisions": [to_record(d) for d in _decisions(loop, pipeline, {run_id})][::-1],
    }


def find_run(loop: Loop, run_id: str) -> str:
    """The pipeline whose run this is. Raises Missing when no pipeline has it."""
    for folder in loop.catalog.live():
        if loop.ports.ledger.read(Run, folder.pipeline.name, run_id):
            return folder.pipeline.name
    raise Missing(f"no run {run_id}; landfall runs lists them")


def why(loop: Loop, subject: str) -> list[dict[str, Any]]:
    """Every decision about a file, run, batch, model version or signal, and about what came of it, oldest first.

    A file leads on to its batch, a batch to its run, a run to its version. A pipeline's name gives the newest
    decisions about anything of it, at most :data:`MOST`. A file may be called as it was before `land` put a digest into
    its name: the newest of that name is meant. Raises Missing when nothing was ever decided about it.
    """
    if subject in loop.catalog.names():
        newest = list(loop.ports.ledger.list(Decision, subject, limit=MOST))
        if newest:
            return [to_record(decision) for decision in reversed(newest)]
    asked = subject.removeprefix("/")
    for pipeline in _pipelines(loop, asked):
        everything = list(loop.ports.ledger.list(Decision, pipeline))
        about = {asked}
        for _ in range(3):
            about |= {s for d in everything if about & set(d.subjects) for s in d.subjects if _leads_on(asked, s)}
        found = [d for d in reversed(everything) if about & set(d.subjects) or d.signal == asked]
        if found:
            return [to_record(d) for d in found]
    landed = _landed_as(loop, asked)
    if asked not in landed and (path := landed.get(asked.rsplit("/", 1)[-1])):
        return why(loop, path)
    near = difflib.get_close_matches(asked.rsplit("/", 1)[-1], landed, n=1)
    hint = f". Did you mean {landed[near[0]]}?" if near else ""
    raise Missing(
        f"nothing was ever decided about {subject!r}; name a lake path, a run, a batch or a model as name:version{hint}"
    )


def _landed_as(loop: Loop, asked: str) -> dict[str, str]:
    """The newest lake path of each landed file, by its name with and without the digest that `land` gives it."""
    found: dict[str, str] = {}
    for pipeline in _pipelines(loop, asked):
        for decision in loop.ports.ledger.list(Decision, pipeline):
            for path in (subject for subject in decision.subjects if "/" in subject):
                name = path.rsplit("/", 1)[-1]
                for known in (name, _DIGEST.sub("", name)):
                    found.setdefault(known, path)
    return found


def _leads_on(asked: str, subject: str) -> bool:
    """Files do not lead back to other files of their batch."""
    return subject == asked or "/" not in subject


def _pipelines(loop: Loop, subject: str) -> Iterator[str]:
    folder = loop.catalog.for_path(subject)
    if folder:
        yield folder.pipeline.name
    yield from (name for name in loop.catalog.names() if not folder or name != folder.pipeline.name)
    yield decisions.NOWHERE


def _decisions(loop: Loop, pipeline: str, about: set[str]) -> Iterator[Decision]:
    return (d for d in loop.ports.ledger.list(Decision, pipeline) if about & set(d.subjects))
