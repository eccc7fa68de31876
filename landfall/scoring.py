"""Scoring by hand: one JSON request, or a table of any size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from landfall.session import open_loop
from landfall.show import console
from shared.errors import AlreadyExists, InvalidRequest, Rejected, Transient
from shared.loop import Loop
from shared.ports.batch_service import BatchScoringJob
from shared.ports.jobs import JobStatus
from shared.reactions.batch_scoring_requested import plan

SHOWN = 5
SAMPLED_BYTES = 1 << 20
PROGRESS = '{"rows"'
PATIENCE_SECONDS, PAUSE_SECONDS = 600.0, 5.0


def score_request(pipeline: str, file: Path) -> dict[str, Any]:
    """The answer to the request in a JSON file, as the HTTP function would give it.

    Raises :class:`~shared.errors.InvalidRequest` with each wrong column and row in its message.
    """
    from shared.scoring.answering import score

    try:
        payload = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Rejected(f"{file} is no JSON: {error}") from error
    loop = open_loop()
    try:
        return score(loop, pipeline, payload, deployment=None, request_id=uuid.uuid4().hex)
    except InvalidRequest as error:
        raise Rejected("\n  ".join((f"{file.name} does not fit the model:", *map(_fault, error.faults)))) from error
    finally:
        loop.predictions.close()


def _fault(fault: dict[str, Any]) -> str:
    row = f"row {fault['row']}, " if fault.get("row") is not None else ""
    return f"{row}column {fault.get('column')}: {fault.get('problem')}"


def score_table(pipeline: str, file: Path, out: Path | None, *, quiet: bool = False) -> dict[str, Any]:
    """Score all rows of a csv, parquet or jsonl file with the champion, in bounded memory; the same file once.

    Returns rows, problems, version and the parquet file with the predictions: ``out`` if it is given, else the
    laptop's lake has it, or a file beside the input when the lake is on Azure. Raises Rejected when the
    input does not fit the model.
    """
    loop = open_loop()
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:12]
    source = f"scoring/{pipeline}/{file.stem}-{digest}{file.suffix}"
    loop.catalog.get(pipeline)
    with contextlib.suppress(AlreadyExists):
        loop.ports.lake.upload(source, file, overwrite=False)
    target = f"scoring/{pipeline}/{file.stem}-{digest}.predictions.parquet"
    job = plan(loop, pipeline, source, target)
    _submit(loop, job)
    status, done = _follow(loop, job.name, _rows(file), quiet)
    if status.state != "completed":
        said = [line for line in status.log_tail[-1:] if not line.startswith(PROGRESS)]
        raise Rejected(" ".join((f"{file.name} was not scored: {status.reason}", *said)))
    local = loop.settings.backend == "local"
    place = out or (Path(loop.ports.lake.uri(target)) if local else file.with_suffix(".predictions.parquet"))
    if out or not local:
        loop.ports.lake.download(target, place)
    if not quiet:
        _show(place, done, job)
    return {"rows": done["rows"], "problems": done["problems"], "version": job.version, "predictions": str(place)}


def _submit(loop: Loop, job: BatchScoringJob) -> None:
    """Submit the job. On Azure the first one of a version has to wait for its deployment."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            loop.ports.batch.submit(job)
        except Transient as error:
            if time.monotonic() > end:
                raise
            console.print(f"[dim]{escape(str(error))}[/dim]", soft_wrap=True)
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _follow(loop: Loop, job: str, rows: int | None, quiet: bool) -> tuple[JobStatus, dict[str, Any]]:
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task("scoring", total=rows)
        while True:
            status = loop.ports.batch.status(job)
            done = _last_line(status)
            bar.update(task, completed=done["rows"])
            if status and status.ended:
                bar.update(task, total=done["rows"])
                return status, done
            time.sleep(0.1 if loop.settings.backend == "local" else PAUSE_SECONDS)


def _last_line(status: JobStatus | None) -> dict[str, Any]:
    for line in reversed(status.log_tail if status else ()):
        if line.startswith(PROGRESS):
            done: dict[str, Any] = json.loads(line)
            return done
    return {"rows": 0, "problems": 0, "seconds": 0.0}


def _rows(file: Path) -> int | None:
    """How many rows a parquet file says it has, and a text file has if its beginning is like the rest of it."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: int = pq.ParquetFile(file).metadata.num_rows
        return rows
    with file.open("rb") as content:
        beginning = content.read(SAMPLED_BYTES)
    lines = beginning.count(b"\n")
    compressed = file.suffix == ".gz"
    return None if compressed or not lines else round(file.stat().st_size / len(beginning) * lines)


def _show(place: Path, done: dict[str, Any], job: BatchScoringJob) -> None:
    import pyarrow.parquet as pq

    first = next(pq.ParquetFile(place).iter_batches(SHOWN)).to_pylist()
    # Without a positive class it is the probability of the class that is predicted.
    of_class = {"probability": f"P({job.positive or 'prediction'})"}
    table = Table(
        *(escape(of_class.get(name, name)) for name in first[0]), box=None, header_style="bold", pad_edge=False
    )
    for row in first:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else "" if v is None else str(v) for v in row.values()))
    console.print(table)
    problems = f", {done['problems']:,} of them with a problem" if done["problems"] else ""
    console.print(f"\n{done['rows']:,} rows scored with version {job.version}{problems}: {place}", soft_wrap=True)
