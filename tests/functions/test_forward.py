"""A Functions host that watches no folder gets a laptop's events all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from landfall.host import LaptopHost
from shared.adapters.local import spool
from shared.adapters.local.lake import FolderLake
from shared.settings import child_environment
from tests.functions.tiny_app import Seen, until


@pytest.fixture
def other_home(host: LaptopHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose events are forwarded to the host of another one."""
    home = tmp_path_factory.mktemp("other")
    command = [sys.executable, "-m", "landfall.cli", "events", "forward", "--to", host.url]
    environment = child_environment({"LANDFALL_HOME": str(home)})
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("forwarding")
        yield home
        process.kill()


def test_files_of_the_lake_and_ends_of_jobs_are_told_to_the_host(other_home: Path, seen: Seen) -> None:
    FolderLake(other_home / "lake", "landfall", "lake").write("landing/churn/day.csv", b"a\n1\n")
    spool.raise_event(
        other_home,
        **spool.azureml_run_event("RunCompleted", experiment="churn", run="churn-b1-train-1", state="completed"),
        event_time=datetime.now(UTC),
        topic="t",
    )
    apis = lambda: {event.get_json()["api"] for event in seen.of("event_storage")}  # noqa: E731
    until(lambda: "FlushWithClose" in apis(), what="the file is told")
    (finished,) = seen.wait("event_azureml")
    assert finished.get_json()["runId"] == "churn-b1-train-1"
    until(lambda: spool.waiting(other_home) == [], what="the event is taken")
