"""What reconcile looks at: some of the landing folder, of the batches and of the pipelines at a time, in turn.

So a reconcile costs the same however much has landed, and finds in the end whatever nobody told: no clock and no time
of a file plays a part. Small pipelines are looked at as a whole each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from shared.decisions import NOWHERE
from shared.definitions.catalog import PipelineFolder
from shared.domain.ledger import Batch, Landed, Look, path_key
from shared.loop import Loop
from shared.ports.lake import FileInfo

PAGES = 4
"""Pages of a landing folder at a time: up to 20,000 files."""
BATCHES = 500
"""Batches of a pipeline at a time, those with many files fewer: they count as one for each :data:`FILES_EACH`."""
FILES_EACH = 40
PIPELINES = 100
"""Pipelines at a time that are compared with the lake and the services though nothing is known to be under way."""
STRIDE = 32
"""Entries of files that are gone from the lake, read one by one before they are skipped by a query of its own."""


def pipelines(loop: Loop, folders: Sequence[PipelineFolder]) -> set[str]:
    """The names of those whose turn it is: all where there are few."""
    names = [folder.pipeline.name for folder in folders]
    if len(names) <= PIPELINES:
        return set(names)
    last = _look(loop, NOWHERE).pipelines
    turn = [*(name for name in names if name > last), *names][:PIPELINES]
    _come_to(loop, NOWHERE, pipelines=turn[-1])
    return set(turn)


def unknown_files(loop: Loop, folder: PipelineFolder) -> Iterator[FileInfo]:
    """Files of the landing folder that are in no batch in their present version.

    The next look goes on behind them once all were taken: a process that dies before looks at them again.
    """
    name, top = folder.pipeline.name, f"{folder.pipeline.landing.path.rstrip('/')}/"
    begun = after = _look(loop, name).files
    for _ in range(PAGES):
        files, after = loop.ports.lake.page(top, after)
        yield from _without_entry(loop, name, sorted(files, key=lambda file: file.path))
        if not after:
            break
    if after != begun:
        _come_to(loop, name, files=after)


def batches(loop: Loop, pipeline: str) -> Iterator[Batch]:
    """Some batches, whatever became of them; the next look goes on behind them once all were taken."""
    begun = last = _look(loop, pipeline).batches
    left = BATCHES
    for batch in loop.ports.ledger.list(Batch, pipeline, start=begun):
        if batch.id == begun:
            continue
        if left <= 0:
            break
        left -= 1 + len(batch.files) // FILES_EACH
        last = batch.id
        yield batch
    else:
        last = ""
    if last != begun:
        _come_to(loop, pipeline, batches=last)


def _without_entry(loop: Loop, pipeline: str, files: Sequence[FileInfo]) -> Iterator[FileInfo]:
    """Those of ``files``, in path order, whose version the ledger does not have: it is read along with them."""
    ledger = loop.ports.ledger
    entries: Iterator[Landed] | None = None
    entry: Landed | None = None
    for info in files:
        key = path_key(info.path)
        if key != info.path:
            # Keys of long paths are in another order.
            known = ledger.read(Landed, pipeline, key)
        else:
            passed = 0
            while entries and entry and entry.key < key and passed < STRIDE:
                entry, passed = next(entries, None), passed + 1
            if entries is None or (entry and entry.key < key):
                entries = ledger.list(Landed, pipeline, start=key)
                entry = next(entries, None)
            known = entry if entry and entry.key == key else None
        if known is None or known.file_etag != info.etag:
            yield info


def _look(loop: Loop, pipeline: str) -> Look:
    return loop.ports.ledger.read(Look, pipeline, "look") or Look(pipeline=pipeline)


def _come_to(loop: Loop, pipeline: str, **where: Any) -> None:
    loop.ports.ledger.update(Look, pipeline, "look", lambda look: replace(look or Look(pipeline=pipeline), **where))
