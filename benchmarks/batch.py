"""A file scored: ``landfall score`` beside what one would write by hand, each a whole process.

``python -m benchmarks.batch ROWS`` measures any number of rows once and prints the table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from benchmarks import scoring
from benchmarks.figures import Figure, compared, table
from shared.settings import ROOT, child_environment

GENERATE = """
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq

path, rows, columns = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
random = np.random.default_rng(7)
writer = None
for begin in range(0, rows, 500_000):
    ids = np.arange(begin, min(rows, begin + 500_000))
    made = {"id": ids, **{name: random.normal(0, 2, len(ids)).round(4) for name in columns}}
    part = pa.table(made)
    writer = writer or pq.ParquetWriter(path, part.schema)
    writer.write_table(part)
writer.close()
"""
COMPARE = """
import sys
import numpy as np, pyarrow.parquet as pq

ours, theirs = (pq.read_table(path) for path in sys.argv[1:])
for name in ("id", "prediction"):
    assert ours[name].equals(theirs[name]), f"other values of {name}"
assert np.abs(ours["probability"].to_numpy() - theirs["probability"].to_numpy()).max() < 1e-5
"""


def run(quick: bool) -> list[Figure]:
    """10 million rows, 200,000 in the quick form."""
    return measured(200_000 if quick else 10_000_000)


def measured(rows: int) -> list[Figure]:
    """Seconds and most memory of each, once. Raises CalledProcessError unless Landfall predicts what a model does."""
    with tempfile.TemporaryDirectory(prefix="landfall-batch-") as name:
        work = Path(name)
        scoring.prepare(work)
        _crown(work)
        source, ours, theirs = work / "rows.parquet", work / "ours.parquet", work / "theirs.parquet"
        subprocess.run([sys.executable, "-c", GENERATE, str(source), str(rows), ",".join(scoring.COLUMNS)], check=True)
        script = [sys.executable, str(scoring.SCRIPTS / "chunked_score.py")]
        model = str(work / "model")
        command = str(Path(sys.executable).with_name("landfall"))
        contenders: dict[str, Callable[[], tuple[float, float, float]]] = {
            "scikit-learn and pandas in chunks": partial(_process, [*script, "sklearn", model, source, theirs], work),
            "MLflow's pyfunc in chunks": partial(_process, [*script, "pyfunc", model, source, work / "other"], work),
            "landfall score": partial(_process, [command, "score", "numbers", source, "--out", ours, "--json"], work),
        }
        taken = {name: measure() for name, measure in contenders.items()}
        subprocess.run([sys.executable, "-c", COMPARE, str(ours), str(theirs)], check=True)
    what = f"scoring a file of {rows:,} rows"
    seconds = {name: [took] for name, (took, _, _) in taken.items()}
    memory = {name: [megabytes] for name, (_, megabytes, _) in taken.items()}
    alone = {"predict_proba alone": [next(iter(taken.values()))[2]]}
    return [*compared(what, "s", {**alone, **seconds}), *compared(f"{what}, memory", "MB", memory)]


def _crown(work: Path) -> None:
    """Make the registered version the champion."""
    from shared.adapters.local.run_ledger import SqliteLedger
    from shared.domain.ledger import PipelineState

    ledger = SqliteLedger(work / "home" / "ledger.db")
    ledger.insert(PipelineState(pipeline="numbers", champion="1"))
    ledger.close()


def _process(command: list[str | Path], work: Path) -> tuple[float, float, float]:
    """(seconds, MB at the most, seconds of the model as the process said) of a process from its start to its end.

    Memory is that of the largest process that has to do with it: a job outlives the process that began it.
    """
    settings = {"LANDFALL_HOME": str(work / "home"), "LANDFALL_PIPELINES": str(work / "pipelines")}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=child_environment(settings), stdout=output, stderr=errors
        )
        peak = [0.0]
        watching = threading.Thread(target=_watch, args=(process, str(work), peak))
        watching.start()
        process.wait()
        took = time.perf_counter() - start
        watching.join()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command[0]} left with {process.returncode}: {errors.read()[-2000:].decode()}")
        output.seek(0)
        said = json.loads(output.read().decode().splitlines()[-1]) if "score" not in map(str, command) else {}
        return took, peak[0], said.get("seconds", 0.0)


def _watch(process: subprocess.Popen[bytes], work: str, peak: list[float]) -> None:
    while process.poll() is None:
        for other in psutil.process_iter(["cmdline"]):
            if other.pid == process.pid or any(work in part for part in other.info["cmdline"] or ()):
                with suppress(OSError, IndexError):
                    status = Path(f"/proc/{other.pid}/status").read_text()
                    peak[0] = max(peak[0], int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        time.sleep(0.2)


if __name__ == "__main__":
    print(table(measured(int(sys.argv[1]))))
