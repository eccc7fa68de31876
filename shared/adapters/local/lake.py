"""The lake as a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from shared.adapters.local.whole_file import remove_leftovers, write_whole
from shared.errors import AlreadyExists, Missing, Rejected
from shared.ports.lake import FileInfo, can_be_named, check_path, check_prefix

PAGE = 5000
"""Files of a page."""


class FolderLake:
    """The Lake port on the folder ``root``, where people and engines may put files by other ways, too.

    The etag is made of modification time (ns), size and inode number, so that it costs the same for
    a file of any size and is right for files that were copied in by hand. Our own writes are new
    inodes with a time stamp of their own: their etags always differ. A copy by hand over a file is
    missed only when it keeps the size within one tick of the file system's clock, and touching a
    file gives a new etag for the same content: work is done once more, never left out.

    Symbolic links are never followed, since they can lead out of the lake: a path through one is
    Rejected and a list leaves it out. A list also leaves out files whose name no path can have.

    Writes are prepared in the folder ``<root>.partial`` beside the lake, so that who watches the lake
    sees whole files only; it must be on the same file system, one that has hard links.
    """

    def __init__(self, root: Path, account: str, container: str) -> None:
        self.account = account
        self.container = container
        self._root = root.absolute()
        self._staging = self._root.with_name(f"{self._root.name}.partial")
        self._tidy = False

    def stat(self, path: str) -> FileInfo | None:
        """The file's present state, None when there is none (or it is a folder)."""
        self._place(path)
        return self._info(path)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """All files whose path begins with ``prefix``, in path order; folders that cannot hold one are not opened.

        Holds one folder's names in memory, per level of the tree.
        """
        return self._below(prefix, "")

    def page(self, prefix: str, after: str = "") -> tuple[Sequence[FileInfo], str]:
        """The next :data:`PAGE` files in path order, and the last one's path; the names of their folders are read."""
        files = list(islice(self._below(prefix, after), PAGE))
        return files, files[-1].path if len(files) == PAGE else ""

    def read(self, path: str) -> bytes:
        """The whole file. Raises :class:`~shared.errors.Missing` when there is none."""
        place = self._place(path)
        try:
            # Asked first: opening what is no regular file can wait for ever.
            if stat.S_ISREG(place.lstat().st_mode):
                return place.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            pass
        raise Missing(f"there is no file {path} in the lake ({place})")

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> FileInfo:
        """Put the whole file there at once, and on the disk; what holds for the port holds here."""
        return self._put(path, data, overwrite)

    def upload(self, path: str, source: Path, *, overwrite: bool = True) -> FileInfo:
        """Put a copy of a local file there at once, and on the disk."""
        return self._put(path, source, overwrite)

    def download(self, path: str, target: Path) -> None:
        """Put a copy at the local path ``target``, and on the disk, whole or not at all."""
        if self._info(path) is None:
            raise Missing(f"there is no file {path} in the lake ({self._place(path)})")
        try:
            write_whole(target, self._place(path), staging=target.parent)
        except FileNotFoundError as error:
            raise Missing(f"file {path} of the lake has just been removed") from error

    def _put(self, path: str, data: bytes | Path, overwrite: bool) -> FileInfo:
        place = self._place(path)
        if not self._tidy:
            remove_leftovers(self._staging)
            self._tidy = True
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise Rejected(f"cannot write {path}: a file is in the place of one of its folders; remove one") from error
        if place.is_dir():
            raise Rejected(f"cannot write {path}: there is a folder of that name; choose another")
        try:
            written = write_whole(place, data, staging=self._staging, overwrite=overwrite)
        except FileExistsError as error:
            raise AlreadyExists(f"there is a file {path} in the lake already") from error
        return _file_info(path, written)

    def delete(self, path: str) -> None:
        """Remove the file; nothing happens when there is none."""
        place = self._place(path)
        if self._info(path):
            place.unlink(missing_ok=True)

    def uri(self, path: str) -> str:
        """The absolute local path of a file or folder, whether it exists or not."""
        return str(self._place(path))

    def _place(self, path: str) -> Path:
        check_path(path)
        place = self._root
        for part in path.split("/"):
            place = place / part
            if place.is_symlink():
                raise Rejected(f"{path} leads through a symbolic link ({place}); the lake follows none: copy the file")
        return place

    def _info(self, path: str) -> FileInfo | None:
        try:
            found = (self._root / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _file_info(path, found) if stat.S_ISREG(found.st_mode) else None

    def _below(self, prefix: str, after: str) -> Iterator[FileInfo]:
        check_prefix(prefix)
        folder, slash, start = prefix.rpartition("/")
        if slash:
            self._place(folder)
        return self._walk(folder + slash, start, after)

    def _walk(self, folder: str, start: str, after: str) -> Iterator[FileInfo]:
        """Files below ``folder`` (empty, or with a slash at its end) whose path in it begins with ``start``.

        Their whole path comes behind ``after``.
        """
        try:
            with os.scandir(self._root / folder) as entries:
                # With its slash a folder sorts where the paths below it do: a-b, a.txt, a/b.
                names = sorted(
                    f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if entry.name.startswith(start)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            path = folder + name
            if name.endswith("/"):
                if path > after or after.startswith(path):
                    yield from self._walk(path, "", after)
            elif path <= after:
                continue
            elif can_be_named(path) and (info := self._info(path)):
                yield info


def _file_info(path: str, found: os.stat_result) -> FileInfo:
    return FileInfo(
        path=path,
        etag=f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}",
        size=found.st_size,
        modified=datetime.fromtimestamp(found.st_mtime, UTC),
    )
