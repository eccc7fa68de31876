"""Signals survive the queue, and two deliveries of one happening are one."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.signals import (
    SIGNALS,
    ApprovalGiven,
    DataLanded,
    OperatorSignal,
    RolloutDue,
    Signal,
    TrainingFinished,
    from_message,
)
from shared.errors import Rejected
from tests.domain.record_values import instances

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("cls", SIGNALS.values(), ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_a_signal_comes_out_of_the_queue_as_it_went_in(cls: type[Signal], data: st.DataObject) -> None:
    signal = data.draw(instances(cls))
    again = from_message(signal.to_message())
    assert again == signal
    assert again.claim_key == signal.claim_key


def test_every_signal_is_known_by_its_name() -> None:
    def below(cls: type[Signal]) -> set[type[Signal]]:
        return {cls, *(c for child in cls.__subclasses__() for c in below(child))}

    concrete = below(Signal) - {Signal, OperatorSignal}
    assert set(SIGNALS.values()) == {cls for cls in concrete if cls.__module__ == Signal.__module__}


def landed(**changes: object) -> DataLanded:
    fields = {"account": "lake", "container": "c", "path": "landing/a.csv", "api": "PutBlob", "event": "e1", "at": AT}
    return DataLanded(**{**fields, **changes})  # type: ignore[arg-type]


def test_two_events_of_one_written_file_are_one() -> None:
    assert landed(etag="0x1", event="e1").claim_key == landed(etag="0x1", event="e2", api="FlushWithClose").claim_key


def test_the_same_file_written_again_is_another_happening() -> None:
    assert landed(etag="0x1").claim_key != landed(etag="0x2").claim_key


def test_without_an_etag_the_event_tells_deliveries_apart() -> None:
    assert landed(event="e1").claim_key == landed(event="e1").claim_key != landed(event="e2").claim_key


def test_signals_of_different_kinds_never_share_a_claim() -> None:
    rollout = RolloutDue(pipeline="p", rollout="r", wake=1)
    training = TrainingFinished(pipeline="p", run="r", status="completed")
    assert rollout.claim_key.startswith("RolloutDue:") and training.claim_key.startswith("TrainingFinished:")


def test_a_repeated_request_is_one_request() -> None:
    first = ApprovalGiven(pipeline="p", request="42", version="3", by="ann")
    assert first.claim_key == ApprovalGiven(pipeline="p", request="42", version="3", by="bob").claim_key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "null",
        "[]",
        "3",
        '"RolloutDue"',
        "{}",
        '{"signal": "Nonsense"}',
        '{"signal": ["RolloutDue"]}',
        '{"signal": "RolloutDue", "pipeline": "p"}',
        '{"signal": "DriftCheckDue", "pipeline": "p", "slot": "yesterday"}',
        '{"signal": "DriftCheckDue", "pipeline": "p", "slot": 5}',
    ],
)
def test_a_message_that_is_no_signal_is_rejected_with_its_text(text: str) -> None:
    with pytest.raises(Rejected, match="queue message is no signal"):
        from_message(text)


def test_fields_of_a_newer_release_are_passed_over() -> None:
    signal = RolloutDue(pipeline="p", rollout="r", wake=2)
    assert from_message(json.dumps({**json.loads(signal.to_message()), "more": 1})) == signal
