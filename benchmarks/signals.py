"""How many signals ledgers and the laptop's queue take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks import azurite
from benchmarks.figures import Figure, interleaved
from shared.adapters.local.run_ledger import SqliteLedger
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.system_clock import SystemClock
from shared.domain.ledger import Claim
from shared.domain.signals import ReconcileDue
from shared.ports.run_ledger import RunLedger

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(quick: bool) -> list[Figure]:
    """Claims and sends a second, with one worker and with eight."""
    many = 500 if quick else 4000
    claims = {f"claims, {workers} workers": partial(_claims, workers, many) for workers in (1, 8)}
    sends = {f"sends, {workers} workers": partial(_sends, workers, many) for workers in (1, 8)}
    rounds = 2 if quick else 5
    with azurite.ledgers() as make:
        if make is not None:
            claims |= {
                f"claims on Azurite, {workers} workers": partial(_inserts, workers, many // 20, make)
                for workers in (1, 8)
            }
        figures = interleaved("ledger", "/s", claims, runs=rounds, more_is_better=True)
    return [*figures, *interleaved("queue", "/s", sends, runs=rounds, more_is_better=True)]


def _claims(workers: int, many: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        ledger = SqliteLedger(Path(folder) / "ledger.db")
        rate = _inserts(workers, many, lambda: ledger)
        ledger.close()
        return rate


def _inserts(workers: int, many: int, make: Callable[[], RunLedger]) -> float:
    """Claims a second into a new ledger; what its first write opens does not count."""
    ledger = make()
    first, *claims = (
        Claim(signal=f"s{n}", message="", status="working", owner="me", lease_until=NOW, first_seen=NOW)
        for n in range(many + 1)
    )
    ledger.insert(first)
    return _rate(workers, ledger.insert, claims)


def _sends(workers: int, many: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        queue = SqliteQueue(Path(folder) / "queue.db", SystemClock())
        rate = _rate(workers, queue.send, [ReconcileDue(slot=NOW)] * many)
        queue.close()
        return rate


def _rate(workers, do, things) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(do, things):
            pass
    return len(things) / (time.perf_counter() - start)
