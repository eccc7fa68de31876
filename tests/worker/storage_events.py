"""Storage events of an account as subscriptions deliver them. An emulator raises none: its files are looked at."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from shared.ports.lake import FileInfo, Lake

POLL_SECONDS = 0.3


def blob_created(lake: Lake, info: FileInfo) -> dict[str, Any]:
    """The event of a file that was closed."""
    return {
        "topic": "/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/" + lake.account,
        "subject": f"/blobServices/default/containers/{lake.container}/blobs/{info.path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": datetime.now(UTC).isoformat(),
        "id": str(uuid.uuid4()),
        "data": {
            "api": "FlushWithClose",
            "requestId": str(uuid.uuid4()),
            "eTag": info.etag,
            "contentLength": info.size,
            "contentOffset": 0,
            "blobType": "BlockBlob",
            "url": f"https://{lake.account}.dfs.core.windows.net/{lake.container}/{quote(info.path)}",
            "sequencer": uuid.uuid4().hex,
        },
        "dataVersion": "3",
        "metadataVersion": "1",
    }


@contextmanager
def subscribed(lake: Lake, deliver: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Deliver an event for each file that lands or is a manifest, as infra/subscriptions.bicep filters them."""
    stop, told = threading.Event(), set()

    def look() -> None:
        while not stop.wait(POLL_SECONDS):
            manifests = (file for file in lake.list("features/") if file.path.endswith("/manifest.json"))
            for file in [*lake.list("landing/"), *manifests]:
                if (file.path, file.etag) not in told:
                    told.add((file.path, file.etag))
                    deliver(blob_created(lake, file))

    thread = threading.Thread(target=look, name="storage events")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
