"""The lake as a container of an ADLS Gen2 account, through its blob endpoint."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.azure import patience
from shared.adapters.azure.failures import translated
from shared.errors import AlreadyExists, Conflict, Missing, Rejected, Transient
from shared.ports.lake import FileInfo, can_be_named, check_path, check_prefix

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.paging import ItemPaged
    from azure.storage.blob import BlobClient, BlobProperties, ContainerClient, StorageStreamDownloader

BLOCK = 8 * 1024 * 1024
"""Bytes of a local file that an upload has in memory."""
PAGE = 5000
"""Files of a page: the most that the service puts into one answer."""
MARK = "landfallwrite"
"""Metadata of a file: which write made it."""
READ_ATTEMPTS = 5
_TAKEN = {"BlobAlreadyExists", "ConditionNotMet"}
_OVERTAKEN = {"InvalidBlockList", "InvalidBlobOrBlock"}


class BlobLake:
    """The Lake port on ``container`` at the blob endpoint ``url``; ``account`` is the name that events and engines use.

    A write is one request, or blocks that one request commits. A file carries the mark of the write that made
    it: after an answer that was lost, a write that must not overwrite looks whether the file is its own.

    Folders of a hierarchical namespace are no files. A list is put in order here, because there a service
    goes folder by folder: its names are in memory as a whole.

    Every method raises :class:`~shared.errors.Transient` when the service does not answer or refuses the
    app's identity, and when there is no such container.
    """

    def __init__(
        self,
        url: str,
        account: str,
        container: str,
        credential: TokenCredential,
        *,
        seconds: float = patience.SECONDS,
    ) -> None:
        self.account = account
        self.container = container
        self._url, self._credential, self._seconds = url, credential, seconds
        self._lock = threading.Lock()
        self._client: ContainerClient | None = None

    def stat(self, path: str) -> FileInfo | None:
        """The file's present state, None when there is none (or it is a folder)."""
        found = self._properties(path)
        return None if found is None else _file_info(path, found)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """All files whose path begins with ``prefix``, in path order, as they are when the first is asked for."""
        check_prefix(prefix)
        return self._sorted(prefix)

    def page(self, prefix: str, after: str = "") -> tuple[Sequence[FileInfo], str]:
        """One page of the service, in its order: a single call."""
        check_prefix(prefix)
        try:
            with self._asked(f"list {prefix}"):
                pages = self._blobs(prefix, PAGE).by_page(after or None)
                files = _files(next(pages, iter(())))
                return files, pages.continuation_token or ""  # type: ignore[attr-defined]
        except Rejected:
            if not after:
                raise
            # The service no longer knows where it was: from the beginning.
            return self.page(prefix)

    def read(self, path: str) -> bytes:
        """The whole file. Raises :class:`~shared.errors.Missing` when there is none."""
        content: bytes = self._read(path, lambda download: download.readall())
        return content

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> FileInfo:
        """Put the whole file there at once; what holds for the port holds here."""
        blob = self._blob(path)

        def send(metadata: dict[str, str]) -> dict[str, Any]:
            return blob.upload_blob(data, length=len(data), overwrite=overwrite, metadata=metadata)

        return self._put(path, len(data), overwrite, send)

    def upload(self, path: str, source: Path, *, overwrite: bool = True) -> FileInfo:
        """Put a copy of a local file there at once; no more than a block of it is in memory."""
        blob = self._blob(path)
        with source.open("rb") as file:
            first = file.read(BLOCK)
            if len(first) < BLOCK:
                return self.write(path, first, overwrite=overwrite)
            size = 0

            def send(metadata: dict[str, str]) -> dict[str, Any]:
                from azure.core import MatchConditions
                from azure.storage.blob import BlobBlock

                nonlocal size
                blocks, block = [], first
                while block:
                    # Two writers of one path may stage blocks at the same time: none must be taken for another's.
                    name = uuid.uuid4().hex
                    blob.stage_block(name, block, length=len(block))
                    blocks.append(BlobBlock(block_id=name))
                    size += len(block)
                    block = file.read(BLOCK)
                condition: dict[str, Any] = {} if overwrite else {"match_condition": MatchConditions.IfMissing}
                return blob.commit_block_list(blocks, metadata=metadata, **condition)

            written = self._put(path, -1, overwrite, send)
        return FileInfo(written.path, written.etag, size, written.modified)

    def download(self, path: str, target: Path) -> None:
        """Put a copy at the local path ``target``, whole or not at all; parts of it are in memory."""
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")

        def save(download: StorageStreamDownloader[bytes]) -> None:
            with part.open("wb") as file:
                download.readinto(file)

        try:
            self._read(path, save)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """Remove the file; nothing happens when there is none."""
        if self._properties(path) is None:
            return
        try:
            with self._asked(f"delete {path}"):
                self._blob(path).delete_blob(delete_snapshots="include")
        except Missing:
            return

    def uri(self, path: str) -> str:
        """The abfss address of a file or folder, whether it exists or not."""
        check_path(path)
        return f"abfss://{self.container}@{self.account}.dfs.core.windows.net/{path}"

    def _read(self, path: str, take: Callable[[StorageStreamDownloader[bytes]], Any]) -> Any:
        """What ``take`` makes of the file; it is called again when the file was written over meanwhile."""
        blob = self._blob(path)
        for _ in range(READ_ATTEMPTS):
            try:
                with self._asked(f"read {path}"):
                    download = blob.download_blob()
                    if not _is_folder(download.properties):
                        return take(download)
            except Conflict:
                # It is read in parts of one version, and was written over between two of them.
                continue
            except Missing as error:
                raise Missing(f"there is no file {path} in the lake ({blob.url})") from error
            raise Missing(f"there is no file {path} in the lake, it is a folder ({blob.url})")
        raise Transient(f"read {path}: it is being written over again and again")

    def _put(
        self, path: str, size: int, overwrite: bool, send: Callable[[dict[str, str]], Mapping[str, Any]]
    ) -> FileInfo:
        mark = uuid.uuid4().hex
        try:
            with self._asked(f"write {path}"):
                answer = send({MARK: mark})
        except (Conflict, Rejected, Transient) as error:
            code = _code(error)
            if overwrite and isinstance(error, Transient):
                raise
            found = self._properties(path)
            if found is not None and found.metadata.get(MARK) == mark:
                return _file_info(path, found)
            if isinstance(error, Transient):
                raise
            if found is not None and not overwrite and code in _TAKEN | _OVERTAKEN:
                raise AlreadyExists(f"there is a file {path} in the lake already") from error
            if code in _OVERTAKEN or "Lease" in code:
                raise Transient(f"write {path}: another writer is at it ({code})") from error
            if isinstance(error, Conflict):
                raise Rejected(
                    f"cannot write {path}: a folder has that name, or a file is in the place of one of its folders "
                    f"({code}); choose another name or remove it"
                ) from error
            raise
        return FileInfo(path=path, etag=answer["etag"].strip('"'), size=size, modified=answer["last_modified"])

    def _sorted(self, prefix: str) -> Iterator[FileInfo]:
        with self._asked(f"list {prefix}"):
            files = _files(self._blobs(prefix))
        yield from sorted(files, key=lambda file: file.path)

    def _blobs(self, prefix: str, together: int | None = None) -> ItemPaged[BlobProperties]:
        return self._opened().list_blobs(
            name_starts_with=prefix or None, include=["metadata"], results_per_page=together
        )

    def _properties(self, path: str) -> BlobProperties | None:
        """What the service knows of a file, None when there is none or it is a folder."""
        blob = self._blob(path)
        try:
            with self._asked(f"look at {path}"):
                found = blob.get_blob_properties()
        except Missing:
            return None
        return None if _is_folder(found) else found

    @contextmanager
    def _asked(self, doing: str) -> Iterator[None]:
        try:
            with translated(f"{doing} in the lake"):
                yield
        except Missing as error:
            if _code(error) != "ContainerNotFound":
                raise
            raise Transient(
                f"{doing}: account {self.account} has no container {self.container}; "
                "make it, or name another in LANDFALL_LAKE_CONTAINER"
            ) from error

    def _blob(self, path: str) -> BlobClient:
        check_path(path)
        return self._opened().get_blob_client(path)

    def _opened(self) -> ContainerClient:
        with self._lock:
            if self._client is None:
                from azure.storage.blob import ContainerClient

                self._client = ContainerClient(
                    self._url,
                    self.container,
                    credential=self._credential,
                    # Whole files in one request, up to what the service takes.
                    max_single_put_size=5000 * 1024 * 1024,
                    **patience.options(self._seconds),
                )
            return self._client


def _code(error: Exception) -> str:
    """The service's own word for what is wrong."""
    return str(getattr(error.__cause__, "error_code", None) or "")


def _is_folder(found: BlobProperties) -> bool:
    return (found.metadata or {}).get("hdi_isfolder") == "true"


def _files(blobs: Iterable[BlobProperties]) -> list[FileInfo]:
    return [_file_info(blob.name, blob) for blob in blobs if not _is_folder(blob) and can_be_named(blob.name)]


def _file_info(path: str, found: BlobProperties) -> FileInfo:
    return FileInfo(path=path, etag=found.etag.strip('"'), size=found.size, modified=found.last_modified)
