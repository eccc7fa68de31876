"""Files that appear whole: a reader, a watcher and a power cut meet the old content or the new one."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path

LEFTOVER_SECONDS = 24 * 3600
"""A part file of this age belongs to a writer that died."""


def write_whole(target: Path, data: bytes | Path, *, staging: Path, overwrite: bool = True) -> os.stat_result:
    """Write ``data`` in the folder ``staging``, then move it to ``target`` in one step; returns what was written.

    A path as ``data`` stands for the content of that file.

    ``staging`` is made when needed and must be on the file system of ``target``, outside of any folder
    that is watched. The content has reached the disk on return. With ``overwrite`` False raises
    FileExistsError when ``target`` exists: of several writers exactly one wins.
    """
    staging.mkdir(parents=True, exist_ok=True)
    part = staging / uuid.uuid4().hex
    try:
        with part.open("xb") as file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 2**20)
            else:
                file.write(data)
            file.flush()
            # The kernel's own stamps may be milliseconds apart; two quick writes must differ.
            now = time.time_ns()
            os.utime(file.fileno(), ns=(now, now))
            os.fsync(file.fileno())
            written = os.fstat(file.fileno())
        if overwrite:
            part.replace(target)
        else:
            # A rename would replace what is there; a hard link does not.
            os.link(part, target)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return written


def remove_leftovers(staging: Path) -> None:
    """Remove what writers that died left in ``staging``: part files older than a day."""
    if not staging.is_dir():
        return
    for part in staging.iterdir():
        try:
            if time.time() - part.stat().st_mtime > LEFTOVER_SECONDS:
                part.unlink()
        except FileNotFoundError:
            # Its writer lives and has just moved it.
            continue


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
