"""The harness of each backend: how a contract suite gets its adapters, in any process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.adapters.local.clock import SystemClock
from shared.adapters.local.event_publisher import EventLog
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.run_ledger import SqliteLedger
from shared.adapters.local.signal_queue import SqliteQueue
from shared.ports.clock import Clock


@dataclass(frozen=True)
class LocalBackend:
    """State adapters over the folder ``home``. Each call makes a new one on the same state."""

    home: Path

    def lake(self) -> FolderLake:
        return FolderLake(self.home / "lake", "landfall", "lake")

    def ledger(self) -> SqliteLedger:
        return SqliteLedger(self.home / "ledger.db")

    def queue(self, clock: Clock | None = None) -> SqliteQueue:
        return SqliteQueue(self.home / "queue.db", clock or SystemClock())

    def publisher(self, clock: Clock | None = None) -> EventLog:
        return EventLog(self.home / "events.jsonl", clock)

    def published(self) -> list[dict[str, Any]]:
        """What receivers got."""
        return [json.loads(line) for line in (self.home / "events.jsonl").read_text().splitlines()]


BACKENDS = {"local": LocalBackend}
