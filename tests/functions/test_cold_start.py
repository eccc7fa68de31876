"""Importing the app costs little: it opens nothing and imports no SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "mlflow", "pandas", "sklearn", "duckdb", "deltalake", "pyarrow", "sqlglot", "pydantic", "numpy", "scipy", "yaml",
    "cronsim", "starlette", "uvicorn", "psutil", "sqlite3", "requests", "httpx", "numba", "onnxruntime",
}  # fmt: skip

LOOK = """
import json, sys
opened = []
sys.addaudithook(lambda name, args: opened.append(name) if name.split(".")[0] in ("socket", "sqlite3", "subprocess")
    and name not in ("socket.__new__", "socket.gethostname") else None)
import function_app
names = [f.get_function_name() for f in function_app.app.get_functions()]
modules = sorted({name.split(".")[0] for name in sys.modules})
azure = sorted({".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("azure.")})
shared = sorted(name for name in sys.modules if name.startswith("shared."))
print(json.dumps({"opened": opened, "names": names, "modules": modules, "azure": azure, "shared": shared}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_the_app_imports_no_sdk(imported: dict[str, list[str]]) -> None:
    assert HEAVY & set(imported["modules"]) == set()
    assert imported["azure"] == ["azure.functions"]


def test_importing_the_app_opens_nothing(imported: dict[str, list[str]]) -> None:
    assert imported["opened"] == []


def test_importing_the_app_loads_neither_adapters_nor_reactions(imported: dict[str, list[str]]) -> None:
    assert [name for name in imported["shared"] if name.startswith(("shared.adapters", "shared.reactions"))] == []
    assert "shared.definitions.catalog" not in imported["shared"]


def test_every_file_of_functions_is_one_registered_function_of_its_name(imported: dict[str, list[str]]) -> None:
    files = sorted(path.stem for path in (ROOT / "functions").glob("*.py") if path.stem != "__init__")
    assert sorted(imported["names"]) == files
    assert all(name.split("_")[0] in ("event", "timer", "queue", "http") for name in files)
