"""What docs/deploying.md says: its commands are run, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex

from typer.testing import CliRunner

from landfall.cli import app
from landfall.setup.role import GRANTS
from landfall.setup.synapse_role import PIPELINES, SPARK
from shared.settings import ROOT
from tests.docs.test_readme import commands
from tests.doctor.conftest import Installation
from tests.infra.bicep import read
from tests.infra.test_bicep import INFRA

PAGE = ROOT / "docs" / "deploying.md"


def test_the_commands_of_the_page_work(installation: Installation) -> None:
    lines = [line for line in commands(PAGE) if line.startswith(".venv/bin/landfall")]
    assert [line.split()[1:] for line in lines] == [["setup"], ["setup", "--apply"], ["doctor"]]
    for line in lines:
        ran = CliRunner().invoke(app, shlex.split(line)[1:])
        assert ran.exit_code == 0, f"{line}\n{ran.output}"


def test_every_check_of_an_app_is_on_the_page(installation: Installation) -> None:
    _, found = installation.examined()
    text = PAGE.read_text()
    of_setup = {"container", "system topic", "role assignment", "Synapse role", "workspace connection", "datastore"}
    of_setup |= {"compute cluster", "environment", "online endpoint"}
    of_setup |= {f"Synapse {what}" for what in ("linked service", "dataset", "pipeline")}
    rows = "\n".join(re.findall(r"^\| (.+?) \|", text, re.M))
    for check in {finding["check"] for finding in found} - of_setup:
        assert check in rows, check


def test_the_roles_of_the_page_are_those_that_are_given() -> None:
    rows = set(re.findall(r"^\| ([a-z ]+) \| ((?:[A-Z]\w+ ?)+) \| ([^|]+) \|", PAGE.read_text(), re.M))
    given = {(grant.who, grant.role, grant.where) for grant in GRANTS}
    in_synapse = {row for row in rows if row[1] in (SPARK, PIPELINES)}
    assert rows - in_synapse == given
    assert {row[1] for row in in_synapse} == {SPARK, PIPELINES}


def test_variables_of_the_commands_are_given_out_by_the_bicep() -> None:
    used = set(re.findall(r"\$([A-Z_]+)", "\n".join(commands(PAGE))))
    assert used and used <= set(read(INFRA / "main.bicep").outputs)
