"""A home that cannot be written is said in a sentence, and nothing is left in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from landfall.demo import fresh_home
from shared.settings import ROOT, child_environment

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from landfall.cli import main
main()
"""


def landfall(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process that may write no byte into any file."""
    return subprocess.run(
        [sys.executable, "-B", "-c", FULL, *arguments],
        cwd=ROOT,
        env=child_environment({"LANDFALL_HOME": str(home), "LANDFALL_PORT": "0"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [["up"], ["freeze", "customer-churn"]], ids=lambda arguments: arguments[0])
def test_a_full_disk_is_said_in_a_sentence_and_no_half_written_keys_are_left(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = landfall(tmp_path / "home", *arguments)
    said = done.stderr.replace("\n", "")
    assert done.returncode == 1, done.stderr
    assert "refused:" in said
    assert "Traceback" not in said
    assert [file.name for file in (tmp_path / "home").glob("keys.json*")] == []


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = landfall(tmp_path / "file" / "home", "up")
    said = done.stderr.replace("\n", "")
    assert done.returncode == 1, done.stderr
    assert "file/home cannot be used" in said
    assert "LANDFALL_HOME" in said


def test_a_demo_s_home_in_which_somebody_worked_on_is_moved_aside(tmp_path: Path) -> None:
    home = tmp_path / "home"
    landing = home / "lake" / "landing"
    (landing / "mine").mkdir(parents=True)
    (landing / "customer-churn").mkdir()
    (home / "demo").touch()
    (landing / "customer-churn" / "customers-1.csv").write_text("of the demo")
    fresh_home(home)
    assert [place.name for place in tmp_path.iterdir()] == ["home"]
    (landing / "mine").mkdir(parents=True)
    (landing / "mine" / "table.csv").write_text("of somebody")
    fresh_home(home)
    (aside,) = (place for place in tmp_path.iterdir() if place != home)
    assert (aside / "lake" / "landing" / "mine" / "table.csv").read_text() == "of somebody"
    assert [file.name for file in home.iterdir()] == ["demo"]
