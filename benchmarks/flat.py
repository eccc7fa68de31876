"""What one signal costs, with more pipelines and a longer history: a landed file from claim to settled claim."""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import azurite
from benchmarks.figures import Figure
from shared import bootstrap, reactions, settings
from shared.definitions.catalog import Catalog
from shared.definitions.last_valid import LastValid
from shared.domain.ledger import Landed
from shared.domain.records import to_record
from shared.domain.signals import DataLanded, ReconcileDue
from shared.loop import Loop
from shared.ports.run_ledger import RunLedger

PIPELINE = """
name: {name}
landing:
  path: landing/{name}
  complete: {{quiet: 1h, max_wait: 2h}}
  columns: {{id: string, label: string}}
features: {{key: id, label: label}}
"""
COPY = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO entries SELECT kind, CASE kind WHEN 'claim' THEN partition || n ELSE partition END,
    CASE kind WHEN 'claim' THEN key ELSE key || n END, etag || n, body
FROM entries, numbers WHERE kind IN ('claim', 'decision', 'landed')
"""
"""A history that looks as a long one does: claims of other signals, decisions and landed files of the pipeline."""

Fill = Callable[[Loop, Path, int], None]


def run(quick: bool) -> list[Figure]:
    """Milliseconds of one signal, median; the ratio is to the smallest of its table.

    With SQLite they are of processor time, which other processes on the machine do not add to; with Azurite of the
    clock, as the time is the emulator's.
    """
    pipelines = (10, 100) if quick else (10, 100, 1000)
    rows = (1_000, 100_000) if quick else (1_000, 100_000, 1_000_000)
    files = (1_000, 30_000) if quick else (1_000, 30_000, 300_000)
    few = (1_000, 2_000) if quick else (1_000, 10_000)
    figures = _grow("SQLite, pipelines", [(many, 1_000) for many in pipelines], None, _copied, 0)
    figures += _grow("SQLite, ledger rows", [(10, many) for many in rows], None, _copied, 1)
    figures += _grow("SQLite, files in the lake", [(10, many) for many in files], None, _landed, 1)
    with azurite.ledgers() as make:
        if make is not None:
            figures += _grow("Azurite, ledger rows", [(10, many) for many in few], make, _copied_on_azure, 1)
    return figures


def _grow(
    what: str, sizes: Sequence[tuple[int, int]], make: Callable[[], RunLedger] | None, fill: Fill, shown: int
) -> list[Figure]:
    figures: list[Figure] = []
    taken = {size: _measure(*size, make, fill) for size in sizes}
    for number, name in enumerate(("a file lands", "reconcile")):
        least = statistics.median(taken[sizes[0]][number])
        for size in sizes:
            values = taken[size][number]
            median = statistics.median(values)
            figures.append(
                Figure(f"{name}: {what}", f"{size[shown]:,}", "ms", median, max(values), len(values), median / least)
            )
    return figures


def _measure(
    pipelines: int, rows: int, make: Callable[[], RunLedger] | None, fill: Fill
) -> tuple[list[float], list[float]]:
    """(milliseconds of each landed file, of each reconcile) of one pipeline among ``pipelines``."""
    with tempfile.TemporaryDirectory(prefix="landfall-flat-") as name:
        home, root = Path(name) / "home", Path(name) / "pipelines"
        for number in range(pipelines):
            _pipeline(root / f"p{number:04}")
        loop = bootstrap.build(replace(settings.load({}), home=home, pipelines=root))
        if make is not None:
            ports = replace(loop.ports, ledger=make())
            loop = replace(loop, ports=ports, catalog=Catalog(root, last_valid=LastValid(ports.ledger, ports.clock)))
        signals = [_land(loop, number) for number in range(101)]
        reactions.handle(signals[0], loop)
        fill(loop, home, rows)
        now = time.process_time if make is None else time.perf_counter
        landed = [_milliseconds(signal, loop, now) for signal in signals[1:]]
        ticks = (ReconcileDue(slot=datetime(2026, 1, 1, 0, minute, tzinfo=UTC)) for minute in range(4))
        # The first one keeps every pipeline's definition.
        reconciles = [_milliseconds(tick.to_message(), loop, now) for tick in ticks][1:]
        return landed, reconciles


def _milliseconds(signal: str, loop: Loop, now: Callable[[], float]) -> float:
    begun = now()
    outcome = reactions.handle(signal, loop)
    took = (now() - begun) * 1000
    if outcome.outcome not in ("done", "nothing"):
        raise RuntimeError(f"{signal}: {outcome.reason}")
    return took


def _pipeline(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(PIPELINE.format(name=folder.name))
    (folder / "features.sql").write_text("select id, label from landed")
    (folder / "train.py").touch()
    (folder / "environment.yml").write_text(f"name: {folder.name}\ndependencies: [python=3.11]\n")


def _land(loop: Loop, number: int) -> str:
    lake = loop.ports.lake
    info = lake.write(f"landing/p0000/{number}.csv", f"id,label\n{number},a\n".encode())
    signal = DataLanded(
        account=lake.account,
        container=lake.container,
        path=info.path,
        api="FlushWithClose",
        event=info.etag,
        at=info.modified,
        etag=info.etag,
        size=info.size,
    )
    return signal.to_message()


def _copied(loop: Loop, home: Path, rows: int) -> None:
    with sqlite3.connect(home / "ledger.db") as database:
        database.execute(COPY, (rows // 3,))
    database.close()


def _landed(loop: Loop, home: Path, files: int) -> None:
    """Files in a hundred folders, all of them in a batch."""
    place = home / "lake" / "landing" / "p0000"
    for number in range(100):
        (place / f"{number:02}").mkdir()
    for number in range(files):
        (place / f"{number % 100:02}" / f"{number}.csv").write_bytes(b"id,label\n1,a\n")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    entries = (
        Landed(pipeline="p0000", path=info.path, file_etag=info.etag, batch="b000000", at=at)
        for info in loop.ports.lake.list("landing/p0000/")
        if info.path.count("/") == 3
    )
    with sqlite3.connect(home / "ledger.db") as database:
        database.executemany(
            "INSERT INTO entries (kind, partition, key, etag, body) VALUES (?, ?, ?, ?, ?)",
            ((e.KIND, e.partition, e.key, e.file_etag, json.dumps(to_record(e))) for e in entries),
        )
    database.close()


def _copied_on_azure(loop: Loop, home: Path, rows: int) -> None:
    """Decisions and landed files as above, a hundred a call; claims, each in a partition of its own, take too long."""
    copied = [
        row for row in azurite.entities(loop.ports.ledger) if row["PartitionKey"].startswith(("decision", "landed"))
    ]
    for row in copied:
        copies = [{**row, "RowKey": f"{row['RowKey']}{n}"} for n in range(rows // len(copied))]
        azurite.insert(loop.ports.ledger, copies)
