"""What a process pays before its first signal, and what is deployed: whole processes that import and leave."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import scoring
from benchmarks.figures import Figure, interleaved
from shared.settings import ROOT, child_environment

FIRST_EVENT = """
import datetime, azure.functions as func, function_app

class Signals(func.Out):
    def set(self, value): self.value = value
    def get(self): return self.value

signals = Signals()
subject = "/blobServices/default/containers/lake/blobs/landing/churn/a.csv"
data = {"api": "FlushWithClose", "eTag": "1", "contentLength": 1, "url": "https://a.dfs.core.windows.net/lake/a.csv"}
now = datetime.datetime.now(datetime.UTC)
topic, kind = "/storageAccounts/a", "Microsoft.Storage.BlobCreated"
event = func.EventGridEvent(
    id="1", data=data, topic=topic, subject=subject, event_type=kind, event_time=now, data_version="2"
)
function = next(f for f in function_app.app.get_functions() if f.get_function_name() == "event_storage")
function.get_user_function()(event, signals)
assert "DataLanded" in signals.value
"""

FIRST_ANSWER = """
import json, azure.functions as func, function_app

function = next(f for f in function_app.app.get_functions() if f.get_function_name() == "http_score")
body = json.dumps({"data": [[0.1 * i for i in range(20)]]}).encode()
request = func.HttpRequest("POST", "/", headers={}, route_params={"name": "numbers"}, body=body)
answer = function.get_user_function()(request)
assert answer.status_code == 200, answer.get_body()
"""

PROGRAMS = {
    "import azure.functions": "import azure.functions",
    "import function_app": "import function_app",
    "import function_app, handle a storage event": FIRST_EVENT,
    "import function_app, answer a scoring request": FIRST_ANSWER,
    "mlflow, pandas, sklearn at the top": "import azure.functions, mlflow, pandas, sklearn.ensemble",
}


def run(quick: bool) -> list[Figure]:
    """Seconds of a whole process, from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="landfall-cold-start-") as work:
        scoring.prepare(Path(work))
        place = {"LANDFALL_HOME": f"{work}/home", "LANDFALL_PIPELINES": f"{work}/pipelines"}
        contenders = {what: partial(_seconds, program, place) for what, program in PROGRAMS.items()}
        return [*interleaved("cold start", "s", contenders, runs=3 if quick else 11), *_package()]


def _package() -> list[Figure]:
    """Megabytes of what is deployed: the app's files, and the requirements as they lie in this environment."""
    files = [path for path in ROOT.rglob("*") if path.is_file() and not _ignored(path.relative_to(ROOT))]
    sizes = {"the app's own files": sum(path.stat().st_size for path in files), "its requirements, installed": 0}
    for name in _required():
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.is_file() and path.suffix != ".pyc":
                sizes["its requirements, installed"] += path.stat().st_size
    return [Figure("deployed package", what, "MB", size / 1e6, size / 1e6, 1, 1.0) for what, size in sizes.items()]


def _ignored(path: Path) -> bool:
    patterns = [line.strip() for line in (ROOT / ".funcignore").read_text().splitlines() if line.strip()]
    parents = [str(parent) for parent in path.parents if parent.name]
    return any(fnmatch(name, pattern) for pattern in patterns for name in (*path.parts, str(path), *parents))


def _required() -> set[str]:
    """The distributions of requirements.txt and all that they ask for on this machine."""
    todo = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    found: set[str] = set()
    while todo:
        requirement = Requirement(todo.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        todo += distribution(name).requires or ()
    return found


def _seconds(program: str, place: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=child_environment(place), check=True)
    return time.perf_counter() - start
