"""Doctor on a laptop."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from landfall.cli import app
from landfall.doctor.finding import Check, Finding, examine
from shared.settings import ROOT


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and pipelines of its own, on any free port."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("LANDFALL_BACKEND", "local")
    monkeypatch.setenv("LANDFALL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LANDFALL_PIPELINES", str(tmp_path / "pipelines"))
    monkeypatch.setenv("LANDFALL_PORT", "0")
    return tmp_path


def examined() -> tuple[int, list[dict[str, Any]]]:
    ran = CliRunner().invoke(app, ["doctor", "--json"])
    return ran.exit_code, [finding for finding in json.loads(ran.stdout) if finding["state"] != "ok"]


def test_a_laptop_that_is_well(laptop: Path) -> None:
    assert examined() == (0, [])


def test_a_taken_port_an_unwritable_home_and_a_broken_pipeline_are_all_named(
    laptop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (laptop / "home").write_text("a file where the folder should be")
    (laptop / "pipelines" / "customer-churn" / "train.py").write_text("def broken(:\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("LANDFALL_PORT", str(taken.getsockname()[1]))
        code, found = examined()
    assert code == 1
    cures = {finding["check"]: finding["cure"] for finding in found}
    assert "LANDFALL_HOME" in cures["home"]
    assert "LANDFALL_PORT" in cures["port"]
    assert cures["pipelines"] == "Correct the script."


def test_a_check_that_stumbles_hides_no_other() -> None:
    def stumble() -> list[Finding]:
        raise ZeroDivisionError("nobody thought of this")

    def stand() -> list[Finding]:
        return [second.wrong("it is broken", "Mend it.")]

    first, second = Check(name="first", subject="a", look=stumble), Check(name="second", subject="b", look=stand)
    found = examine([first, second])
    assert [(one.check, one.state) for one in found] == [("first", "unknown"), ("second", "wrong")]
    assert "ZeroDivisionError: nobody thought of this" in found[0].what
