"""A landing batch that may be complete: wait on, or close it and begin a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath

from shared import pipeline_states, preparation, runs
from shared.decisions import Outcome
from shared.definitions.catalog import PipelineFolder
from shared.domain import landing
from shared.domain.landing import LandedFile
from shared.domain.ledger import Batch, BatchFile, Landed, PipelineState, path_key
from shared.domain.signals import BatchDue
from shared.errors import Missing, Transient
from shared.loop import Loop
from shared.ports.signal_queue import MAX_DELAY
from shared.reactions import data_landed


def react(signal: BatchDue, loop: Loop) -> Outcome:
    """Close the batch when it is complete and start preparing its features; else come back later."""
    folder = loop.catalog.whole(signal.pipeline)
    batch = loop.ports.ledger.read(Batch, signal.pipeline, signal.batch)
    if batch is None:
        raise Transient(f"batch {signal.batch} of {signal.pipeline} is not in the ledger yet")
    if batch.status == "open":
        batch = _set_right(loop, batch)
        again, why = _wait(loop, folder, batch)
        if again is not None:
            again = min(again, MAX_DELAY)
            due = loop.ports.clock.now() + again
            loop.ports.queue.send(BatchDue(pipeline=signal.pipeline, batch=batch.id, due=due), delay=again)
            return Outcome(pipeline=signal.pipeline, what="batch", outcome="nothing", reason=why, subjects=(batch.id,))
    batch = _close(loop, folder, batch)
    if batch.status not in ("closed", "failed"):
        return Outcome(
            pipeline=signal.pipeline,
            what="batch",
            outcome="nothing",
            reason=f"batch {batch.id} is already {batch.status}",
            subjects=(batch.id,),
        )
    if pipeline_states.read(loop, signal.pipeline).frozen:
        return Outcome(
            pipeline=signal.pipeline,
            what="batch",
            outcome="nothing",
            reason=f"{signal.pipeline} is frozen: batch {batch.id} waits for landfall freeze --off",
            subjects=(batch.id,),
        )
    run = runs.begin(
        loop, signal.pipeline, f"{signal.pipeline}-{batch.id}", "landing", (batch.id,), f"batch {batch.id} is complete"
    )
    if run.stage == "features" and not run.ended:
        run = preparation.request(loop, folder, run)
    return Outcome(
        pipeline=signal.pipeline,
        what="batch closed",
        reason=f"{len(batch.files)} file{'' if len(batch.files) == 1 else 's'}, run {run.id} begins",
        subjects=(batch.id, run.id, *(f.path for f in batch.files)),
    )


def _set_right(loop: Loop, batch: Batch) -> Batch:
    """The batch, opened now when it was opened by a clock that was ahead."""
    now = loop.ports.clock.now()
    if batch.opened_at <= now:
        return batch
    return loop.ports.ledger.update(
        Batch, batch.pipeline, batch.id, lambda b: replace(b or batch, opened_at=min((b or batch).opened_at, now))
    )


def _wait(loop: Loop, folder: PipelineFolder, batch: Batch) -> tuple[timedelta | None, str]:
    complete = folder.pipeline.landing.complete
    now = loop.ports.clock.now()
    files = []
    for entry in _members(loop, batch):
        settled = _settled(loop, entry)
        files.append(settled.file)
    marked = complete.marker is not None and loop.ports.lake.stat(f"{batch.group}/{complete.marker}") is not None
    return landing.wait(files, complete, opened_at=batch.opened_at, now=now, marked=marked, carried=batch.carried)


def _settled(loop: Loop, entry: BatchFile) -> BatchFile:
    """The file as the lake has it now. One that nobody was seen to close counts as new when it has changed, and so
    does one that was noted by a clock that was ahead."""
    now = loop.ports.clock.now()
    if entry.file.at > now:
        return _note(loop, entry, replace(entry.file, at=now))
    if entry.file.closed:
        return entry
    info = loop.ports.lake.stat(entry.file.path)
    if info is None or (info.etag, info.size) == (entry.file.etag, entry.file.size):
        return entry
    return _note(loop, entry, replace(entry.file, etag=info.etag, size=info.size, at=now))


def _note(loop: Loop, entry: BatchFile, file: LandedFile) -> BatchFile:
    return loop.ports.ledger.update(
        BatchFile, entry.partition, entry.key, lambda present: replace(present or entry, file=file)
    )


def _close(loop: Loop, folder: PipelineFolder, batch: Batch) -> Batch:
    ledger = loop.ports.ledger

    def closing(present: Batch | None) -> Batch:
        present = _known(present, batch)
        return replace(present, status="closing") if present.status == "open" else present

    batch = ledger.update(Batch, batch.pipeline, batch.id, closing)
    if batch.status == "closing":
        files = tuple(_content(loop, folder, batch))

        def close(present: Batch | None) -> Batch:
            present = _known(present, batch)
            if present.status != "closing":
                return present
            now = loop.ports.clock.now()
            return replace(present, status="closed" if files else "empty", closed_at=now, files=files)

        batch = ledger.update(Batch, batch.pipeline, batch.id, close)
    if batch.status == "closed":
        for file in batch.files:
            data_landed.remember(loop, batch, file)
        _note_closed(loop, batch)
    else:
        data_landed.forget(loop, batch)
    return batch


def _note_closed(loop: Loop, batch: Batch) -> None:
    now = loop.ports.clock.now()
    newest = min(max(file.at for file in batch.files), now)

    def change(state: PipelineState) -> PipelineState:
        return replace(
            state,
            open_batches={g: b for g, b in state.open_batches.items() if b != batch.id},
            # Until its run begins; it stands here once, though the signal may come again.
            closed_batches=(*(b for b in state.closed_batches if b != batch.id), batch.id),
            last_landed_at=max(newest, min(state.last_landed_at or newest, now)),
        )

    pipeline_states.update(loop, batch.pipeline, change)


def _known(present: Batch | None, batch: Batch) -> Batch:
    if present is None:
        raise Missing(f"batch {batch.id} of {batch.pipeline} has vanished from the ledger")
    return present


def _content(loop: Loop, folder: PipelineFolder, batch: Batch) -> Iterator[LandedFile]:
    """The batch's files as the lake has them now; with a marker also those whose events have not come."""
    found = {entry.file.path: entry.file for entry in _members(loop, batch)}
    if folder.pipeline.landing.complete.marker:
        for info in loop.ports.lake.list(f"{batch.group}/"):
            same_folder = str(PurePosixPath(info.path).parent) == batch.group
            if same_folder and info.path not in found and not landing.ignored(info.path, "Found", info.size):
                known = loop.ports.ledger.read(Landed, batch.pipeline, path_key(info.path))
                if known is None or known.file_etag != info.etag:
                    found[info.path] = LandedFile(path=info.path, etag=info.etag, size=info.size, at=info.modified)
    for path in sorted(found):
        present = loop.ports.lake.stat(path)
        if present is not None:
            yield replace(found[path], etag=present.etag, size=present.size)


def _members(loop: Loop, batch: Batch) -> Iterator[BatchFile]:
    return loop.ports.ledger.list(BatchFile, f"{batch.pipeline}/{batch.id}")
