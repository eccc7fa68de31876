"""The storage events of a lake that is a folder, as ADLS Gen2 sends them from its dfs endpoint."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from watchfiles import Change, awatch

from shared.domain.landing import OWN_FOLDERS
from shared.errors import Rejected
from shared.ports.clock import Clock
from shared.ports.lake import FileInfo, Lake

log = logging.getLogger("landfall.host")

QUIET = timedelta(milliseconds=300)
"""A file whose size and modification time stay the same for so long was closed."""
MARGIN_SECONDS = 2.0
"""What changed so shortly before the last look that went well may have been reported with what broke the next."""
REMEMBER_SECONDS = 5.0
"""How long the file behind a name that is gone is remembered, to know it under a new name."""


@dataclass
class _Open:
    """A file that is being written."""

    info: FileInfo
    since: float


class LakeWatcher:
    """Tells ``publish`` what happens below ``root``, the folder of ``lake``.

    A new file gives CreateFile (0 bytes) at once and FlushWithClose when it was written and is quiet; one that
    was moved here with an old modification time gives both together. A file written over gives FlushWithClose. A
    file that the watcher has seen under another name (same inode, time and size) gives BlobRenamed; files of a
    renamed folder give one BlobRenamed each, where ADLS Gen2 sends one DirectoryRenamed. What no subscription of
    ours asks for gives nothing: what the loop itself writes, but for manifests.

    Files that are there when it starts give nothing: reconcile finds those that nobody has seen. When it is begun
    again after it broke, it tells of what happened meanwhile. A file whose name is no UTF-8 breaks the watch each
    time that it changes, and gives nothing: no path of a lake is spelled like that.
    """

    def __init__(
        self, root: Path, lake: Lake, clock: Clock, publish: Callable[[Sequence[dict[str, Any]]], None]
    ) -> None:
        self._root = root
        self._lake = lake
        self._clock = clock
        self._publish = publish
        self._open: dict[str, _Open] = {}
        self._told: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._gone: dict[str, float] = {}
        self._sequence = time.time_ns()
        self._broken = False
        self._whole_at = time.time()

    async def run(self, ready: Callable[[], None]) -> None:
        """Watch until cancelled; calls ``ready`` once nothing that happens is missed any more."""
        self._root.mkdir(parents=True, exist_ok=True)
        watch = awatch(
            self._root, watch_filter=None, debounce=100, step=20, rust_timeout=50, yield_on_timeout=True, recursive=True
        )
        try:
            async for changes in watch:
                ready()
                events = [*self._missed(), *self._noted(changes), *self._closed()]
                self._whole_at = time.time()
                if events:
                    self._publish(events)
        finally:
            self._broken = True

    def flush(self) -> None:
        """Tell of the files that are quiet now."""
        if events := list(self._closed()):
            self._publish(events)

    def _missed(self) -> Iterator[dict[str, Any]]:
        """What has changed since the watch broke, and was told by nobody."""
        if not self._broken:
            return
        self._broken = False
        for folder, _, files in os.walk(self._root):
            for file in sorted(files):
                place = Path(folder, file)
                with suppress(OSError):
                    if place.lstat().st_ctime >= self._whole_at - MARGIN_SECONDS:
                        yield from self._seen(place.relative_to(self._root).as_posix(), True, time.monotonic())

    def _noted(self, changes: Iterable[tuple[Change, str]]) -> Iterator[dict[str, Any]]:
        now = time.monotonic()
        for change, name in sorted(changes, key=lambda item: (item[0] != Change.deleted, item[1])):
            place = Path(name)
            if change is Change.deleted:
                self._gone[place.relative_to(self._root).as_posix()] = now
            elif change is Change.added and place.is_dir():
                # Files made in it before it was watched too are told by nobody else.
                for folder, _, files in os.walk(place):
                    for file in sorted(files):
                        yield from self._seen(Path(folder, file).relative_to(self._root).as_posix(), True, now)
            else:
                yield from self._seen(place.relative_to(self._root).as_posix(), change is Change.added, now)
        for path in [path for path, since in self._gone.items() if now - since > REMEMBER_SECONDS]:
            del self._gone[path]
            if self._stat(path) is None:
                self._names.pop(self._told.pop(path, ""), None)

    def _seen(self, path: str, added: bool, now: float) -> Iterator[dict[str, Any]]:
        info = self._stat(path) if wanted(path) else None
        if info is None or self._told.get(path) == info.etag:
            return
        source = self._names.get(info.etag)
        if source is not None and source != path and self._stat(source) is None:
            self._told.pop(source, None)
            self._tell(info)
            yield self._renamed(source, path)
            return
        known = self._open.get(path)
        if known is None:
            self._open[path] = _Open(info, now)
            if added:
                # Another etag than the one the content will have, as in ADLS Gen2.
                yield self._created(path, "CreateFile", f"{info.etag}-created", 0)
        elif known.info != info:
            self._open[path] = _Open(info, now)

    def _closed(self) -> Iterator[dict[str, Any]]:
        now, clock = time.monotonic(), self._clock.now()
        for path, known in list(self._open.items()):
            info = self._stat(path)
            if info is None:
                del self._open[path]
            elif info != known.info:
                self._open[path] = _Open(info, now)
            elif now - known.since >= QUIET.total_seconds() or clock - info.modified >= QUIET:
                del self._open[path]
                self._tell(info)
                yield self._created(path, "FlushWithClose", info.etag, info.size)

    def _stat(self, path: str) -> FileInfo | None:
        try:
            return self._lake.stat(path)
        except Rejected as error:
            log.warning("no event for a file of the lake: %s", error)
            return None

    def _tell(self, info: FileInfo) -> None:
        self._names.pop(self._told.get(info.path, ""), None)
        self._told[info.path] = info.etag
        self._names[info.etag] = info.path

    def _created(self, path: str, api: str, etag: str, size: int) -> dict[str, Any]:
        data = {
            "contentType": "application/octet-stream",
            "contentLength": size,
            "contentOffset": 0,
            "blobType": "BlockBlob",
            "eTag": etag,
            "url": self._url(path),
        }
        return self._event("BlobCreated", path, api, data)

    def _renamed(self, source: str, path: str) -> dict[str, Any]:
        data = {"sourceUrl": self._url(source), "destinationUrl": self._url(path)}
        return self._event("BlobRenamed", path, "RenameFile", data)

    def _event(self, kind: str, path: str, api: str, data: dict[str, Any]) -> dict[str, Any]:
        self._sequence += 1
        return {
            "topic": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/laptop/providers/"
            f"Microsoft.Storage/storageAccounts/{self._lake.account}",
            "subject": f"/blobServices/default/containers/{self._lake.container}/blobs/{path}",
            "eventType": f"Microsoft.Storage.{kind}",
            "eventTime": self._clock.now().isoformat(),
            "id": str(uuid.uuid4()),
            "data": {
                "api": api,
                "requestId": str(uuid.uuid4()),
                **data,
                "sequencer": f"{self._sequence:048x}",
                "storageDiagnostics": {"batchId": str(uuid.uuid4())},
            },
            "dataVersion": "3",
            "metadataVersion": "1",
        }

    def _url(self, path: str) -> str:
        return f"https://{self._lake.account}.dfs.core.windows.net/{self._lake.container}/{quote(path)}"


def wanted(path: str) -> bool:
    """True for the files that the storage subscription asks for: all but the loop's own, save manifests."""
    top, *rest = path.split("/")
    return top not in OWN_FOLDERS or (top == "features" and len(rest) == 3 and rest[2] == "manifest.json")
