"""A landed file joins the open batch of its pipeline, if it counts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from shared import pipeline_states
from shared.decisions import Outcome
from shared.definitions.catalog import PipelineFolder
from shared.definitions.pipeline_rules import within
from shared.domain import landing
from shared.domain.landing import LandedFile
from shared.domain.ledger import Batch, BatchFile, Entry, Landed, PipelineState, path_key
from shared.domain.signals import BatchDue, DataLanded
from shared.errors import AlreadyExists, Rejected, Transient
from shared.loop import Loop
from shared.ports.signal_queue import MAX_DELAY

DELTA_COMMIT = re.compile(r"/_delta_log/\d{20}\.json$")


def react(signal: DataLanded, loop: Loop) -> Outcome:
    """Put the file into its batch, or say why it does not count."""
    lake = loop.ports.lake
    if (signal.account, signal.container) != (lake.account, lake.container):
        raise Rejected(
            f"{signal.account}/{signal.container}/{signal.path} is not in this app's lake "
            f"{lake.account}/{lake.container}; point the event subscription at that account, "
            "or set LANDFALL_LAKE_ACCOUNT and LANDFALL_LAKE_CONTAINER"
        )
    if signal.api in ("RenameDirectory", "DirectoryRenamed"):
        return _unfold(signal, loop)
    folder = loop.catalog.for_path(signal.path)
    if folder is None:
        return Outcome(
            pipeline="",
            what="file landed",
            outcome="nothing",
            reason=f"no pipeline lands at {signal.path}",
            subjects=(signal.path,),
        )
    reason = why_not(folder, signal.path, signal.api, signal.size)
    if reason:
        return _outcome(folder, signal, "nothing", reason)
    if is_marker(folder, signal.path):
        return _close(signal, folder, loop)
    info = lake.stat(signal.path)
    if info is None:
        return _outcome(folder, signal, "nothing", "the file is gone")
    if signal.etag and info.etag != signal.etag:
        return _outcome(
            folder,
            signal,
            "nothing",
            f"stale: the file was written again since (etag {info.etag}), that has its own event",
        )
    if info.size == 0:
        return _outcome(folder, signal, "nothing", "the file has no content")
    file = LandedFile(
        path=signal.path, etag=info.etag, size=info.size, at=loop.ports.clock.now(), closed=landing.closes(signal.api)
    )
    known = loop.ports.ledger.read(Landed, folder.pipeline.name, path_key(file.path))
    if known and known.file_etag == file.etag:
        return _outcome(folder, signal, "nothing", f"this version of the file is already in batch {known.batch}")
    batch = join(loop, folder, file)
    return _outcome(folder, signal, "done", f"joined batch {batch.id}", batch.id)


def join(loop: Loop, folder: PipelineFolder, file: LandedFile, *, carried_from: Batch | None = None) -> Batch:
    """Put a file into the open batch of its group, opening one when there is none.

    A file that joins while the batch is being closed goes to the next one: it is entered first and
    the batch is looked at afterwards, and whoever closes a batch does it the other way round.
    """
    ledger = loop.ports.ledger
    for _ in range(20):
        batch = _open_batch(loop, folder, file, carried_from)
        entry = BatchFile(batch=f"{batch.pipeline}/{batch.id}", file=file)
        _overwrite(loop, entry)
        present = ledger.read(Batch, batch.pipeline, batch.id)
        if present and present.status == "open":
            remember(loop, batch, file)
            return batch
        if present and any((f.path, f.etag) == (file.path, file.etag) for f in present.files):
            remember(loop, batch, file)
            return present
        if present and present.status == "closing":
            raise Transient(f"batch {batch.id} of {batch.pipeline} is just being closed")
        forget(loop, batch)
    raise Transient(f"no batch of {folder.pipeline.name} stays open long enough for {file.path}; try again")


def _open_batch(loop: Loop, folder: PipelineFolder, file: LandedFile, carried_from: Batch | None) -> Batch:
    name, complete = folder.pipeline.name, folder.pipeline.landing.complete
    now = loop.ports.clock.now()
    group = str(PurePosixPath(file.path).parent) if complete.marker else ""
    if complete.each_file and carried_from is None:
        batch_id = "f" + hashlib.sha256(f"{file.path}@{file.etag}".encode()).hexdigest()[:10]
    else:
        batch_id = _allot(loop, name, group)
    present = loop.ports.ledger.read(Batch, name, batch_id)
    batch = present or Batch(
        pipeline=name,
        id=batch_id,
        status="open",
        opened_at=carried_from.opened_at if carried_from else now,
        group=group,
        carried=carried_from is not None,
    )
    if present is None or (batch.carried and carried_from is None):
        look = _first_look(folder, batch, carried_from is not None, now)
        loop.ports.queue.send(look, delay=max(look.due - now, timedelta(0)))
    if present is None:
        try:
            batch = loop.ports.ledger.insert(batch)
        except AlreadyExists:
            batch = loop.ports.ledger.read(Batch, name, batch_id) or batch
    return batch


def _first_look(folder: PipelineFolder, batch: Batch, carried: bool, now: datetime) -> BatchDue:
    complete = folder.pipeline.landing.complete
    if complete.marker or carried:
        due = batch.opened_at + complete.max_wait
    else:
        due = now + (timedelta(0) if complete.each_file else complete.quiet)
    return BatchDue(pipeline=batch.pipeline, batch=batch.id, due=min(due, now + MAX_DELAY))


def _allot(loop: Loop, pipeline: str, group: str) -> str:
    def change(state: PipelineState) -> PipelineState:
        if group in state.open_batches:
            return state
        number = state.batches + 1
        return replace(state, batches=number, open_batches={**state.open_batches, group: f"b{number:06d}"})

    return pipeline_states.update(loop, pipeline, change).open_batches[group]


def forget(loop: Loop, batch: Batch) -> None:
    """The next file of this group opens a new batch."""

    def change(state: PipelineState) -> PipelineState:
        if state.open_batches.get(batch.group) != batch.id:
            return state
        return replace(state, open_batches={g: b for g, b in state.open_batches.items() if g != batch.group})

    pipeline_states.update(loop, batch.pipeline, change)


def remember(loop: Loop, batch: Batch, file: LandedFile) -> None:
    """This version of the file is in ``batch``: it joins no other. What is known stays when the lake has just that."""
    landed = Landed(pipeline=batch.pipeline, path=file.path, file_etag=file.etag, batch=batch.id, at=file.at)

    def change(known: Landed | None) -> Landed:
        if known is None or known.file_etag == landed.file_etag:
            return landed
        present = loop.ports.lake.stat(file.path)
        return known if present and present.etag == known.file_etag else landed

    loop.ports.ledger.update(Landed, landed.pipeline, landed.key, change)


def _overwrite(loop: Loop, entry: Entry) -> None:
    loop.ports.ledger.update(type(entry), entry.partition, entry.key, lambda _: entry)


def _close(signal: DataLanded, folder: PipelineFolder, loop: Loop) -> Outcome:
    group = str(PurePosixPath(signal.path).parent)
    batch_id = _allot(loop, folder.pipeline.name, group)
    now = loop.ports.clock.now()
    opened = Batch(pipeline=folder.pipeline.name, id=batch_id, status="open", opened_at=now, group=group)
    loop.ports.ledger.update(Batch, opened.pipeline, opened.id, lambda present: present or opened)
    loop.ports.queue.send(BatchDue(pipeline=folder.pipeline.name, batch=batch_id, due=now))
    return _outcome(folder, signal, "done", f"the marker closes batch {batch_id}", batch_id)


def _unfold(signal: DataLanded, loop: Loop) -> Outcome:
    """A folder was renamed into place, be it below, a landing folder itself or above some: each of its files that is
    in a landing folder now has landed."""
    renamed = signal.path.rstrip("/")
    folder = loop.catalog.for_path(f"{renamed}/file")
    tops = (
        [renamed]
        if folder
        else [top for f in loop.catalog.all() if within(top := f.pipeline.landing.path.rstrip("/"), renamed)]
    )
    files = [info for top in tops for info in loop.ports.lake.list(f"{top}/")]
    for info in files:
        loop.ports.queue.send(replace(signal, path=info.path, api="RenameFile", etag=info.etag, size=info.size))
    return Outcome(
        pipeline=folder.pipeline.name if folder else "",
        what="file landed",
        outcome="done" if tops else "nothing",
        reason=f"a folder of {len(files)} files was renamed into place" if tops else f"no pipeline lands at {renamed}",
        subjects=(signal.path,),
    )


def is_marker(folder: PipelineFolder, path: str) -> bool:
    """True for the file that the pipeline waits for by its name."""
    return PurePosixPath(path).name == folder.pipeline.landing.complete.marker


def why_not(folder: PipelineFolder, path: str, api: str, size: int | None) -> str:
    """Why a file of the pipeline's landing folder is no data, in words; empty when it is."""
    if is_marker(folder, path):
        return ""
    if folder.pipeline.landing.format == "delta":
        return "" if DELTA_COMMIT.search(path) else "a part of a Delta table counts with the commit that names it"
    return landing.ignored(path, api, size)


def _outcome(folder: PipelineFolder, signal: DataLanded, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(
        pipeline=folder.pipeline.name,
        what="file landed",
        outcome=outcome,
        reason=reason,
        subjects=(signal.path, *subjects),
    )
