"""The data lake: files under paths, in one container."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.errors import Rejected

_NEVER_IN_A_PATH = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class FileInfo:
    """A file of the lake: path below the container, etag without quotes, size in bytes."""

    path: str
    etag: str
    size: int
    modified: datetime


class Lake(Protocol):
    """Files with etags. A path is relative, with forward slashes, and names a file, never a folder.

    Every method raises :class:`~shared.errors.Rejected` for a path that :func:`check_path` refuses or
    that would leave the container.
    """

    account: str
    """The storage account that events of this lake come from."""
    container: str
    """The container (file system) that all paths are below."""

    def stat(self, path: str) -> FileInfo | None:
        """The file's present state, None when there is none (or it is a folder)."""
        ...

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """All files whose path begins with ``prefix``, in path order. Nothing there: an empty iterator.

        A prefix may be empty or end within a name or with a slash.
        """
        ...

    def page(self, prefix: str, after: str = "") -> tuple[Sequence[FileInfo], str]:
        """Some thousands of the files whose path begins with ``prefix``, in any order, and where the next page begins.

        ``after`` is where the page before said that this one begins, also a day ago or to another process; empty for
        the first. What is returned is empty at the last page. A file that is there all the time is in exactly one
        page; of one that comes or goes meanwhile nothing is said before the next time through.
        """
        ...

    def read(self, path: str) -> bytes:
        """The whole file. Raises :class:`~shared.errors.Missing` when there is none."""
        ...

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> FileInfo:
        """Put the whole file there at once: a reader sees the old or the new one, never a part.

        With ``overwrite`` False raises :class:`~shared.errors.AlreadyExists` when there is one, also
        when two writers race: exactly one wins. The etag of new content differs from every earlier one.
        Raises :class:`~shared.errors.Rejected` when the path is a folder or lies below a file.
        """
        ...

    def upload(self, path: str, source: Path, *, overwrite: bool = True) -> FileInfo:
        """Like write, with the content of the local file ``source``, which is never in memory as a whole."""
        ...

    def download(self, path: str, target: Path) -> None:
        """Put a copy at the local path ``target``, whole or not at all; it is never in memory as a whole.

        Raises :class:`~shared.errors.Missing` when there is no such file.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove the file; nothing happens when there is none."""
        ...

    def uri(self, path: str) -> str:
        """The address by which this backend's engines open a file or folder: a local path, or abfss://…"""
        ...


def check_path(path: str) -> None:
    """Raise :class:`~shared.errors.Rejected`, with the reason, when ``path`` can name no file in any lake.

    That is: it is empty or absolute, has an empty, ``.`` or ``..`` part, a backslash, a control
    character or a lone surrogate, is longer than 1,024 characters or has a part longer than 255 bytes.
    """
    if not path:
        raise Rejected("the path of a lake file is empty; give one below the container, like landing/churn/a.csv")
    if _NEVER_IN_A_PATH.search(path):
        raise _refuse(path, "holds a backslash or a control character")
    if path.startswith("/"):
        raise _refuse(path, "is absolute")
    parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise _refuse(path, "has an empty, '.' or '..' part")
    if len(path) > 1024 or any(len(part.encode()) > 255 for part in parts):
        raise _refuse(path, "is longer than 1024 characters, or a part of it than 255 bytes")


def can_be_named(path: str) -> bool:
    """False for a file that somebody has put there under a name that :func:`check_path` refuses."""
    try:
        check_path(path)
    except Rejected:
        return False
    return True


def check_prefix(prefix: str) -> None:
    """Raise :class:`~shared.errors.Rejected` when no path that :func:`check_path` lets pass begins with ``prefix``."""
    folder, slash, start = prefix.rpartition("/")
    if slash:
        check_path(folder)
    if start == "..":
        raise _refuse(prefix, "ends with '..'")
    if start:
        # Whatever a name begins with is itself a name, but for the dot of .hidden.
        check_path(prefix + "_" if start == "." else prefix)


def _refuse(path: str, why: str) -> Rejected:
    return Rejected(
        f"{path[:200]!r} is no path of a lake file: it {why}. Give one below the container, like landing/churn/a.csv"
    )
