"""What `landfall check` finds and says."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from landfall.check import check, check_for_events, report
from landfall.cli import app
from shared.errors import Missing

YAML = "name: {}\nlanding: {{path: landing/{}}}\nfeatures: {{key: k, label: y}}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pipelines"
    for name in ("good", "bad"):
        (root / name).mkdir(parents=True)
        (root / name / "pipeline.yaml").write_text(YAML.format(name, name))
        (root / name / "features.sql").write_text("select k, x, y from landed")
        (root / name / "train.py").write_text("print('hello')\n")
        (root / name / "environment.yml").write_text("dependencies: [python=3.11]\n")
    return root


def test_good_pipelines_are_named(root: Path) -> None:
    assert check(root) == []
    assert report([], ["bad", "good"]) == "2 pipelines are fine: bad, good"
    assert report([], []) == "There is no pipeline to check."


def test_script_and_environment_are_read(root: Path) -> None:
    (root / "bad" / "train.py").write_text("import os\nif True print(1)\n")
    (root / "bad" / "environment.yml").write_text("name: x\n")
    assert check(root, ["good"]) == []
    faults = check(root)
    assert [f.where for f in faults] == [
        "pipelines/bad/train.py:2",
        "pipelines/bad/environment.yml:1 dependencies",
    ]
    text = report(faults, ["bad", "good"])
    assert text.endswith("\n2 faults. What is live goes on as it was last defined.")
    assert "pipelines/bad/train.py:2: is no Python" in text


@pytest.mark.parametrize(("file", "content"), [("train.py", b"\xff\xfe\x00"), ("environment.yml", b"a: [\n")])
def test_unreadable_files_are_faults(root: Path, file: str, content: bytes) -> None:
    (root / "bad" / file).write_bytes(content)
    (fault,) = check(root, ["bad"])
    assert fault.where.startswith(f"pipelines/bad/{file}:")


def test_the_catalogs_faults_come_too(root: Path) -> None:
    (root / "bad" / "pipeline.yaml").write_text("name: bad\n")
    assert {f.where for f in check(root)} == {
        "pipelines/bad/pipeline.yaml:1 landing",
        "pipelines/bad/pipeline.yaml:1 features",
    }


def test_an_unknown_name_is_missing(root: Path) -> None:
    with pytest.raises(Missing, match=r"Did you mean good\?"):
        check(root, ["goot"])


def test_a_folder_of_which_no_event_tells_on_azure_is_a_fault_there_and_a_note_on_a_laptop(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = YAML.format("bad", "bad").replace("landing/bad", "incoming/bad")
    (root / "bad" / "pipeline.yaml").write_text(yaml)
    monkeypatch.setenv("LANDFALL_PIPELINES", str(root))
    assert check(root) == [] and check_for_events(root, ["good"]) == []
    (fault,) = check_for_events(root)
    assert fault.where == "pipelines/bad/pipeline.yaml:2 landing.path"
    assert "incoming/bad is outside landing/" in fault.what

    on_laptop = CliRunner().invoke(app, ["check"])
    assert on_laptop.exit_code == 0 and str(fault) in on_laptop.stdout

    for name in ("SUBSCRIPTION", "RESOURCE_GROUP", "WORKSPACE", "SYNAPSE", "SPARK_POOL", "LAKE_ACCOUNT"):
        monkeypatch.setenv(f"LANDFALL_{name}", "landfall")
    for name in ("LANDFALL_EVENTS_TOPIC", "AzureWebJobsStorage__accountName"):
        monkeypatch.setenv(name, "https://landfall")
    monkeypatch.setenv("LANDFALL_BACKEND", "azure")
    on_azure = CliRunner().invoke(app, ["check"])
    assert on_azure.exit_code == 1 and fault.what in on_azure.stdout
