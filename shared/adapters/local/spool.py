"""Event Grid on a laptop: events wait as files in a folder until the host has delivered them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from shared.adapters.local.whole_file import write_whole

RunEvent = Literal["RunCompleted", "RunStatusChanged"]

RUN_STATUS = {"completed": "Completed", "failed": "Failed"}
"""Azure ML's word for the state in which a job ended (:class:`~shared.ports.jobs.JobStatus`)."""

_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "https://landfall.invalid/events")


def raise_event(
    home: Path, *, subject: str, event_type: str, data: Mapping[str, Any], id: str, event_time: datetime, topic: str
) -> Path:
    """Put one event, in the Event Grid schema, into the spool folder ``home``/eventgrid; returns its file.

    The file appears whole and survives a power cut. Raising the same ``id`` with the same
    ``event_time`` again leaves one file. Delivery is at least once, as by Event Grid.
    """
    moment = event_time.astimezone(UTC)
    event = {
        "id": id,
        "topic": topic,
        "subject": subject,
        "eventType": event_type,
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "data": dict(data),
        "dataVersion": "1",
        "metadataVersion": "1",
    }
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    # An id may hold any text, so the name has its hash; the time in front gives the order.
    name = f"{moment.strftime('%Y%m%dT%H%M%S%f')}-{hashlib.sha256(id.encode()).hexdigest()[:16]}.json"
    write_whole(folder / name, json.dumps(event).encode(), staging=home / "eventgrid.partial")
    return folder / name


def waiting(home: Path) -> list[Path]:
    """The files of all events that wait for delivery, the one that happened first in front."""
    return sorted(_folder(home).glob("*.json"))


def delivered(path: Path) -> None:
    """Remove an event that was delivered; nothing happens when it is gone."""
    path.unlink(missing_ok=True)


def azureml_run_event(
    kind: RunEvent,
    *,
    experiment: str,
    run: str,
    state: str,
    tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What Azure ML says when run ``run`` (a job's name) ends in ``state`` (completed, failed).

    Returns subject, event_type, data and id for :func:`raise_event`. The id is the same each time for
    one kind, run and state. Only a completed run raises RunCompleted.
    """
    experiment_id = str(uuid.uuid5(_IDS, f"experiments/{experiment}"))
    data: dict[str, Any] = {
        "experimentId": experiment_id,
        "experimentName": experiment,
        "runId": run,
        "runType": "azureml.commandjob",
        "runTags": dict(tags or {}),
        "runProperties": {},
    }
    if kind == "RunStatusChanged":
        data["runStatus"] = RUN_STATUS[state]
    return _azureml_event(kind, f"experiments/{experiment_id}/runs/{run}", data, occasion=state)


def azureml_model_event(*, model: str, version: str, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What Azure ML says when ``version`` of ``model`` appears in the registry (ModelRegistered).

    Returns subject, event_type, data and id for :func:`raise_event`. The id is the same each time for
    one version.
    """
    data = {
        "ModelName": model,
        "ModelVersion": version,
        "ModelTags": dict(tags or {}),
        "ModelProperties": {},
    }
    return _azureml_event("ModelRegistered", f"models/{model}:{version}", data)


def _azureml_event(kind: str, subject: str, data: dict[str, Any], *, occasion: str = "") -> dict[str, Any]:
    return {
        "subject": subject,
        "event_type": f"Microsoft.MachineLearningServices.{kind}",
        "data": data,
        "id": str(uuid.uuid5(_IDS, f"{kind} {subject} {occasion}")),
    }


def _folder(home: Path) -> Path:
    return home / "eventgrid"
