"""Messages that functions put out at the same time share transactions, and no one's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from landfall.host.outbox import Outbox
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.system_clock import SystemClock
from shared.errors import Rejected, Transient
from shared.ports.signal_queue import MAX_BYTES
from shared.settings import QUEUE


@pytest.fixture
def queue(tmp_path: Path) -> SqliteQueue:
    return SqliteQueue(tmp_path / "queue.db", SystemClock())


def put_all(queue: SqliteQueue, *messages: Sequence[str]) -> list[BaseException | None]:
    """What came of each put, all asked for at once."""

    async def ask() -> list[BaseException | None]:
        with Outbox(queue) as outbox:
            return await asyncio.gather(*(outbox.put(QUEUE, some) for some in messages), return_exceptions=True)

    return asyncio.run(ask())


def test_a_burst_takes_few_transactions(queue: SqliteQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions: list[int] = []
    put = queue.put
    monkeypatch.setattr(queue, "put", lambda texts: (transactions.append(len(texts)), put(texts)))
    assert put_all(queue, *([f"{n}"] for n in range(200))) == [None] * 200
    assert sum(transactions) == queue.counts()["visible"] == 200
    assert len(transactions) <= 2


def test_a_message_that_no_queue_takes_is_its_senders_fault_alone(queue: SqliteQueue) -> None:
    good, bad, other = put_all(queue, ["a"], ["b", "x" * (MAX_BYTES + 1)], ["c"])
    assert (good, other) == (None, None)
    assert isinstance(bad, Rejected)
    assert sorted(message.text for message in queue.receive(timedelta(minutes=1))) == ["a", "c"]


def test_all_who_share_a_transaction_learn_that_it_failed(tmp_path: Path) -> None:
    (tmp_path / "queue.db").mkdir()
    results = put_all(SqliteQueue(tmp_path / "queue.db", SystemClock()), ["a"], ["b"])
    assert [type(result) for result in results] == [Transient, Transient]
