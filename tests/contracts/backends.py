"""The harness of each backend: how a contract suite gets its adapters, in any process."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.lake import BlobLake
from shared.adapters.azure.run_ledger import TableLedger
from shared.adapters.azure.signal_queue import StorageQueue
from shared.adapters.local.event_publisher import EventLog
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.run_ledger import SqliteLedger
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.system_clock import SystemClock
from shared.ports.clock import Clock
from tests.standin import Storage


@dataclass(frozen=True)
class LocalBackend:
    """State adapters over the folder ``home``. Each call makes a new one on the same state."""

    home: Path
    container = "lake"

    def lake(self) -> FolderLake:
        return FolderLake(self.home / "lake", "landfall", self.container)

    def ledger(self) -> SqliteLedger:
        return SqliteLedger(self.home / "ledger.db")

    def queue(self, clock: Clock | None = None) -> SqliteQueue:
        return SqliteQueue(self.home / "queue.db", clock or SystemClock())

    def taken(self) -> list[str]:
        """The texts of up to 32 messages that the host can take now; they are gone then."""
        queue = self.queue()
        messages = queue.receive(timedelta(minutes=1), 32)
        for message in messages:
            queue.delete(message)
        return [message.text for message in messages]

    def publisher(self, clock: Clock | None = None) -> EventLog:
        return EventLog(self.home / "events.jsonl", clock)

    def published(self) -> list[dict[str, Any]]:
        """What receivers got."""
        return [json.loads(line) for line in (self.home / "events.jsonl").read_text().splitlines()]

    def empty(self) -> LocalBackend:
        """Another one with nothing in it."""
        return LocalBackend(Path(tempfile.mkdtemp(dir=self.home)))


@dataclass(frozen=True)
class AzureBackend:
    """State adapters over a storage account by the addresses of its services, with the identity of the environment.

    Container, table and queue are its own, so that it is empty although the account is not.
    """

    blobs: str
    queues: str
    tables: str
    name: str

    @classmethod
    def of(cls, storage: Storage) -> AzureBackend:
        """One on an emulator, which is called directly."""
        at = [f"https://127.0.0.1:{port}/{storage.account}" for port in (storage.blob, storage.queue, storage.table)]
        return cls(*at, "").empty()

    @property
    def container(self) -> str:
        return f"lake-{self.name}"

    def lake(self) -> BlobLake:
        return BlobLake(self.blobs, "landfall", self.container, _credential())

    def ledger(self, **options: Any) -> TableLedger:
        return TableLedger(self.tables, _credential(), table=f"ledger{self.name}", **options)

    def queue(self, clock: Clock | None = None) -> StorageQueue:
        return StorageQueue(self.queues, _credential(), name=f"signals-{self.name}")

    def taken(self) -> list[str]:
        """The texts of up to 32 messages that the host can take now; they are gone then."""
        from azure.core.exceptions import ResourceNotFoundError
        from azure.storage.queue import QueueClient

        with QueueClient(self.queues, f"signals-{self.name}", credential=_credential()) as client:
            try:
                messages = list(client.receive_messages(max_messages=32, visibility_timeout=60))
            except ResourceNotFoundError:
                return []
            for message in messages:
                client.delete_message(message)
            return [message.content for message in messages]

    def empty(self) -> AzureBackend:
        """Another one on the same account, with nothing in it."""
        from azure.storage.blob import ContainerClient

        made = replace(self, name=uuid.uuid4().hex[:16])
        with ContainerClient(made.blobs, made.container, credential=_credential()) as client:
            client.create_container()
        return made


def _credential() -> AppCredential:
    return _credential_of(os.environ["IDENTITY_ENDPOINT"])


@cache
def _credential_of(endpoint: str) -> AppCredential:
    """One for all adapters of a process, as in the app; tokens of one stand-in are of no use at another."""
    return AppCredential()


Backend = LocalBackend | AzureBackend
