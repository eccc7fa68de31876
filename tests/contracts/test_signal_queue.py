"""The SignalQueue port, and the side of the laptop's queue that its host takes messages from."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.adapters.azure.signal_queue import StorageQueue
from shared.adapters.local.signal_queue import Message, SqliteQueue
from shared.domain.signals import DataLanded, EventUnreadable, ModelRegistered, Signal, from_message
from shared.errors import Conflict, Rejected, Transient
from shared.ports.signal_queue import MAX_BYTES
from tests.contracts.backends import Backend, LocalBackend
from tests.contracts.races import How, attempt, kill_in_the_middle, race
from tests.moving_clock import MovingClock

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
PATIENCE = 30.0


def signal(number: int) -> ModelRegistered:
    return ModelRegistered(model="churn", version=str(number))


def arrived(backend: Backend, count: int) -> list[Signal]:
    """The next ``count`` signals that the host gets, and then no more."""
    texts: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while len(texts) < count and time.monotonic() < deadline:
        texts += backend.taken()
    return [from_message(text) for text in texts + backend.taken()]


@pytest.mark.parametrize(
    "sent",
    [
        signal(3),
        DataLanded(
            account="landfall",
            container="lake",
            path="landing/übung/it's #50%.csv",
            api="PutBlob",
            event="1",
            at=datetime(2026, 1, 5, tzinfo=UTC),
        ),
        EventUnreadable(source="eventgrid", event="1", reason="no JSON", body="\x00\n'\"\\\ud800 <🛬> &amp; ]]>"),
    ],
    ids=lambda sent: type(sent).__name__,
)
def test_a_signal_arrives_as_it_was_sent(backend: Backend, sent: Signal) -> None:
    backend.queue().send(sent)
    assert arrived(backend, 1) == [sent]


def test_nothing_arrives_that_was_not_sent(backend: Backend) -> None:
    assert backend.taken() == []


def test_a_delayed_signal_does_not_arrive_before_its_delay_is_over(backend: Backend) -> None:
    start = time.monotonic()
    backend.queue().send(signal(1), delay=timedelta(seconds=1.2))
    backend.queue().send(signal(2))
    assert arrived(backend, 2) == [signal(2), signal(1)]
    # The service counts in whole seconds; its clock and ours may be read a moment apart.
    assert time.monotonic() - start > 1.1


def test_a_delay_may_be_seven_days_and_no_longer(backend: Backend) -> None:
    queue = backend.queue()
    queue.send(signal(1), delay=timedelta(days=7))
    for delay in (timedelta(days=7, microseconds=1), timedelta(microseconds=-1)):
        with pytest.raises(Rejected, match="cannot be delayed"):
            queue.send(signal(2), delay=delay)
    assert backend.taken() == []
    assert queue.counts() == {"visible": 0, "invisible": 1}


def test_a_signal_longer_than_any_queue_takes_is_rejected_and_the_longest_arrives(backend: Backend) -> None:
    longest = EventUnreadable(source="eventgrid", event="1", reason="", body="")
    longest = replace(longest, body="<" * (MAX_BYTES - len(longest.to_message().encode())))
    backend.queue().send(longest)
    with pytest.raises(Rejected, match="49153 bytes"):
        backend.queue().send(replace(longest, event="12"))
    assert arrived(backend, 1) == [longest]


def test_the_same_signal_sent_twice_arrives_twice(backend: Backend) -> None:
    backend.queue().send(signal(1))
    backend.queue().send(signal(1))
    assert arrived(backend, 2) == [signal(1), signal(1)]


def send_many(backend: Backend, shared: SqliteQueue | StorageQueue | None, index: int) -> None:
    queue = shared or backend.queue()
    for number in range(50):
        queue.send(signal(100 * index + number))


@pytest.mark.parametrize("shared", [True, False], ids=["one queue", "each its own"])
def test_nothing_that_threads_send_is_lost(backend: Backend, shared: bool) -> None:
    race("threads", 4, send_many, backend, backend.queue() if shared else None)
    found = sorted(item.to_message() for item in arrived(backend, 200))
    assert found == sorted(signal(100 * i + n).to_message() for i in range(4) for n in range(50))


# What follows is about SQLite on a laptop, and the side of it that its host takes messages from.


@pytest.fixture
def queue(local: LocalBackend, clock: MovingClock) -> SqliteQueue:
    return local.queue(clock)


def drain(queue: SqliteQueue) -> list[Message]:
    messages = []
    while taken := queue.receive(MINUTE):
        for message in taken:
            queue.delete(message)
        messages += taken
    return messages


def test_an_empty_queue_gives_nothing(queue: SqliteQueue) -> None:
    assert queue.receive(MINUTE) == []
    assert queue.next_visible_at() is None
    assert queue.counts() == {"visible": 0, "invisible": 0}


def test_a_delayed_signal_is_invisible_until_its_delay_is_over(queue: SqliteQueue, clock: MovingClock) -> None:
    queue.send(signal(1), delay=MINUTE)
    clock.advance(MINUTE - SECOND)
    assert queue.receive(MINUTE) == []
    clock.advance(SECOND)
    assert len(queue.receive(MINUTE)) == 1


def test_a_signal_delayed_by_seven_days_is_there_after_them(queue: SqliteQueue, clock: MovingClock) -> None:
    queue.send(signal(1), delay=timedelta(days=7))
    clock.advance(timedelta(days=7))
    assert [from_message(message.text) for message in drain(queue)] == [signal(1)]


def test_a_message_longer_than_any_queue_takes_is_rejected(queue: SqliteQueue) -> None:
    text = "ü" * (24 * 1024)
    queue.put([text])
    with pytest.raises(Rejected, match="49153 bytes"):
        queue.put([text + "x"])
    assert [message.text for message in drain(queue)] == [text]


def test_two_messages_with_the_same_text_have_different_ids(queue: SqliteQueue) -> None:
    queue.send(signal(1))
    queue.send(signal(1))
    first, second = drain(queue)
    assert first.text == second.text
    assert first.id != second.id


def test_a_message_taken_out_is_invisible_to_others(
    queue: SqliteQueue, local: LocalBackend, clock: MovingClock
) -> None:
    queue.send(signal(1))
    assert len(queue.receive(MINUTE)) == 1
    clock.advance(MINUTE - SECOND)
    assert local.queue(clock).receive(MINUTE) == []


def test_a_message_that_is_not_deleted_in_time_is_delivered_again_with_a_higher_count_and_a_new_receipt(
    queue: SqliteQueue, clock: MovingClock
) -> None:
    queue.send(signal(1))
    inserted_at = clock.now()
    receipts = set()
    for count in (1, 2, 3):
        (message,) = queue.receive(MINUTE)
        assert (message.dequeue_count, message.inserted_at) == (count, inserted_at)
        receipts.add(message.receipt)
        clock.advance(MINUTE)
    assert len(receipts) == 3


def test_a_deleted_message_never_comes_back(queue: SqliteQueue, clock: MovingClock) -> None:
    queue.send(signal(1))
    (message,) = queue.receive(MINUTE)
    queue.delete(message)
    clock.advance(timedelta(days=8))
    assert queue.receive(MINUTE) == []


def test_a_receipt_is_good_after_its_time_while_nobody_else_took_the_message(
    queue: SqliteQueue, clock: MovingClock
) -> None:
    queue.send(signal(1))
    (message,) = queue.receive(MINUTE)
    clock.advance(2 * MINUTE)
    queue.delete(message)
    assert queue.receive(MINUTE) == []


ACTIONS: dict[str, Any] = {
    "delete": lambda queue, message: queue.delete(message),
    "release": lambda queue, message: queue.release(message, timedelta(0)),
}


@pytest.mark.parametrize("late", ACTIONS)
def test_a_stale_receipt_is_refused_and_changes_nothing(queue: SqliteQueue, clock: MovingClock, late: str) -> None:
    queue.send(signal(1))
    (stale,) = queue.receive(MINUTE)
    clock.advance(MINUTE)
    (fresh,) = queue.receive(MINUTE)
    with pytest.raises(Conflict, match=stale.id):
        ACTIONS[late](queue, stale)
    assert queue.counts() == {"visible": 0, "invisible": 1}
    queue.delete(fresh)


@pytest.mark.parametrize("late", ACTIONS)
@pytest.mark.parametrize("first", ACTIONS)
def test_a_receipt_is_good_for_one_action(queue: SqliteQueue, first: str, late: str) -> None:
    queue.send(signal(1))
    (message,) = queue.receive(MINUTE)
    ACTIONS[first](queue, message)
    before = queue.counts()
    with pytest.raises(Conflict):
        ACTIONS[late](queue, message)
    assert queue.counts() == before


def test_a_released_message_comes_again_after_its_delay(queue: SqliteQueue, clock: MovingClock) -> None:
    queue.send(signal(1))
    (message,) = queue.receive(timedelta(hours=1))
    queue.release(message, 10 * SECOND)
    clock.advance(9 * SECOND)
    assert queue.receive(MINUTE) == []
    clock.advance(SECOND)
    (again,) = queue.receive(MINUTE)
    assert (again.id, again.dequeue_count) == (message.id, 2)


def test_no_more_than_the_limit_is_taken_out_and_who_waits_longest_comes_first(
    queue: SqliteQueue, clock: MovingClock
) -> None:
    queue.send(signal(99), delay=MINUTE)
    for number in range(20):
        queue.send(signal(number))
    clock.advance(MINUTE)
    assert [from_message(message.text) for message in queue.receive(MINUTE)] == [signal(n) for n in range(16)]
    assert len(queue.receive(MINUTE, limit=2)) == 2
    assert {from_message(message.text) for message in queue.receive(MINUTE)} == {signal(18), signal(19), signal(99)}


def test_counts_and_next_visible_at_tell_what_is_to_come(queue: SqliteQueue, clock: MovingClock) -> None:
    start = clock.now()
    queue.send(signal(1))
    queue.send(signal(2))
    queue.send(signal(3), delay=MINUTE)
    assert queue.next_visible_at() == start
    taken, other = queue.receive(2 * MINUTE)
    queue.delete(other)
    assert queue.counts() == {"visible": 0, "invisible": 2}
    assert queue.next_visible_at() == start + MINUTE
    clock.advance(2 * MINUTE)
    assert queue.counts() == {"visible": 2, "invisible": 0}
    assert queue.next_visible_at() == start + MINUTE
    queue.delete(taken)


def test_texts_put_together_are_stored_all_or_none(queue: SqliteQueue) -> None:
    queue.put([])
    queue.put(["a", "", "c\x00d"])
    with pytest.raises(Rejected, match="surrogate"):
        queue.put(["d", "\ud800"])
    assert [message.text for message in drain(queue)] == ["a", "", "c\x00d"]


def take_until_empty(local: LocalBackend, index: int) -> list[str]:
    return [message.text for message in drain(local.queue())]


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_nothing_is_lost_or_delivered_to_two_takers_at_once(local: LocalBackend, how: How) -> None:
    race(how, 4, send_many, local, None)
    taken = [text for texts in race(how, 4, take_until_empty, local) for text in texts]
    assert sorted(taken) == sorted(signal(100 * i + n).to_message() for i in range(4) for n in range(50))


def test_threads_may_share_one_queue(local: LocalBackend) -> None:
    race("threads", 8, send_many, local, local.queue())
    assert local.queue().counts()["visible"] == 400


def send_for_ever(local: LocalBackend, acknowledge: Any) -> None:
    queue = local.queue()
    for number in range(1_000_000):
        queue.send(signal(number))
        acknowledge(number)


def test_what_was_sent_outlives_a_killed_sender(local: LocalBackend) -> None:
    acknowledged = kill_in_the_middle(send_for_ever, local, after=50)
    arrived = [from_message(message.text) for message in drain(local.queue())]
    # The send after the last acknowledged one may have been done.
    assert arrived[: len(acknowledged)] == [signal(number) for number in acknowledged]
    assert len(arrived) - len(acknowledged) in (0, 1)


def take_for_ever(local: LocalBackend, acknowledge: Any) -> None:
    queue = local.queue()
    for _ in range(1_000_000):
        for message in queue.receive(timedelta(milliseconds=1), limit=1):
            acknowledge(message.id)
            queue.delete(message)


def test_what_a_killed_taker_had_in_hand_is_delivered_again(local: LocalBackend) -> None:
    local.queue().put([str(number) for number in range(2000)])
    handled = kill_in_the_middle(take_for_ever, local, after=20)
    left = local.queue().counts()
    # All but the last one in hand were deleted; that one may or may not have been.
    assert 2000 - left["visible"] - left["invisible"] - (len(set(handled)) - 1) in (0, 1)


def test_a_queue_that_cannot_be_reached_is_transient(local: LocalBackend, clock: MovingClock) -> None:
    (local.home / "queue.db").mkdir()
    with pytest.raises(Transient, match=r"queue\.db cannot be used now"):
        local.queue(clock).send(signal(1))


def test_making_a_queue_touches_nothing(local: LocalBackend) -> None:
    local.queue()
    assert list(local.home.iterdir()) == []


def test_a_closed_queue_opens_again(local: LocalBackend) -> None:
    queue = local.queue()
    queue.send(signal(1))
    queue.close()
    assert not (local.home / "queue.db-wal").exists()
    assert len(queue.receive(MINUTE)) == 1


SPANS = st.integers(0, 5).map(lambda minutes: minutes * MINUTE)


class QueueMachine(RuleBasedStateMachine):
    """A queue must behave as a list of messages with times and receipts."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.clock = MovingClock()
        self.queue = LocalBackend(Path(self.home.name)).queue(self.clock)
        self.sent = 0
        self.visible_at: dict[str, datetime] = {}
        self.dequeued: dict[str, int] = {}
        self.receipt: dict[str, str] = {}
        self.taken: list[Message] = []

    def teardown(self) -> None:
        self.queue.close()
        self.home.cleanup()

    @rule(delay=SPANS)
    def send(self, delay: timedelta) -> None:
        self.sent += 1
        text = str(self.sent)
        self.queue.put([text], delay=delay)
        self.visible_at[text] = self.clock.now() + delay
        self.dequeued[text] = 0

    @rule(by=SPANS)
    def advance(self, by: timedelta) -> None:
        self.clock.advance(by)

    @rule(visibility=SPANS.filter(bool), limit=st.integers(1, 4))
    def receive(self, visibility: timedelta, limit: int) -> None:
        now = self.clock.now()
        due = sorted((at, int(text)) for text, at in self.visible_at.items() if at <= now)
        messages = self.queue.receive(visibility, limit)
        assert {message.text for message in messages} == {str(number) for _, number in due[:limit]}
        for message in messages:
            self.dequeued[message.text] += 1
            assert message.dequeue_count == self.dequeued[message.text]
            assert message.receipt not in {taken.receipt for taken in self.taken}
            self.visible_at[message.text] = now + visibility
            self.receipt[message.text] = message.receipt
            self.taken.append(message)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), action=st.sampled_from(sorted(ACTIONS)))
    def act(self, data: st.DataObject, action: str) -> None:
        message = data.draw(st.sampled_from(self.taken))
        good = self.receipt.get(message.text) == message.receipt
        assert attempt(Conflict, ACTIONS[action], self.queue, message) == good
        if good:
            del self.receipt[message.text]
            if action == "release":
                self.visible_at[message.text] = self.clock.now()
            else:
                del self.visible_at[message.text]

    @invariant()
    def nothing_is_lost(self) -> None:
        visible = sum(at <= self.clock.now() for at in self.visible_at.values())
        invisible = len(self.visible_at) - visible
        assert self.queue.counts() == {"visible": visible, "invisible": invisible}
        assert self.queue.next_visible_at() == min(self.visible_at.values(), default=None)


TestQueueAgainstAModel = QueueMachine.TestCase
TestQueueAgainstAModel.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
