"""Event subscriptions: which events wake which function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import EVENT_GRID, Estate

DEAD_LETTERS = "deadletter"
LANDING = "landing/"
"""The folder of the lake in which every landing.path lies."""
COMMITTED = ("CopyBlob", "FlushWithClose", "PutBlob", "PutBlockList", "RenameDirectory", "RenameFile", "SftpCommit")
"""The calls that leave a whole file behind; CreateFile, which opens an empty one, is not among them."""
RETRIES = {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}


@dataclass(frozen=True, kw_only=True)
class Events:
    """What a subscription lets through, and to which function. ``begins`` and ``ends`` are those of a path in the
    lake; empty they mean any.
    """

    name: str
    function: str
    of_lake: bool
    types: tuple[str, ...]
    begins: str = ""
    ends: str = ""


TABLE = (
    Events(
        name="landed",
        function="event_storage",
        of_lake=True,
        types=(
            "Microsoft.Storage.BlobCreated",
            "Microsoft.Storage.BlobRenamed",
            "Microsoft.Storage.DirectoryRenamed",
        ),
        begins=LANDING,
    ),
    Events(
        name="manifests",
        function="event_storage",
        of_lake=True,
        types=("Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobRenamed"),
        begins="features/",
        ends="/manifest.json",
    ),
    Events(
        name="jobs-and-models",
        function="event_azureml",
        of_lake=False,
        types=(
            "Microsoft.MachineLearningServices.ModelRegistered",
            "Microsoft.MachineLearningServices.RunCompleted",
            "Microsoft.MachineLearningServices.RunStatusChanged",
        ),
    ),
)


@dataclass(frozen=True)
class Subscription:
    """One row of :data:`TABLE` on Azure.

    Events come in Event Grid's own schema, which is all that a Python function reads. What cannot be delivered is
    kept in a container, into which Event Grid writes with the topic's identity.
    """

    estate: Estate
    events: Events
    kind = "event subscription"

    @property
    def name(self) -> str:
        return self.events.name

    @property
    def source(self) -> str:
        """What raises the events."""
        return self.estate.lake if self.events.of_lake else self.estate.workspace.path

    @property
    def function(self) -> str:
        """The id of the function that is woken."""
        return f"{self.estate.app}/functions/{self.events.function}"

    def desired(self) -> dict[str, Any]:
        blobs = f"/blobServices/default/containers/{self.estate.settings.container}/blobs/"
        of_lake = self.events.of_lake
        # Raises Missing while there is no topic to subscribe to.
        self.estate.system_topic(self.source)
        return {
            "function": self.function.lower(),
            "eventDeliverySchema": "EventGridSchema",
            "filter": {
                "includedEventTypes": list(self.events.types),
                "subjectBeginsWith": blobs + self.events.begins if of_lake else "",
                "subjectEndsWith": self.events.ends,
                "isSubjectCaseSensitive": of_lake,
                "advancedFilters": [{"operatorType": "StringIn", "key": "data.api", "values": list(COMMITTED)}]
                if of_lake
                else [],
            },
            "retryPolicy": dict(RETRIES),
            "deadLetter": {
                "identity": "SystemAssigned",
                "account": self.estate.lake.lower(),
                "container": DEAD_LETTERS,
            },
        }

    def actual(self) -> dict[str, Any] | None:
        there = self.estate.arm.find(self._path(), EVENT_GRID)
        return None if there is None else _seen(there["properties"])

    def apply(self) -> None:
        self.estate.arm.put(self._path(), EVENT_GRID, {"properties": self._properties()})

    def _path(self) -> str:
        return f"{self.estate.system_topic(self.source)['id']}/eventSubscriptions/{self.name}"

    def _properties(self) -> dict[str, Any]:
        wanted = self.desired()
        # One event a call: a failure sends again what it is about, and nothing else.
        endpoint = {"resourceId": self.function, "maxEventsPerBatch": 1, "preferredBatchSizeInKilobytes": 64}
        letters = {"resourceId": self.estate.lake, "blobContainerName": DEAD_LETTERS}
        return {
            "destination": {"endpointType": "AzureFunction", "properties": endpoint},
            "eventDeliverySchema": wanted["eventDeliverySchema"],
            "filter": wanted["filter"],
            "retryPolicy": wanted["retryPolicy"],
            "deadLetterWithResourceIdentity": {
                "identity": {"type": "SystemAssigned"},
                "deadLetterDestination": {"endpointType": "StorageBlob", "properties": letters},
            },
        }


def _seen(properties: dict[str, Any]) -> dict[str, Any]:
    """Of a subscription on Azure what ``desired`` speaks of; what is not set has the value that it then has."""
    to = (properties.get("destination") or {}).get("properties") or {}
    given = properties.get("filter") or {}
    with_identity = properties.get("deadLetterWithResourceIdentity") or {}
    letters = with_identity.get("deadLetterDestination") or properties.get("deadLetterDestination") or {}
    place = letters.get("properties") or {}
    return {
        "function": str(to.get("resourceId", "")).lower(),
        "eventDeliverySchema": properties.get("eventDeliverySchema") or "EventGridSchema",
        "filter": {
            "includedEventTypes": given.get("includedEventTypes") or [],
            "subjectBeginsWith": given.get("subjectBeginsWith") or "",
            "subjectEndsWith": given.get("subjectEndsWith") or "",
            "isSubjectCaseSensitive": bool(given.get("isSubjectCaseSensitive")),
            "advancedFilters": given.get("advancedFilters") or [],
        },
        "retryPolicy": {key: (properties.get("retryPolicy") or {}).get(key) for key in RETRIES},
        "deadLetter": {
            "identity": (with_identity.get("identity") or {}).get("type", "none"),
            "account": str(place.get("resourceId", "")).lower(),
            "container": place.get("blobContainerName", ""),
        },
    }
