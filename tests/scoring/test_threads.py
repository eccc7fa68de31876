"""A process that begins with several threads at once, as a host does whose queue and callers waited for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from shared.adapters.local.model_registry import MlflowRegistry
from shared.settings import ROOT
from tests.scoring.models import register

BEGIN = """
import sys, threading
from pathlib import Path
from shared.adapters.local.model_registry import MlflowRegistry
from shared.models.served_model import ServedModel

home, folder = map(Path, sys.argv[1:])
failed = []
threading.excepthook = lambda args: failed.append(repr(args.exc_value))
threads = [
    threading.Thread(target=look)
    for look in (lambda: MlflowRegistry(home).alias("m", "champion"), lambda: ServedModel(folder))
    for _ in range(2)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("; ".join(failed) or 0)
"""


@pytest.mark.parametrize("attempt", range(2))
def test_a_model_is_loaded_while_the_registry_is_first_asked(tmp_path: Path, attempt: int) -> None:
    home = tmp_path / "home"
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
    folder = register(MlflowRegistry(home), home, "m", LogisticRegression().fit(rows, [0, 0, 1, 1]), rows)
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, str(home), str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
