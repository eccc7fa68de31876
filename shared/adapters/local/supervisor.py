"""The detached process that runs one job: ``python -m shared.adapters.local.supervisor <job folder>``.

It outlives the host that started it. At most one supervisor ever runs a job folder: the one whose
supervisor.json was there first; the others leave at once, so starting one too many does no harm.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.local.whole_file import write_whole
from shared.adapters.system_clock import SystemClock
from shared.settings import child_environment

if TYPE_CHECKING:
    import psutil

GRACE_SECONDS = 2.0
"""How long a process that is asked to stop may take before it is killed."""


class Stopped(Exception):
    """The supervisor was told to end its job."""


def supervise(folder: Path) -> None:
    """Run the job of ``folder`` once: its output to log.txt, its outcome to status.json, then its events.

    job.json holds argv, cwd, env (additions), timeout (seconds) and events. status.json appears
    whole: state (completed, failed), exit_code, reason, started_at and ended_at. Events
    come after it, so that who hears of the end also finds it; a crash between the two loses events,
    never the outcome.
    """
    # Who asks it to end before the job runs waits for that: it has an outcome to write.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if not _claim(folder):
        return
    job = json.loads((folder / "job.json").read_text())
    clock = SystemClock()
    started_at = clock.now()
    state, exit_code, reason = _run(job, folder)
    ended_at = clock.now()
    outcome = {"state": state, "exit_code": exit_code, "reason": reason}
    times = {"started_at": started_at.isoformat(), "ended_at": ended_at.isoformat()}
    write_record(folder / "status.json", outcome | times)
    events = [event for event in job["events"] if state in event.pop("when")]
    if events:
        from shared.adapters.local.spool import raise_event

        for event in events:
            raise_event(Path(job["home"]), event_time=ended_at, **event)


def _run(job: dict[str, Any], folder: Path) -> tuple[str, int | None, str]:
    """Run the job's process to its end: (state, exit code or None when it was stopped, reason)."""
    import psutil

    def stop(_signal: int, _frame: object) -> None:
        raise Stopped

    _adopt_orphans()
    env = child_environment({**job["env"], "PYTHONUNBUFFERED": "1"})
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                job["argv"], cwd=job["cwd"], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        write_record(folder / "process.json", _identity(psutil.Process(process.pid)))
        exit_code = process.wait(timeout=job["timeout"])
        if exit_code == 0:
            return "completed", 0, ""
        return "failed", exit_code, _why(exit_code, folder / "log.txt")
    except OSError as error:
        return "failed", None, f"could not start {job['argv'][0]} in {job['cwd']}: {error}"
    except subprocess.TimeoutExpired:
        return "failed", None, f"ran longer than its timeout of {job['timeout']:g} s and was stopped"
    except Stopped:
        return "failed", None, "its supervisor was told to end, as at a shutdown of the machine"
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_descendants(psutil.Process())


def stop_descendants(root: psutil.Process, *, itself: bool = False) -> None:
    """End every process below ``root``, also those in sessions of their own: first politely, then not."""
    import psutil

    # Kept from round to round: a process whose parent ended is no longer found below root.
    family = {root} if itself else set()
    for wait in (GRACE_SECONDS, *[1.0] * 10):
        with suppress(psutil.NoSuchProcess):
            family.update(root.children(recursive=True))
        family = {process for process in family if _alive(process)}
        if not family:
            return
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate() if wait == GRACE_SECONDS else process.kill()
        psutil.wait_procs(family, timeout=wait)


def _alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find(identity: dict[str, Any]) -> psutil.Process | None:
    """The live process with that pid and create time; None when it has ended, also when its pid was used again."""
    import psutil

    try:
        process = psutil.Process(identity["pid"])
        # The create time is rebuilt from the boot time, which can move a little when the clock is set.
        if abs(process.create_time() - identity["create_time"]) > 1.0 or not _alive(process):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def _identity(process: psutil.Process) -> dict[str, Any]:
    return {"pid": process.pid, "create_time": process.create_time()}


def _claim(folder: Path) -> bool:
    """Become the folder's one supervisor; False when there is or was another."""
    import psutil

    try:
        write_record(folder / "supervisor.json", _identity(psutil.Process()), overwrite=False)
    except FileExistsError:
        return False
    return True


def _adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends first, so that none is out of reach (Linux only)."""
    if sys.platform == "linux":
        PR_SET_CHILD_SUBREAPER = 36
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _why(exit_code: int, log: Path) -> str:
    lines = [line for line in tail(log) if line.strip()]
    last = f": {lines[-1].strip()}" if lines else " and printed nothing"
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}{last}"
    return f"exited with code {exit_code}{last}"


def tail(log: Path, lines: int = 20) -> tuple[str, ...]:
    """The last lines of a log file (of its last 32 KB); empty when there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 32_768))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-lines:])


def write_record(path: Path, record: dict[str, Any], *, overwrite: bool = True) -> None:
    """Write a JSON file of a job's folder that appears whole, as :func:`write_whole` does."""
    staging = path.parent.parent.with_name("jobs.partial")
    write_whole(path, json.dumps(record).encode(), staging=staging, overwrite=overwrite)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
