"""The laptop's Event Grid: what it keeps until delivery, and that functions can read it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from azure.functions.eventgrid import EventGridEventInConverter
from azure.functions.meta import Datum

from shared.adapters.local.spool import azureml_model_event, azureml_run_event, delivered, raise_event, waiting
from tests.contracts.races import How, race

NOW = datetime(2026, 1, 5, 9, 30, 15, 7, tzinfo=UTC)
TOPIC = "/subscriptions/local/resourceGroups/local/providers/Microsoft.MachineLearningServices/workspaces/local"


def raised(home: Path, id: str, at: datetime = NOW) -> Path:
    return raise_event(home, subject="s", event_type="T", data={"a": 1}, id=id, event_time=at, topic=TOPIC)


def test_an_event_waits_in_the_event_grid_schema(tmp_path: Path) -> None:
    path = raised(tmp_path, "id with / and \\ and 🛬")
    assert waiting(tmp_path) == [path]
    assert json.loads(path.read_bytes()) == {
        "id": "id with / and \\ and 🛬",
        "topic": TOPIC,
        "subject": "s",
        "eventType": "T",
        "eventTime": "2026-01-05T09:30:15.000007Z",
        "data": {"a": 1},
        "dataVersion": "1",
        "metadataVersion": "1",
    }


def test_the_functions_runtime_reads_an_event(tmp_path: Path) -> None:
    event = azureml_model_event(model="churn", version="3", tags={"landfall.run": "churn-b1"})
    path = raise_event(tmp_path, **event, event_time=NOW, topic=TOPIC)
    read = EventGridEventInConverter.decode(Datum(path.read_text(), "json"), trigger_metadata={})
    assert (read.id, read.topic, read.subject) == (event["id"], TOPIC, "models/churn:3")
    assert read.event_type == "Microsoft.MachineLearningServices.ModelRegistered"
    assert read.event_time == NOW
    assert read.get_json() == event["data"]


def test_events_wait_in_the_order_in_which_they_happened(tmp_path: Path) -> None:
    later = NOW + timedelta(microseconds=1)
    elsewhere = (NOW - timedelta(hours=1)).astimezone(timezone(timedelta(hours=9)))
    expected = [raised(tmp_path, "a", later), raised(tmp_path, "b", NOW), raised(tmp_path, "c", elsewhere)][::-1]
    assert waiting(tmp_path) == expected


def test_nothing_waits_where_nothing_was_raised(tmp_path: Path) -> None:
    assert waiting(tmp_path / "nowhere") == []


def test_a_delivered_event_waits_no_more(tmp_path: Path) -> None:
    path, other = raised(tmp_path, "a"), raised(tmp_path, "b")
    for _ in range(2):
        delivered(path)
        assert waiting(tmp_path) == [other]


def test_the_same_event_raised_again_waits_once(tmp_path: Path) -> None:
    assert raised(tmp_path, "a") == raised(tmp_path, "a")
    assert len(waiting(tmp_path)) == 1


def raise_many(home: Path, index: int) -> None:
    for number in range(20):
        raised(home, str(number if index % 2 else f"{index}-{number}"))


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_events_raised_at_once_all_wait_whole(tmp_path: Path, how: How) -> None:
    race(how, 4, raise_many, tmp_path)
    events = [json.loads(path.read_bytes()) for path in waiting(tmp_path)]
    assert len(events) == len({event["id"] for event in events}) == 60
    assert list((tmp_path / "eventgrid.partial").iterdir()) == []
    assert len(list((tmp_path / "eventgrid").iterdir())) == 60


def run_event(kind: Any = "RunCompleted", **changed: Any) -> dict[str, Any]:
    named = {"experiment": "churn", "run": "churn-b1-train-1", "state": "completed", "tags": {"a": "b"}, **changed}
    return azureml_run_event(kind, **named)


def test_a_completed_run_is_told_as_azure_ml_tells_it() -> None:
    event = run_event()
    experiment = event["data"]["experimentId"]
    assert event["event_type"] == "Microsoft.MachineLearningServices.RunCompleted"
    assert event["subject"] == f"experiments/{experiment}/runs/churn-b1-train-1"
    assert uuid.UUID(experiment)
    assert event["data"] == {
        "experimentId": experiment,
        "experimentName": "churn",
        "runId": "churn-b1-train-1",
        "runType": event["data"]["runType"],
        "runTags": {"a": "b"},
        "runProperties": {},
    }


@pytest.mark.parametrize(("state", "status"), [("completed", "Completed"), ("failed", "Failed")])
def test_a_changed_status_is_told_in_azure_mls_words(state: str, status: str) -> None:
    event = run_event("RunStatusChanged", state=state)
    assert event["event_type"] == "Microsoft.MachineLearningServices.RunStatusChanged"
    assert event["data"]["runStatus"] == status


def test_a_registered_model_is_told_as_azure_ml_tells_it() -> None:
    event = azureml_model_event(model="churn", version="3", tags={"a": "b"})
    assert event["event_type"] == "Microsoft.MachineLearningServices.ModelRegistered"
    assert event["subject"] == "models/churn:3"
    assert event["data"] == {
        "ModelName": "churn",
        "ModelVersion": "3",
        "ModelTags": {"a": "b"},
        "ModelProperties": {},
    }


def test_one_happening_always_has_one_id_and_another_has_another() -> None:
    happenings = [
        run_event(),
        run_event(run="churn-b1-train-2"),
        run_event(experiment="bank"),
        run_event("RunStatusChanged"),
        run_event("RunStatusChanged", state="failed"),
        azureml_model_event(model="churn", version="3"),
        azureml_model_event(model="churn", version="4"),
    ]
    assert len({event["id"] for event in happenings}) == len(happenings)
    assert run_event(tags={"other": "tags"})["id"] == run_event()["id"]
