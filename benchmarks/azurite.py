"""The ledger of Azure on Microsoft's storage emulator, where this machine can run it."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from shared.adapters.azure.run_ledger import TableLedger
from shared.ports.run_ledger import RunLedger
from tests.azurite import Azurite, Unavailable

if TYPE_CHECKING:
    from azure.data.tables import TableClient

TOGETHER = 100
"""Entities that a table takes in one transaction."""


def entities(ledger: RunLedger) -> list[dict[str, Any]]:
    """All that the table of a ledger holds."""
    return [dict(entity) for entity in _table(ledger).list_entities()]


def insert(ledger: RunLedger, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put entities of one partition into the table of a ledger, as many a call as a table takes."""
    for begin in range(0, len(rows), TOGETHER):
        _table(ledger).submit_transaction([("create", row) for row in rows[begin : begin + TOGETHER]])


def _table(ledger: RunLedger) -> TableClient:
    if not isinstance(ledger, TableLedger):
        raise TypeError(f"{ledger!r} is in no table")
    return ledger._opened()


@contextmanager
def ledgers() -> Iterator[Callable[[], TableLedger] | None]:
    """What makes empty ledgers on one emulator; None, after a line that says why, where there is no Node.js."""
    from azure.core.credentials import AzureNamedKeyCredential

    with tempfile.TemporaryDirectory(prefix="landfall-azurite-") as name:
        emulator = Azurite(Path(name))
        try:
            storage = emulator.start()
        except Unavailable as error:
            print(f"without Azurite: {error}", flush=True)
            yield None
            return
        authority = Path(name) / "authority.pem"
        authority.write_bytes(storage.authority)
        url = f"https://127.0.0.1:{storage.table}/{storage.account}"
        key = AzureNamedKeyCredential(storage.account, storage.key)
        try:
            with patch.dict(os.environ, REQUESTS_CA_BUNDLE=str(authority)):
                yield lambda: TableLedger(url, key, table=f"ledger{uuid.uuid4().hex[:16]}")  # type: ignore[arg-type]
        finally:
            emulator.stop()
