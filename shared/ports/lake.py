"""The data lake: files under paths, in one container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class FileInfo:
    """A file of the lake: path below the container, etag without quotes, size in bytes."""

    path: str
    etag: str
    size: int
    modified: datetime


class Lake(Protocol):
    """Files with etags. A path is relative, with forward slashes, and names a file, never a folder.

    Every method raises :class:`~shared.errors.Rejected` for a path that is absolute, is empty, has a
    ``..`` part, a backslash or a control character, or would leave the container.
    """

    account: str
    """The storage account that events of this lake come from."""
    container: str
    """The container (file system) that all paths are below."""

    def stat(self, path: str) -> FileInfo | None:
        """The file's present state, None when there is none (or it is a folder)."""
        ...

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """All files whose path begins with ``prefix``, in path order. Nothing there: an empty iterator."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file. Raises :class:`~shared.errors.Missing` when there is none."""
        ...

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> FileInfo:
        """Put the whole file there at once: a reader sees the old or the new one, never a part.

        With ``overwrite`` False raises :class:`~shared.errors.AlreadyExists` when there is one, also
        when two writers race: exactly one wins. The etag of new content differs from every earlier one.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove the file; nothing happens when there is none."""
        ...

    def uri(self, path: str) -> str:
        """The address by which this backend's engines open a file or folder: a local path, or abfss://…"""
        ...
