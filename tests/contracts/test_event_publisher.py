"""The EventPublisher port."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from shared.adapters.local.event_publisher import EventLog
from shared.errors import Rejected, Transient
from tests.contracts.backends import LocalBackend
from tests.contracts.races import How, race
from tests.moving_clock import MovingClock

AWKWARD = 'löschen "quoted" #?\\% a/b\nnext line   end'


def test_an_event_is_a_cloud_event_of_the_kind_subject_id_and_data(backend: LocalBackend, clock: MovingClock) -> None:
    backend.publisher(clock).publish("ModelPromoted", "churn", {"version": "3", "gain": 0.1}, id="promote-churn-3")
    (event,) = backend.published()
    assert event["specversion"] == "1.0"
    assert event["type"] == "Landfall.ModelPromoted"
    assert event["subject"] == "churn"
    assert event["id"] == "promote-churn-3"
    assert event["source"]
    assert event["data"] == {"version": "3", "gain": 0.1}
    assert datetime.fromisoformat(event["time"]) == clock.now()


def test_events_are_received_in_the_order_in_which_they_were_published(backend: LocalBackend) -> None:
    for number in range(5):
        backend.publisher().publish("Alarm", "churn", {}, id=str(number))
    assert [event["id"] for event in backend.published()] == ["0", "1", "2", "3", "4"]


def test_a_happening_published_again_carries_the_same_id(backend: LocalBackend) -> None:
    for _ in range(2):
        backend.publisher().publish("Alarm", "churn", {}, id="alarm-1")
    assert {event["id"] for event in backend.published()} == {"alarm-1"}


def test_awkward_text_arrives_as_it_was(backend: LocalBackend) -> None:
    backend.publisher().publish("Alarm", AWKWARD, {AWKWARD: AWKWARD}, id=AWKWARD)
    (event,) = backend.published()
    assert (event["subject"], event["id"], event["data"]) == (AWKWARD, AWKWARD, {AWKWARD: AWKWARD})


@pytest.mark.parametrize("data", [{"auc": float("nan")}, {"at": datetime(2026, 1, 1)}], ids=["nan", "no JSON type"])
def test_data_that_no_json_can_hold_is_rejected_and_nothing_is_sent(
    backend: LocalBackend, data: dict[str, object]
) -> None:
    publisher = backend.publisher()
    publisher.publish("Alarm", "churn", {}, id="good")
    with pytest.raises(Rejected, match="event bad "):
        publisher.publish("Alarm", "churn", data, id="bad")
    assert [event["id"] for event in backend.published()] == ["good"]


def publish_many(backend: LocalBackend, index: int) -> None:
    for number in range(25):
        backend.publisher().publish("Alarm", "churn", {"text": "x" * 5000}, id=f"{index}-{number}")


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_events_published_at_once_all_arrive_whole(backend: LocalBackend, how: How) -> None:
    race(how, 4, publish_many, backend)
    assert len({event["id"] for event in backend.published()}) == 100


def test_what_cannot_be_written_is_transient(local: LocalBackend) -> None:
    (local.home / "file").write_text("in the way")
    with pytest.raises(Transient, match="event alarm-1 "):
        EventLog(local.home / "file" / "events.jsonl").publish("Alarm", "churn", {}, id="alarm-1")


def test_a_line_torn_by_a_power_cut_does_not_spoil_the_next(local: LocalBackend) -> None:
    log = local.home / "events.jsonl"
    local.publisher().publish("Alarm", "churn", {}, id="first")
    with log.open("a") as file:
        file.write('{"specversion": "1.0", "id": "to')
    local.publisher().publish("Alarm", "churn", {}, id="second")
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    assert '"second"' in lines[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_transient() -> None:
    with pytest.raises(Transient, match="No space left"):
        EventLog(Path("/dev/full")).publish("Alarm", "churn", {}, id="alarm-1")
