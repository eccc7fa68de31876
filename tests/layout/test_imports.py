"""The layout's promises, as failing checks."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}


def test_imports_point_one_way() -> None:
    # In a process of its own: the linter reconfigures logging.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as check; check()"]
    linted = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_only_settings_reads_the_environment() -> None:
    readers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _sources()
        if path != ROOT / "shared" / "settings.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name == "environ" for a in node.names))
    ]
    assert readers == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path.relative_to(ROOT)) for path in _sources() if VAGUE & {*path.parts, path.stem}] == []


def _sources() -> Iterator[Path]:
    yield ROOT / "function_app.py"
    for package in ("functions", "landfall", "shared"):
        yield from (ROOT / package).rglob("*.py")
