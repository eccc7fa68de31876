"""The EventPublisher port."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.event_publisher import EventGridTopic
from shared.adapters.local.event_publisher import EventLog
from shared.adapters.system_clock import SystemClock
from shared.errors import Rejected, Transient
from shared.ports.clock import Clock
from shared.ports.event_publisher import EventPublisher
from tests.contracts.backends import LocalBackend
from tests.contracts.races import How, race
from tests.moving_clock import MovingClock
from tests.standin import StandIn
from tests.standin.event_grid import TOPIC

AWKWARD = 'löschen "quoted" #?\\% a/b\nnext line   end'


@dataclass(frozen=True)
class Topic:
    """A custom topic of Event Grid. ``received`` is what the stand-in got."""

    received: list[dict[str, Any]]

    def publisher(self, clock: Clock | None = None) -> EventPublisher:
        return EventGridTopic(TOPIC, clock or SystemClock(), AppCredential(), seconds=5)

    def published(self) -> list[dict[str, Any]]:
        return self.received


Backend = LocalBackend | Topic


@pytest.fixture(params=["local", "azure"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "local":
        return LocalBackend(tmp_path)
    azure: StandIn = request.getfixturevalue("azure")
    azure.events.received.clear()
    return Topic(azure.events.received)


def test_an_event_is_a_cloud_event_of_the_kind_subject_id_and_data(backend: Backend, clock: MovingClock) -> None:
    backend.publisher(clock).publish("ModelPromoted", "churn", {"version": "3", "gain": 0.1}, id="promote-churn-3")
    (event,) = backend.published()
    assert event["specversion"] == "1.0"
    assert event["type"] == "Landfall.ModelPromoted"
    assert event["subject"] == "churn"
    assert event["id"] == "promote-churn-3"
    assert event["source"]
    assert event["data"] == {"version": "3", "gain": 0.1}
    assert set(event) - {"datacontenttype"} == {"specversion", "type", "subject", "id", "source", "time", "data"}
    assert datetime.fromisoformat(event["time"]) == clock.now()


def test_events_are_received_in_the_order_in_which_they_were_published(backend: Backend) -> None:
    for number in range(5):
        backend.publisher().publish("Alarm", "churn", {}, id=str(number))
    assert [event["id"] for event in backend.published()] == ["0", "1", "2", "3", "4"]


def test_a_happening_published_again_carries_the_same_id(backend: Backend) -> None:
    for _ in range(2):
        backend.publisher().publish("Alarm", "churn", {}, id="alarm-1")
    assert {event["id"] for event in backend.published()} == {"alarm-1"}


def test_awkward_text_arrives_as_it_was(backend: Backend) -> None:
    backend.publisher().publish("Alarm", AWKWARD, {AWKWARD: AWKWARD}, id=AWKWARD)
    (event,) = backend.published()
    assert (event["subject"], event["id"], event["data"]) == (AWKWARD, AWKWARD, {AWKWARD: AWKWARD})


@pytest.mark.parametrize("data", [{"auc": float("nan")}, {"at": datetime(2026, 1, 1)}], ids=["nan", "no JSON type"])
def test_data_that_no_json_can_hold_is_rejected_and_nothing_is_sent(backend: Backend, data: dict[str, object]) -> None:
    publisher = backend.publisher()
    publisher.publish("Alarm", "churn", {}, id="good")
    with pytest.raises(Rejected, match="event bad "):
        publisher.publish("Alarm", "churn", data, id="bad")
    assert [event["id"] for event in backend.published()] == ["good"]


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"status": 404}], ids=["503", "reset", "404"])
def test_what_the_topic_does_not_take_is_transient_and_sent_once(azure: StandIn, fault: dict[str, Any]) -> None:
    azure.faults.add("POST .*/api/events", **fault)
    sent = len(azure.made("POST .*/api/events"))
    with pytest.raises(Transient, match="event alarm-1 "):
        Topic([]).publisher().publish("Alarm", "churn", {}, id="alarm-1")
    assert len(azure.made("POST .*/api/events")) == sent + 1


def test_an_event_larger_than_a_topic_takes_is_rejected(azure: StandIn) -> None:
    with pytest.raises(Rejected, match="event big "):
        Topic([]).publisher().publish("Alarm", "churn", {"text": "x" * 2**20}, id="big")


def publish_many(backend: Backend, index: int) -> None:
    for number in range(25):
        backend.publisher().publish("Alarm", "churn", {"text": "x" * 5000}, id=f"{index}-{number}")


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_events_published_at_once_all_arrive_whole(backend: Backend, how: How) -> None:
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
