"""The commands of the README and the docs, run as a newcomer runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def commands(page: Path) -> list[str]:
    """The lines of the page's shell blocks, continued ones joined."""
    blocks = [text for language, text in FENCE.findall(page.read_text()) if language in ("sh", "bash")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a home and pipelines of its own, in which the demo has been played."""
    folder = tmp_path_factory.mktemp("newcomer")
    pipelines = folder / "pipelines"
    # As in a fresh clone whose home was made by somebody's tool.
    (folder / "home").mkdir()
    subprocess.run(["cp", "-r", str(ROOT / "pipelines"), str(pipelines)], check=True)
    return {**os.environ, "LANDFALL_HOME": str(folder / "home"), "LANDFALL_PIPELINES": str(pipelines)}


def landfall(line: str, environment: dict[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    arguments = shlex.split(line)[1:]
    return subprocess.run(
        [sys.executable, "-m", "landfall.cli", *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_demo_plays_the_whole_loop(newcomer: dict[str, str]) -> None:
    played = landfall("landfall demo", newcomer)
    assert played.returncode == 0, played.stdout[-3000:] + played.stderr[-3000:]
    for said in (
        "promote version 1",
        "promote version 2 over version 1",
        "version 2 is the champion",
        "churn",
        "drift in",
        "no new labelled data has landed since version 2 was trained",
        "predictions whose labels landed",
        "the same event again: nothing, duplicate",
        "a broken event: rejected",
        "What happened, and why",
    ):
        assert said in " ".join(played.stdout.split()), said
    before, after = re.search(r"runs before (\d+), after (\d+)", played.stdout).groups()  # type: ignore[union-attr]
    assert before == after
    status = json.loads(landfall("landfall status --json", newcomer).stdout)
    churn = next(row for row in status["pipelines"] if row["name"] == "customer-churn")
    assert churn["champion"]["version"] == "2"
    assert churn["traffic"] == {"v2": 100}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in commands(page):
        if line.startswith("make "):
            assert line.split()[1] in targets, line


def test_the_readme_s_commands_work_after_the_demo(newcomer: dict[str, str], tmp_path: Path) -> None:
    rows = (ROOT / "samples" / "telco_churn.csv").read_text().splitlines()[:900]
    (tmp_path / "my-table.csv").write_text("\n".join(rows).replace("churn", "outcome", 1) + "\n")
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    ran = []
    for line in commands(ROOT / "README.md"):
        # tests/setup and tests/doctor run these two, against a stand-in of Azure.
        if line.startswith(".venv/bin/landfall") and line.split()[1] not in ("setup", "doctor"):
            done = landfall(line, newcomer, tmp_path)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            ran.append(line)
    assert len(ran) >= 6


def test_every_command_that_the_docs_name_exists() -> None:
    from typer.main import get_command

    from landfall.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for page in PAGES:
        for word in re.findall(r"`landfall ([a-z]+)", page.read_text()):
            assert word in known, f"{page.name} names landfall {word}"


def test_every_link_of_the_docs_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_http_route_of_the_operator_s_page_exists() -> None:
    from landfall.session import fresh_app

    routes = {
        binding["route"]
        for function in fresh_app().get_functions()
        for binding in (b.get_dict_repr() for b in function.get_bindings())
        if "route" in binding
    }
    text = (ROOT / "docs" / "operating.md").read_text()
    named = set(re.findall(r"`(?:GET|POST) /api/([^\s`]+)`", text))
    assert named
    plain = {re.sub(r"\{\*?\w+\}", "{}", route) for route in routes}
    for route in named:
        assert re.sub(r"\{\*?\w+\}", "{}", route) in plain, route
