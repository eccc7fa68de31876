"""Event Grid events to signals. Nothing that is delivered makes this module raise.

Storage and Azure ML events are read from the bare JSON: no typed classes exist for them, services change
the casing of keys, and unknown fields come and go. What is understood becomes a signal; what is none of the
loop's business becomes :class:`NoSignal`; what cannot be understood becomes
:class:`~shared.domain.signals.EventUnreadable`, so that it is recorded and not lost.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from shared.domain.landing import OWN_FOLDERS
from shared.domain.signals import (
    DataLanded,
    EvaluationFinished,
    EventUnreadable,
    FeaturesReady,
    ModelRegistered,
    Signal,
    TrainingFinished,
)

STORAGE = "Microsoft.Storage."
AZUREML = "Microsoft.MachineLearningServices."
BODY_LIMIT = 2000
ID_LIMIT = 200

_SUBJECT = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_ACCOUNT = re.compile(r"/storageAccounts/([^/]+)", re.IGNORECASE)
_MANIFEST = re.compile(r"features/([^/]+)/([^/]+)/manifest\.json")
_MODEL_SUBJECT = re.compile(r"models/(.+):([^:]+)", re.DOTALL)
_JOB = re.compile(r"(?P<run>.+)-(?P<step>train|evaluate)-(?P<number>\d+)(?:-against-\d+)?", re.DOTALL)
_TERMINAL = {
    "completed": "completed",
    "finished": "completed",
    "failed": "failed",
    "notresponding": "failed",
    "canceled": "cancelled",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class NoSignal:
    """A well-formed event that wakes nothing, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event as it was delivered, whatever its schema; a field that was missing or of another type is empty."""

    id: str
    type: str
    topic: str
    subject: str
    at: datetime | None
    data: Any

    @property
    def body(self) -> str:
        """The event as JSON text for people, cut to what a record keeps."""
        try:
            return json.dumps({**vars(self), "at": str(self.at)}, default=repr, skipkeys=True)[:BODY_LIMIT]
        except RecursionError:
            return "(nested too deeply to be shown)"


def delivered(event: Any) -> Event:
    """The event of a Functions trigger: an EventGridEvent or a CloudEvent object, told apart by what they have.

    A CloudEvent that was decoded as an EventGridEvent has no event_type: its ``type`` is empty.
    """
    at = _first(event, datetime, "event_time", "time")
    return Event(
        id=_clean(_first(event, str, "id") or ""),
        type=_clean(_first(event, str, "event_type", "type") or ""),
        topic=_clean(_first(event, str, "topic", "source") or ""),
        subject=_clean(_first(event, str, "subject") or ""),
        at=at if at is None or at.tzinfo else at.replace(tzinfo=UTC),
        data=event.get_json(),
    )


def storage_signal(event: Event) -> Signal | NoSignal:
    """The signal of a storage event.

    BlobCreated, BlobRenamed and DirectoryRenamed become :class:`DataLanded`, or :class:`FeaturesReady` when the
    file is a run's manifest and not just being created. Whether a DataLanded file is complete, is ours and
    belongs to a pipeline is for the reaction to say. Other storage events, and what else the loop itself writes,
    wake nothing.
    """
    if not event.type.startswith(STORAGE):
        return _unreadable("storage", event, _wrong_type(event, "a storage account"))
    kind = event.type.removeprefix(STORAGE)
    if kind not in ("BlobCreated", "BlobRenamed", "DirectoryRenamed"):
        return NoSignal(f"{event.type} changes nothing that the loop uses")
    if not isinstance(event.data, Mapping):
        return _unreadable("storage", event, "the event has no data")
    if event.at is None:
        return _unreadable("storage", event, "the event has no eventTime")
    data = _Data(event.data)
    host, *address = _address(data.text("destinationUrl") or data.text("url"))
    place = _place(event.subject, address)
    if place is None:
        return _unreadable(
            "storage", event, f"neither subject {event.subject[:200]!r} nor url names a file in a container"
        )
    container, path = place
    account = _ACCOUNT.search(event.topic)
    api = data.text("api") or kind
    manifest = _MANIFEST.fullmatch(path)
    if manifest and api not in ("CreateFile", "SftpCreate"):
        return FeaturesReady(pipeline=manifest[1], run=manifest[2])
    if path.split("/")[0] in OWN_FOLDERS:
        return NoSignal(f"{path} is what the loop itself writes")
    etag = data.text("eTag").removeprefix("W/").strip('"')
    if not etag and not event.id:
        return _unreadable("storage", event, "the event has neither an eTag nor an id to know a second delivery by")
    return DataLanded(
        account=account[1] if account else host.split(".")[0],
        container=container,
        path=path,
        api=api,
        event=event.id,
        at=event.at,
        etag=etag,
        size=data.count("contentLength"),
    )


def azureml_signal(event: Event) -> Signal | NoSignal:
    """The signal of an Azure ML event: ModelRegistered, or the end of a training or evaluation job of a run.

    Jobs are known by their tags landfall.pipeline, landfall.run, landfall.step and landfall.version; without
    them by their name, ``<run>-train-<attempt>`` or ``<run>-evaluate-<version>[-against-<champion>]``, and the
    experiment, which is called like the pipeline. Jobs of others, features jobs and states that are not final wake
    nothing.
    """
    if not event.type.startswith(AZUREML):
        return _unreadable("azureml", event, _wrong_type(event, "an Azure ML workspace"))
    kind = event.type.removeprefix(AZUREML)
    if kind not in ("ModelRegistered", "RunCompleted", "RunStatusChanged"):
        return NoSignal(f"{event.type} changes nothing that the loop uses")
    if not isinstance(event.data, Mapping):
        return _unreadable("azureml", event, "the event has no data")
    data = _Data(event.data)
    if kind == "ModelRegistered":
        return _model(event, data)
    reported = data.text("runStatus") or ("Completed" if kind == "RunCompleted" else "")
    job = data.text("runId") or event.subject.rpartition("/runs/")[2]
    if not job or not reported:
        return _unreadable("azureml", event, f"the event has no {'runStatus' if job else 'runId'}")
    status = _TERMINAL.get(reported.lower())
    if status is None:
        return NoSignal(f"job {job} is {reported}, which is no final state")
    return _job(event, data, job, status)


def _model(event: Event, data: _Data) -> Signal:
    by_subject = _MODEL_SUBJECT.fullmatch(event.subject)
    model = data.text("modelName") or (by_subject[1] if by_subject else "")
    version = data.text("modelVersion") or (by_subject[2] if by_subject else "")
    if not model or not version:
        return _unreadable("azureml", event, "the event names no model and version")
    return ModelRegistered(model=model, version=version)


def _job(event: Event, data: _Data, job: str, status: str) -> Signal | NoSignal:
    tags = _Data(data.mapping("runTags"))
    named = _JOB.fullmatch(job)
    pipeline = tags.text("landfall.pipeline") or data.text("experimentName")
    step = tags.text("landfall.step") or (named["step"] if named else "")
    if step not in ("train", "evaluate"):
        return NoSignal(f"job {job} is no training or evaluation of a run")
    if not pipeline:
        return _unreadable("azureml", event, f"job {job} has no tag landfall.pipeline and no experiment")
    if step == "evaluate":
        version = tags.text("landfall.version") or (named["number"] if named and named["step"] == step else "")
        if version:
            return EvaluationFinished(pipeline=pipeline, version=version, status=status, job=job)
        return _unreadable("azureml", event, f"evaluation job {job} has no tag landfall.version")
    run = tags.text("landfall.run") or (named["run"] if named and named["step"] == step else "")
    if run:
        return TrainingFinished(pipeline=pipeline, run=run, status=status)
    return _unreadable("azureml", event, f"training job {job} has no tag landfall.run")


def _unreadable(source: str, event: Event, reason: str) -> EventUnreadable:
    body = event.body
    name = event.id[:ID_LIMIT] or hashlib.sha256(body.encode()).hexdigest()[:16]
    return EventUnreadable(source=source, event=name, reason=reason, body=body)


def _wrong_type(event: Event, source: str) -> str:
    if event.type:
        return f"{event.type} is no event of {source}; mend the subscription's filter"
    return "the event has no eventType; the subscription must deliver the Event Grid schema"


def _place(subject: str, address: list[str]) -> tuple[str, str] | None:
    """(container, path). The subject holds the name as it is, the url percent-encoded.

    The url is believed where the subject is missing, was damaged in transport (characters outside the basic
    plane arrive as U+FFFD), or is itself encoded: then both spell the name in the same way.
    """
    by_subject = _SUBJECT.fullmatch(subject)
    by_url = [unquote(part) for part in address]
    if by_subject is None:
        return (by_url[0], by_url[1]) if len(by_url) == 2 and all(by_url) else None
    container, path = by_subject[1], by_subject[2]
    if len(by_url) == 2 and by_url[1] and ("\ufffd" in path or path == address[1]):
        path = by_url[1]
    return container, path


def _address(url: str) -> list[str]:
    """[host, container, path] of a file's url as they are spelled there; shorter when it has less."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return [""]
    return [parts.netloc, *parts.path.removeprefix("/").split("/", 1)]


class _Data:
    """A JSON object read without regard to the case of its keys and the types of its values."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._values = {str(key).lower(): value for key, value in data.items()}

    def text(self, key: str) -> str:
        """A text, or a whole number as text; empty when it is missing or something else."""
        value = self._values.get(key.lower())
        if isinstance(value, int) and not isinstance(value, bool):
            return format(value, "d") if abs(value) < 10**18 else ""
        return _clean(value) if isinstance(value, str) else ""

    def count(self, key: str) -> int | None:
        """A number that is not negative, also when it came as text; None when it is missing or something else."""
        text = self.text(key)
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A JSON object; empty when it is missing or something else."""
        value = self._values.get(key.lower())
        return value if isinstance(value, Mapping) else {}


def _first(event: Any, wanted: type, *names: str) -> Any:
    return next((value for name in names if isinstance(value := getattr(event, name, None), wanted)), None)


def _clean(text: str) -> str:
    """JSON can spell half a character (a lone surrogate), which no store can hold."""
    return text.encode(errors="replace").decode()
