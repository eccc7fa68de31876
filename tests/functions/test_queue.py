"""Queue messages: again after a failure, on the poison queue after the last, and never lost in a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from landfall.host import LaptopHost, queue_pump, running
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.system_clock import SystemClock
from tests.functions.tiny_app import Seen, message, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queue(tmp_path: Path) -> SqliteQueue:
    return SqliteQueue(tmp_path / "queue.db", SystemClock())


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_pump, "retry_delay", lambda attempt: timedelta(milliseconds=20 * attempt))


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_pump, "LEASE", timedelta(seconds=0.4))


def empty(queue: SqliteQueue) -> bool:
    return queue.next_visible_at() is None


def test_a_message_that_is_handled_is_gone(host: LaptopHost, queue: SqliteQueue, seen: Seen) -> None:
    queue.send(message("one"))
    assert seen.wait("queue_signals") == ["one"]
    until(lambda: empty(queue))
    assert queue.counts() == {"visible": 0, "invisible": 0}


def test_a_delayed_message_comes_when_its_time_has_come(host: LaptopHost, queue: SqliteQueue, seen: Seen) -> None:
    begun = time.monotonic()
    queue.send(message("later"), delay=timedelta(seconds=0.4))
    seen.wait("queue_signals")
    assert 0.4 <= time.monotonic() - begun < 2


@pytest.mark.usefixtures("quick_retries")
def test_a_message_whose_function_raised_is_delivered_again(host: LaptopHost, queue: SqliteQueue, seen: Seen) -> None:
    queue.send(message("shaky", reason="fail 4"))
    assert seen.wait("queue_signals") == ["shaky"]
    assert seen.of("queue_attempt") == [("shaky", attempt) for attempt in (1, 2, 3, 4, 5)]
    until(lambda: empty(queue))
    assert seen.of("queue_poison") == []


@pytest.mark.usefixtures("quick_retries")
def test_after_its_last_attempt_a_message_goes_to_the_function_of_the_poison_queue_and_is_gone(
    host: LaptopHost, queue: SqliteQueue, seen: Seen
) -> None:
    queue.send(message("hopeless", reason="fail 99"))
    queue.send(message("fine"))
    assert seen.wait("queue_poison") == ["hopeless"]
    assert seen.of("queue_attempt").count(("hopeless", 5)) == 1
    until(lambda: empty(queue))
    assert ("hopeless", 6) not in seen.of("queue_attempt")
    assert seen.of("queue_signals") == ["fine"]


def test_waits_between_attempts_grow() -> None:
    assert [queue_pump.retry_delay(n).total_seconds() for n in (1, 2, 3, 4)] == [0.25, 1, 4, 16]


@pytest.mark.usefixtures("short_lease")
def test_a_slow_message_is_not_delivered_twice(host: LaptopHost, queue: SqliteQueue, seen: Seen) -> None:
    queue.send(message("slow", reason="sleep 1.2"))
    seen.wait("queue_signals")
    until(lambda: empty(queue))
    assert seen.of("queue_attempt") == [("slow", 1)]


def test_as_many_messages_as_the_batch_size_are_handled_at_once(
    host: LaptopHost, queue: SqliteQueue, seen: Seen
) -> None:
    begun = time.monotonic()
    for number in range(16):
        queue.send(message(f"m{number}", reason="sleep 0.3"))
    seen.wait("queue_signals", 16)
    # host.json says 8 at a time: two rounds, and sixteen would fit in one.
    assert 0.6 <= time.monotonic() - begun < 2.4


def test_a_stopping_host_finishes_the_message_in_hand_and_leaves_the_rest(
    run_host: Callable[..., LaptopHost], queue: SqliteQueue, seen: Seen
) -> None:
    host = run_host()
    for number in range(10):
        queue.send(message(f"m{number}", reason="sleep 0.5"))
    seen.wait("queue_attempt", 8)
    host.stop()
    begun = len(seen.of("queue_attempt"))
    assert len(seen.of("queue_signals")) == begun
    assert queue.counts() == {"visible": 10 - begun, "invisible": 0}
    run_host()
    seen.wait("queue_signals", 10)


HOST_THAT_HANGS = """
import sys, time
from datetime import timedelta
from pathlib import Path
from landfall.host import LaptopHost, queue_pump
from tests.functions import tiny_app
queue_pump.LEASE = timedelta(seconds=1)
tiny_app.from_message = lambda text: time.sleep(60)
LaptopHost(tiny_app.build(tiny_app.Seen()), Path(sys.argv[1]), 0).start()
time.sleep(60)
"""


def test_messages_go_on_after_the_host_was_killed(
    tmp_path: Path, run_host: Callable[..., LaptopHost], queue: SqliteQueue, seen: Seen
) -> None:
    for number in range(20):
        queue.send(message(f"m{number}"))
    process = subprocess.Popen([sys.executable, "-c", HOST_THAT_HANGS, str(tmp_path)], cwd=ROOT)
    try:
        until(lambda: queue.counts()["invisible"] == 8)
        assert until(lambda: running(tmp_path)).pid == process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert running(tmp_path) is None

    run_host()
    # The killed host had eight in hand; they come again when their lease is over.
    assert sorted(seen.wait("queue_signals", 20)) == sorted(f"m{number}" for number in range(20))
    until(lambda: empty(queue))
    assert seen.of("queue_poison") == []


def test_a_message_that_outlived_its_last_host_is_given_up_without_another_attempt(
    queue: SqliteQueue, run_host: Callable[..., LaptopHost], seen: Seen
) -> None:
    queue.send(message("killer"))
    for _ in range(5):
        assert queue.receive(timedelta(0))
    run_host()
    seen.wait("queue_poison")
    until(lambda: empty(queue))
    assert (seen.of("queue_poison"), seen.of("queue_attempt")) == (["killer"], [])
