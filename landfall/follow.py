"""Following a run as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.markup import escape

from landfall.show import coloured, console, when
from shared.claims import SETTLED
from shared.domain.durations import in_words
from shared.domain.ledger import Batch, Claim, Landed, Run, path_key
from shared.domain.signals import DataLanded, Signal
from shared.loop import Loop
from shared.ports.lake import FileInfo

POLL_SECONDS = 0.1


def settled(loop: Loop, signal: Signal, seconds: float = 60) -> Claim | None:
    """The claim of a signal once it was handled; None when that takes longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        claim = loop.ports.ledger.read(Claim, signal.claim_key, "claim")
        if claim and claim.status in SETTLED:
            return claim
        time.sleep(POLL_SECONDS)
    return None


def _closes(loop: Loop, pipeline: str) -> str:
    complete = loop.catalog.get(pipeline).pipeline.landing.complete
    if complete.each_file:
        return "at once"
    if complete.marker:
        return f"when {complete.marker} lands, or {in_words(complete.max_wait)} after it was opened"
    return f"when nothing more lands for {in_words(complete.quiet)}"


def run_of_file(loop: Loop, pipeline: str, info: FileInfo, say: Callable[[str], None], seconds: float) -> Run | str:
    """The run that a landed file ends up in, or why it ends up in none. Waits for its batch to close."""
    lake = loop.ports.lake
    landing = DataLanded(
        account=lake.account,
        container=lake.container,
        path=info.path,
        etag=info.etag,
        api="",
        event="",
        at=info.modified,
    )
    deadline = time.monotonic() + seconds
    said = ""
    while time.monotonic() < deadline:
        landed = loop.ports.ledger.read(Landed, pipeline, path_key(info.path))
        if landed and landed.file_etag == info.etag:
            batch = loop.ports.ledger.read(Batch, pipeline, landed.batch)
            run = loop.ports.ledger.read(Run, pipeline, f"{pipeline}-{landed.batch}")
            if run:
                return run
            if said != landed.batch:
                say(f"joined batch {landed.batch}, which closes {_closes(loop, pipeline)}")
                said = landed.batch
            if batch and batch.status == "closed" and batch.reason:
                return batch.reason
        else:
            claim = loop.ports.ledger.read(Claim, landing.claim_key, "claim")
            if claim and claim.status in SETTLED:
                return claim.reason
        time.sleep(POLL_SECONDS)
    return f"{info.path} was not taken into a run within {seconds:.0f} s; landfall why {info.path} tells more"


def follow(loop: Loop, run: Run, *, quiet: bool = False, until: Callable[[Run], bool] | None = None) -> Run:
    """Print a run's steps as they are made, until it has ended, waits for a person, or ``until`` says so."""
    shown = 0
    with console.status("", spinner="dots") if not quiet else _nothing() as spinner:
        while True:
            run = loop.ports.ledger.read(Run, run.pipeline, run.id) or run
            for step in run.steps[shown:]:
                if not quiet and step.note:
                    console.print(
                        f"  [dim]{when(step.at)}[/]  {step.stage:<10} {coloured(step.status)}  {escape(step.note)}"
                    )
            shown = len(run.steps)
            if run.ended or (run.stage == "gate" and run.status == "waiting") or (until and until(run)):
                return run
            if spinner is not None:
                spinner.update(f"{run.stage}: {_latest(loop, run)}")
            time.sleep(POLL_SECONDS)


def _latest(loop: Loop, run: Run) -> str:
    if run.job and run.stage in ("training", "evaluation"):
        job = loop.ports.training.status(run.job)
        if job and job.log_tail:
            return job.log_tail[-1][:100].replace("[", "\\[")
    return run.reason or run.status


class _nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
