"""What a process pays before its first signal: whole processes that import and leave."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from benchmarks.figures import Figure, interleaved
from shared.settings import ROOT

PROGRAMS = {
    "import azure.functions": "import azure.functions",
    "import function_app": "import function_app",
    "function_app and its first storage event": (
        "import azure.functions as func, function_app\nfrom functions.event_storage import event_storage\n"
    ),
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
