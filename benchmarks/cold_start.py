"""What a process pays before its first signal: whole processes that import and leave."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from benchmarks.figures import Figure, interleaved
from shared.settings import ROOT

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

PROGRAMS = {
    "import azure.functions": "import azure.functions",
    "import function_app": "import function_app",
    "import function_app, handle a storage event": FIRST_EVENT,
    "mlflow, pandas, sklearn at the top": "import azure.functions, mlflow, pandas, sklearn.ensemble",
}


def run(quick: bool) -> list[Figure]:
    """Seconds of a whole process, from its start to its end."""
    contenders = {what: partial(_seconds, program) for what, program in PROGRAMS.items()}
    return interleaved("cold start", "s", contenders, runs=3 if quick else 11)


def _seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    return time.perf_counter() - start
