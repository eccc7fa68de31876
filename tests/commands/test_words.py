"""What people read is what was said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.settings import ROOT, child_environment


def landfall(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "landfall.cli", *arguments],
        cwd=ROOT,
        env=child_environment({"LANDFALL_HOME": str(home)}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_names_with_square_brackets_are_shown_whole(tmp_path: Path) -> None:
    done = landfall(tmp_path, "why", "landing/x/[red]a.csv")
    assert done.returncode == 3
    assert "'landing/x/[red]a.csv'" in done.stderr.replace("\n", "")


def test_settings_faults_are_shown_whole(tmp_path: Path) -> None:
    done = landfall(tmp_path / "[home]", "land", "no-pipeline", str(ROOT / "README.md"))
    assert done.returncode in (1, 2, 3)
    assert "no-pipeline" in done.stderr
