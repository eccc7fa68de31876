"""Which landed files count, and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from shared.domain.durations import in_words
from shared.domain.pipelines import Complete

CLOSING = frozenset(
    {"PutBlob", "PutBlockList", "FlushWithClose", "SftpCommit"}
    | {"RenameFile", "RenameDirectory", "BlobRenamed", "DirectoryRenamed"}
)
"""api values that come when the writer has closed the file, or has renamed a finished one into place."""
STARTING = frozenset({"CopyBlob", "Found"})
"""api values of a file that may still grow: a copy has only begun, and reconcile finds files in any state."""
CREATING = frozenset({"CreateFile", "SftpCreate"})
"""api values of a file that was just opened; its content has an event of its own."""
UNFINISHED = (".tmp", ".temp", ".crc", ".part", ".partial", ".filepart", ".inprogress", "._copying_", ".swp", "~")
"""How the names of files end that their writers rename, or that stand beside the data."""
OWN_FOLDERS = ("batch", "features", "models", "predictions", "scoring", "spark")
"""Top folders of the lake that the loop itself writes: nothing lands there."""
SHORTEST = timedelta(seconds=1)
"""The soonest that a batch is looked at again: looks are told apart by their second."""


@dataclass(frozen=True, kw_only=True)
class LandedFile:
    """A committed file of the lake: path below the container, etag without quotes, size in bytes.

    ``closed`` is True when the writer was seen to close it; otherwise it counts as complete only when
    its etag and size stay the same over a quiet window. ``at`` is when this etag was first seen.
    """

    path: str
    etag: str
    size: int
    at: datetime
    closed: bool = True


def closes(api: str) -> bool:
    """True when a storage event with this ``api`` means that the file is whole."""
    return api in CLOSING


def ignored(path: str, api: str, size: int | None, *, marker: bool = False) -> str:
    """Why a landed file does not count, in words; empty when it counts.

    ``api`` is that of the storage event, or Found for a file that reconcile came across. ``size`` is in
    bytes; None is not known and must be asked, and so must the 0 that SftpCommit says of any file. Names
    that begin with ``_`` or ``.``, in any folder of the path too (``_temporary/``, ``_delta_log/``), are
    not data, as everywhere in Spark and Hive, where only partitions like ``_day=1/`` are. ``marker`` is True
    for a file that the pipeline waits for by its name: then neither name nor size speak against it.
    """
    if api in CREATING:
        return f"{api} only opens the file, its content comes with an event of its own"
    if api not in CLOSING | STARTING:
        return f"{api or 'an event without api'} does not write a file"
    if marker:
        return ""
    *folders, name = PurePosixPath(path).parts or ("",)
    for folder in folders:
        if _hidden(folder) and "=" not in folder:
            return f"it lies below {folder}/, which holds no data"
    if _hidden(name):
        return f"names that begin with {name[0]} are markers or hidden files"
    ending = next((ending for ending in UNFINISHED if name.lower().endswith(ending)), None)
    if ending:
        return f"names that end in {ending} are not finished files"
    if size == 0 and api != "SftpCommit":
        return "the file has no content (0 bytes)"
    return ""


def wait(
    files: Sequence[LandedFile],
    complete: Complete,
    *,
    opened_at: datetime,
    now: datetime,
    marked: bool = False,
    carried: bool = False,
) -> tuple[timedelta | None, str]:
    """(None, why) when an open batch with these files is complete, else (when to look again, what it waits for).

    ``marked`` tells whether its marker file is there; ``carried`` that it went on with the files of a batch
    of too few rows, so that with each_file, too, it waits for more. A file that nobody was seen to close
    holds the batch open until it has stayed the same for ``quiet``. ``max_wait`` after ``opened_at`` it is
    complete in any case. Files that lie beside a marker and have not joined yet are the caller's to find.
    """
    left = opened_at + complete.max_wait - now
    if left <= timedelta(0):
        return None, f"open for {in_words(complete.max_wait)}, the longest wait, with {_count(files)}"

    def again(span: timedelta, why: str) -> tuple[timedelta, str]:
        return max(min(span, left), SHORTEST), why

    if complete.marker and not marked:
        return again(left, f"the marker {complete.marker} is not there yet, {_count(files)} so far")
    if not files and not complete.marker:
        return again(complete.quiet, "no file has joined the batch yet")
    growing = max((f for f in files if not f.closed), key=_seen, default=None)
    if growing and now - growing.at < complete.quiet:
        why = f"nobody was seen to close {growing.path}, it has to stay the same for {in_words(complete.quiet)}"
        return again(_rest(growing, complete, now), why)
    if complete.marker:
        return None, f"the marker {complete.marker} is there, {_count(files)}"
    if complete.each_file and not carried:
        return None, "each file is a batch"
    newest = max(files, key=_seen)
    if now - newest.at < complete.quiet:
        return again(_rest(newest, complete, now), f"{newest.path} came less than {in_words(complete.quiet)} ago")
    return None, f"no new file for {in_words(complete.quiet)}, {_count(files)}"


def _seen(file: LandedFile) -> datetime:
    return file.at


def _rest(file: LandedFile, complete: Complete, now: datetime) -> timedelta:
    # A file may be stamped by a clock that is ahead: never wait for more than one quiet time.
    return min(file.at + complete.quiet - now, complete.quiet)


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _count(files: Sequence[LandedFile]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"
