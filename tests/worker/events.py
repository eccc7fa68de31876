"""Events as subscriptions deliver them. Azurite raises none, so its files are looked at; the stand-in keeps its own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tests.standin import StandIn

POLL_SECONDS = 0.3


def blob_created(account: str, container: str, path: str, etag: str, size: int) -> dict[str, Any]:
    """The event of a file that was closed."""
    topic = f"/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{account}"
    subject = f"/blobServices/default/containers/{container}/blobs/{path}"
    data = {
        "api": "FlushWithClose",
        "requestId": str(uuid.uuid4()),
        "eTag": etag,
        "contentLength": size,
        "contentOffset": 0,
        "blobType": "BlockBlob",
        "url": f"https://{account}.dfs.core.windows.net/{container}/{quote(path)}",
        "sequencer": uuid.uuid4().hex,
    }
    return _event(topic, subject, "Microsoft.Storage.BlobCreated", data)


@contextmanager
def subscribed(cloud: StandIn, container: str, deliver: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Deliver an event for each file that lands or is a manifest, and for what Azure ML says of jobs and models."""
    stop, told = threading.Event(), set()

    def look() -> None:
        files = cloud.blobs.client().get_container_client(container)
        heard = 0
        while not stop.wait(POLL_SECONDS):
            for blob in files.list_blobs():
                wanted = blob.name.startswith("landing/") or blob.name.endswith("/manifest.json")
                if wanted and (blob.name, blob.etag) not in told:
                    told.add((blob.name, blob.etag))
                    deliver(blob_created(cloud.ml.account, container, blob.name, blob.etag.strip('"'), blob.size))
            raised = cloud.ml.raised[heard:]
            heard += len(raised)
            for event in raised:
                deliver(_event("/subscriptions/0/workspaces/w", event.subject, event.kind, event.data))

    thread = threading.Thread(target=look, name="events")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _event(topic: str, subject: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "topic": topic,
        "subject": subject,
        "eventType": kind,
        "eventTime": datetime.now(UTC).isoformat(),
        "id": str(uuid.uuid4()),
        "data": data,
        "dataVersion": "1",
        "metadataVersion": "1",
    }
