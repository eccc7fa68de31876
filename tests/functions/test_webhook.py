"""The Event Grid webhook answers as the Functions host does."""

from __future__ import annotations

import json

import httpx
import pytest

from shared.domain.events import delivered, storage_signal
from shared.domain.signals import EventUnreadable
from tests.functions.tiny_app import Seen, event

NOTIFICATION = {"aeg-event-type": "Notification"}


def address(function: str) -> str:
    return f"/runtime/webhooks/eventgrid?functionName={function}"


def test_each_event_of_a_delivery_runs_the_function_and_the_answer_is_202(client: httpx.Client, seen: Seen) -> None:
    answer = client.post(address("event_storage"), headers=NOTIFICATION, json=[event("1"), event("2"), event("3")])
    assert answer.status_code == 202
    assert sorted(e.id for e in seen.of("event_storage")) == ["1", "2", "3"]
    first = seen.of("event_storage")[0]
    assert (first.topic, first.event_type, first.get_json()) == ("t", "Microsoft.Storage.BlobCreated", {"n": 1})
    assert first.event_time.isoformat() == "2026-11-24T08:00:00.123456+00:00"


def test_an_output_binding_puts_its_message_on_the_queue(client: httpx.Client, seen: Seen) -> None:
    client.post(address("event_picky"), headers=NOTIFICATION, json=[event("out")])
    assert seen.wait("queue_signals") == ["out"]


def test_one_failing_event_makes_500_of_all_and_sends_no_output(client: httpx.Client, seen: Seen) -> None:
    events = [event("good"), event("bad", subject="bad"), event("fine")]
    assert client.post(address("event_picky"), headers=NOTIFICATION, json=events).status_code == 500
    assert sorted(seen.of("event_picky")) == ["bad", "fine", "good"]
    assert sorted(seen.wait("queue_signals", 2)) == ["fine", "good"]


@pytest.mark.parametrize("time", ["yesterday", "", 5, ["2026-11-24T08:00:00Z"], {}])
def test_an_event_whose_time_cannot_be_read_gets_to_the_function_which_records_it(
    client: httpx.Client, seen: Seen, time: object
) -> None:
    broken = event("x") | {"eventTime": time}
    assert client.post(address("event_storage"), headers=NOTIFICATION, json=[broken]).status_code == 202
    (arrived,) = seen.of("event_storage")
    assert arrived.event_time is None
    assert isinstance(storage_signal(delivered(arrived)), EventUnreadable)


def test_an_event_with_half_a_character_gets_to_the_function(client: httpx.Client, seen: Seen) -> None:
    broken = json.dumps([event("\ud800", subject="/\ud800.csv")])
    assert client.post(address("event_storage"), headers=NOTIFICATION, content=broken).status_code == 202
    assert [(arrived.id, arrived.subject) for arrived in seen.of("event_storage")] == [("?", "/?.csv")]


def test_a_cloud_event_arrives_as_one(client: httpx.Client, seen: Seen) -> None:
    cloud = {"specversion": "1.0", "id": "c", "source": "/s", "type": "T", "subject": "s", "data": {"a": 1}}
    assert client.post(address("event_storage"), headers=NOTIFICATION, json=cloud).status_code == 202
    assert (seen.of("event_storage")[0].source, seen.of("event_storage")[0].get_json()) == ("/s", {"a": 1})


def test_the_handshake_returns_the_validation_code(client: httpx.Client) -> None:
    body = [
        {"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "C-1"}}
    ]
    answer = client.post(address("event_storage"), headers={"aeg-event-type": "SubscriptionValidation"}, json=body)
    assert (answer.status_code, answer.json()) == (200, {"validationResponse": "C-1"})


@pytest.mark.parametrize("name", ["nobody", "", "http_echo", "queue_signals"])
def test_an_unknown_event_function_is_404(client: httpx.Client, name: str) -> None:
    assert client.post(address(name), headers=NOTIFICATION, json=[event("1")]).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"aeg-event-type": "Unsubscribe"}])
def test_no_or_another_event_type_header_is_400(client: httpx.Client, seen: Seen, headers: dict[str, str]) -> None:
    assert client.post(address("event_storage"), headers=headers, json=[event("1")]).status_code == 400
    assert seen.of("event_storage") == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"text"', b"\xff", b"[" * 100_000], ids=lambda body: repr(body[:6])
)
def test_a_body_that_holds_no_events_is_400(client: httpx.Client, body: bytes) -> None:
    assert client.post(address("event_storage"), headers=NOTIFICATION, content=body).status_code == 400
    handshake = {"aeg-event-type": "SubscriptionValidation"}
    assert client.post(address("event_storage"), headers=handshake, content=body).status_code == 400


def test_the_options_request_of_cloud_events_is_allowed(client: httpx.Client) -> None:
    origin = {"WebHook-Request-Origin": "eventgrid.azure.net"}
    answer = client.request("OPTIONS", address("event_storage"), headers=origin)
    assert (answer.status_code, answer.headers["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")
    assert client.request("OPTIONS", address("event_storage")).status_code == 400
    assert client.request("OPTIONS", address("nobody"), headers=origin).status_code == 404
