"""What a drift check costs: two tables of 20 columns, from parquet to the verdict, each a whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.environments import environment
from benchmarks.figures import Figure, seconds_and_memory
from shared.settings import ROOT

SCRIPTS = ROOT / "benchmarks" / "peers"

GENERATE = """
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq

path, rows, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(seed)
table = {}
for i in range(14):
    shift = 0.3 * seed * (i % 3 == 0)
    values = random.normal(shift, size=rows) if i % 2 else random.lognormal(shift, size=rows)
    table[f"number{i}"] = pa.array(values, mask=random.random(rows) < 0.01 if i % 4 == 0 else None)
for i in range(6):
    weights = np.arange(1, 3 + 4 * i) + 5.0 * seed * (i % 3 == 0)
    names = np.array([f"category {n}" for n in range(len(weights))], dtype=object)
    table[f"category{i}"] = pa.array(names[random.choice(len(names), rows, p=weights / weights.sum())])
pq.write_table(pa.table(table), path)
"""
"""Columns of several shapes, a few nulls; with seed 1 a third of each kind is shifted."""
READ = """
import json, sys
import pyarrow.parquet as pq
from shared.domain.drift import Profile, Summary, compare, profile_of, summarise
from shared.domain.records import from_record, to_record

def columns(path):
    file = pq.ParquetFile(path, read_dictionary=[f"category{i}" for i in range(6)])
    for name in file.schema_arrow.names:
        yield name, file.read([name])[name].to_numpy()
"""
PROFILE = """
kinds = {f"category{i}": "categorical" for i in range(6)}
profiles = [profile_of({name: values}, kinds) for name, values in columns(sys.argv[1])]
profile = Profile(rows=profiles[0].rows, columns={k: v for p in profiles for k, v in p.columns.items()})
"""
STORED = 'profile = from_record(Profile, json.load(open(sys.argv[1] + ".json")))'
CHECK = """
counted = [summarise(profile, {name: values}) for name, values in columns(sys.argv[2])]
window = Summary(rows=counted[0].rows, columns={k: v for s in counted for k, v in s.columns.items()})
print(json.dumps({name: to_record(drift) for name, drift in compare(profile, window).items()}))
"""
STORE = 'json.dump(to_record(profile), open(sys.argv[1] + ".json", "w"))'


def run(quick: bool) -> list[Figure]:
    """Seconds and most memory of each; 1 million rows on either side, 100,000 in the quick form."""
    rows, rounds = (100_000, 1) if quick else (1_000_000, 3)
    with tempfile.TemporaryDirectory(prefix="landfall-drift-") as name:
        ours = [sys.executable, "-c"]
        tables = [str(Path(name) / f"{side}.parquet") for side in ("reference", "window")]
        for seed, table in enumerate(tables):
            # In a process of its own: what the parent holds counts in the memory of its children.
            subprocess.run([*ours, GENERATE, table, str(rows), str(seed)], check=True)
        subprocess.run([*ours, READ + PROFILE + STORE, *tables], cwd=ROOT, check=True)
        evidently = str(environment("evidently") / "python")
        contenders: dict[str, Callable[[], tuple[float, float, dict[str, Any]]]] = {
            "Evidently's DataDriftPreset": partial(_process, [evidently, str(SCRIPTS / "evidently_drift.py"), *tables]),
            "pandas and scipy, exact": partial(_process, [evidently, str(SCRIPTS / "scipy_drift.py"), *tables]),
            "Landfall, reference and window": partial(_process, [*ours, READ + PROFILE + CHECK, *tables]),
            "Landfall, a check: the window alone": partial(_process, [*ours, READ + STORED + CHECK, *tables]),
        }
        what = f"drift of 2 x {rows:,} rows x 20 columns"
        return seconds_and_memory(what, contenders, lambda found: _proven(*found.values()), rounds=rounds)


def _process(command: list[str]) -> tuple[float, float, dict[str, Any]]:
    """(seconds, MB at the most, answer) of a process from its start to its end."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[:2])} left with {process.returncode}")
        output.seek(0)
        return seconds, usage.ru_maxrss / 1024, json.loads(output.read().splitlines()[-1])


def _proven(evidently: dict[str, Any], exact: dict[str, Any], *ours: dict[str, Any]) -> None:
    """Raise RuntimeError unless all found the same distances: equal for categories, near for binned numbers."""
    for found in ours:
        for name, values in exact.items():
            if "Jensen-Shannon distance" in values:
                near = abs(values["Jensen-Shannon distance"] - found[name]["jensen_shannon"]) < 1e-9
            else:
                # Distribution functions may be farther apart between edges, by a tenth of what lies there.
                near = -1e-3 < values["K-S"] - found[name]["kolmogorov_smirnov"] < 0.02
                near = near and abs(values["PSI"] - found[name]["psi"]) < 0.1 * values["PSI"] + 0.01
            if not near or evidently.keys() != found.keys():
                raise RuntimeError(f"{name}: {values}, {evidently.get(name)} and {found[name]} tell different stories")
