"""Landing a file by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from landfall.follow import follow, run_of_file
from landfall.session import working
from landfall.show import console
from shared.errors import AlreadyExists
from shared.ports.lake import FileInfo

LONGEST_WAIT_SECONDS = 3600.0


def land(pipeline: str, file: Path, *, wait: bool = True, quiet: bool = False) -> dict[str, Any]:
    """Copy ``file`` into the pipeline's landing folder and follow what comes of it.

    The name in the lake carries a hash of the content, so that the same file landed twice is one
    file. Returns path, status (landed, or the run's), run, version and reason.
    """
    with working() as (loop, own):
        folder = loop.catalog.whole(pipeline)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()[:8]
        path = f"{folder.pipeline.landing.path.rstrip('/')}/{file.stem}-{digest}{file.suffix}"
        say = console.print if not quiet else lambda *_: None
        info: FileInfo | None
        try:
            info = loop.ports.lake.upload(path, file, overwrite=False)
            say(
                f"[bold]{file.name}[/] landed as {path}"
                + (f", the loop runs here at pace {loop.settings.pace:g}" if own else "")
            )
        except AlreadyExists:
            info = loop.ports.lake.stat(path)
            say(f"{file.name} has landed before, as {path}")
        if not wait or info is None:
            return {"path": path, "status": "landed"}
        found = run_of_file(loop, pipeline, info, say, LONGEST_WAIT_SECONDS)
        if isinstance(found, str):
            say(f"nothing happened, because {found}")
            return {"path": path, "status": "nothing", "reason": found}
        run = follow(loop, found, quiet=quiet)
        return {"path": path, "status": run.status, "run": run.id, "version": run.version or None, "reason": run.reason}
