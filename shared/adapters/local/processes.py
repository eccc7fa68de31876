"""Jobs as child processes that outlive the host, each started at most once per name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.adapters.local.supervisor import find, stop_descendants, tail, write_record
from shared.errors import Rejected
from shared.ports.jobs import JobStatus
from shared.settings import ROOT

LAUNCH_SECONDS = 5.0
"""A folder without a supervisor after this time is one whose start was interrupted."""


class Processes:
    """Jobs below ``home``/jobs: a folder each with job.json, log.txt, status.json and what the process writes."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._jobs = self._home / "jobs"

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: dict[str, str],
        timeout: timedelta,
        events: list[dict[str, Any]] | None = None,
        fill: Callable[[Path], None] | None = None,
    ) -> None:
        """Start ``argv`` in ``cwd`` and return at once; a job of that name that exists is left as it is.

        ``env`` is added to this process's environment. After ``timeout`` the process and all its
        children are killed; what it leaves behind when it ends is, too. ``fill`` is called with the new
        folder before anybody can see it, to put there what the process needs in folder(name).
        ``events`` are raised when the job has ended: arguments of
        :func:`shared.adapters.local.spool.raise_event` without ``event_time``, and ``when``, the
        list of states (completed, failed) for which the event is raised.
        """
        folder = self.folder(name)
        if not folder.exists():
            job = {
                "argv": list(argv),
                "cwd": str(cwd),
                "env": env,
                "timeout": timeout.total_seconds(),
                "events": events or [],
                "home": str(self._home),
            }
            if self._claim(folder, job, fill):
                self._launch(folder)
                return
        self._recover(folder)

    def status(self, name: str) -> JobStatus | None:
        """The job's state with the last 20 lines of its log; None when no job of that name was started.

        A job whose supervisor is gone without an outcome is failed, and what it left running is ended.
        """
        folder = self.folder(name)
        if not folder.exists():
            return None
        # Asked first: a supervisor that ends in between has then written its outcome.
        supervisor = _read(folder / "supervisor.json")
        alive = supervisor is not None and find(supervisor) is not None
        outcome = _read(folder / "status.json")
        if outcome is not None:
            state, reason = outcome["state"], outcome["reason"]
        elif supervisor is None:
            self._recover(folder)
            state, reason = "queued", ""
        elif alive:
            state, reason = "running", ""
        else:
            _end_orphan(folder)
            state, reason = "failed", "was killed together with its supervisor, or the machine stopped"
        return JobStatus(name=name, state=state, reason=reason, log_tail=tail(folder / "log.txt"))

    def folder(self, name: str) -> Path:
        """The job's folder, whether it exists or not. Raises Rejected for a name that is no plain file name."""
        if not name or name.startswith(".") or Path(name).name != name:
            raise Rejected(f"{name!r} cannot name a job: use letters, digits and dashes")
        return self._jobs / name

    def _claim(self, folder: Path, job: dict[str, Any], fill: Callable[[Path], None] | None) -> bool:
        """Make the job's folder with everything in it; False when another caller was first."""
        staged = self._jobs / f".{folder.name}-{uuid.uuid4().hex}"
        staged.mkdir(parents=True)
        try:
            write_record(staged / "job.json", job)
            if fill is not None:
                fill(staged)
            # Renaming a folder onto one that is not empty fails: of several callers one wins.
            staged.rename(folder)
        except OSError:
            if folder.exists():
                return False
            raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return True

    def _recover(self, folder: Path) -> None:
        """Start the supervisor of a folder whose maker died before it could."""
        if (folder / "supervisor.json").exists():
            return
        if time.time() - (folder / "job.json").stat().st_mtime > LAUNCH_SECONDS:
            self._launch(folder)

    def _launch(self, folder: Path) -> None:
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "shared.adapters.local.supervisor", str(folder)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Somebody must take its exit code, or it stays in the process table as long as this host lives.
        threading.Thread(target=process.wait, name=f"reap-{folder.name}", daemon=True).start()


def _end_orphan(folder: Path) -> None:
    identity = _read(folder / "process.json")
    process = identity and find(identity)
    if process:
        stop_descendants(process, itself=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return record
