"""MLflow's database on one laptop: made once, however many processes want it first.

``python -m shared.adapters.local.tracking <home> <experiment> [command …]`` makes what is missing and
becomes the command. MLflow is loaded only when something is missing.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from shared.settings import ROOT, child_environment, export

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment for processes that use MLflow: nothing sent home, no progress bars, no complaint about git."""


def uri(home: Path) -> str:
    """The tracking and registry URI of the database below ``home``."""
    return f"sqlite:///{database(home)}"


def database(home: Path) -> Path:
    """MLflow's database below ``home``, there once it was made."""
    return home.absolute() / "mlflow" / "mlflow.db"


def models(home: Path) -> Path:
    """The folder of the registered models' files."""
    return home / "mlflow" / "models"


def hush() -> None:
    """Keep MLflow quiet in this process; to be called before its first import."""
    export(QUIET)


def ensure(home: Path) -> None:
    """Make the database when there is none, in a process of its own; returns when it can be used."""
    if not database(home).exists():
        subprocess.run(
            [sys.executable, "-m", __name__, str(home), ""], cwd=ROOT, env=child_environment(QUIET), check=True
        )


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the one lock of MLflow's folder, against other threads and processes; a crash gives it back."""
    folder = home / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(home: Path, experiment: str) -> None:
    """Make the database, and the experiment with its artifacts below ``home``, where they are missing.

    Meant for a short-lived process: MLflow keeps the files open that it made.
    """
    marker = home / "mlflow" / "experiments" / quote(experiment, safe="")
    made = database(home)
    if made.exists() and (not experiment or marker.exists()):
        return
    with locked(home):
        from mlflow import MlflowClient

        if not made.exists():
            _create(made)
        if experiment and not marker.exists():
            client = MlflowClient(uri(home))
            if client.get_experiment_by_name(experiment) is None:
                artifacts = home / "mlflow" / "artifacts" / quote(experiment, safe="")
                client.create_experiment(experiment, artifact_location=artifacts.as_uri())
            marker.parent.mkdir(exist_ok=True)
            marker.touch()


def _create(database: Path) -> None:
    import sqlite3

    from mlflow import MlflowClient

    # Built beside its place, so that a crash half-way leaves no half-made schema under the name.
    part = database.with_name(f"part-{os.getpid()}.db")
    MlflowClient(f"sqlite:///{part}").search_experiments()
    with sqlite3.connect(part) as connection:
        # Readers (the host) and writers (jobs) do not wait for each other; the mode stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    part.rename(database)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), sys.argv[2])
    if command := sys.argv[3:]:
        os.execvp(command[0], command)
