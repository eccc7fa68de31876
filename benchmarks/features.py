"""What preparing features costs: bank customers from one parquet file to split files and a Delta table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks.environments import environment
from benchmarks.figures import Figure, seconds_and_memory
from shared.adapters.local.features_job import FeaturesSpec
from shared.adapters.local.lake import FolderLake
from shared.definitions.catalog import Catalog
from shared.domain.landing import LandedFile
from shared.domain.records import to_record
from shared.ports.feature_engine import FeaturesJob
from shared.settings import ROOT

ROWS, QUICK_ROWS = 10_000_000, 200_000
SCRIPTS = ROOT / "benchmarks" / "peers"
LOOK = 0.05
"""Seconds between two looks at the memory of a contender."""
FOUND = """
import duckdb, json, sys
folder = "/".join([sys.argv[1], "features/bank-customers", sys.argv[2]])
query = f"SELECT count(*), CAST(sum(CustomerId) AS BIGINT) FROM read_parquet(['{folder}/train/*', '{folder}/test/*'])"
print(json.dumps(duckdb.sql(query).fetchall()[0]))
"""


def run(quick: bool, rows: int = 0, small: int = 256) -> list[Figure]:
    """Seconds and most memory of each, for ``rows`` (10 million; 200,000 in the quick form).

    One of ours has ``small`` MiB for DuckDB, so that it has to spill.
    """
    rows, rounds = rows or (QUICK_ROWS if quick else ROWS), 1 if quick else 3
    with tempfile.TemporaryDirectory(prefix="landfall-features-") as name:
        home = Path(name)
        source = home / "lake" / "landing" / "bank-customers" / "rows.parquet"
        source.parent.mkdir(parents=True)
        made = [sys.executable, "samples/bank_customers.py", "--rows", str(rows), "--out", str(source)]
        subprocess.run(made, cwd=ROOT, check=True)
        here, dataframes = sys.executable, str(environment("dataframes") / "python")
        contenders: dict[str, Callable[[], tuple[float, float, list[int]]]] = {
            "DuckDB by hand": partial(_by_hand, here, "duckdb", source),
            "pandas": partial(_by_hand, dataframes, "pandas", source),
            "polars": partial(_by_hand, dataframes, "polars", source),
            "PySpark, local, without a Delta table": partial(_by_hand, here, "spark", source),
            "Landfall": partial(_ours, home, source, 0),
            f"Landfall with {small} MiB": partial(_ours, home, source, small),
        }
        return seconds_and_memory(f"features of {rows:,} rows", contenders, _proven, rounds=rounds)


def _proven(answers: Mapping[str, list[int]]) -> None:
    """Raise RuntimeError unless all prepared the same rows."""
    if len(set(map(tuple, answers.values()))) > 1:
        raise RuntimeError(f"they prepared different rows: {answers}")


def _by_hand(python: str, script: str, source: Path) -> tuple[float, float, list[int]]:
    with tempfile.TemporaryDirectory(dir=source.parents[3]) as folder:
        return process([python, str(SCRIPTS / f"{script}_features.py"), str(source), folder])


def _ours(home: Path, source: Path, memory: int) -> tuple[float, float, list[int]]:
    """The process of a features job, of a pipeline that has prepared nothing yet."""
    shutil.rmtree(home / "lake" / "features", ignore_errors=True)
    return features_job(home, "run", [source], memory=memory)


def features_job(
    home: Path, run: str, files: Sequence[Path], earlier: Sequence[Path] = (), *, base: str = "", memory: int = 0
) -> tuple[float, float, list[int]]:
    """Seconds, MB at the most, and rows with the sum of their keys of a features job's process.

    The lake of ``home`` has the parquet ``files`` and those that landed ``earlier``, which run ``base`` prepared.
    """
    lake = FolderLake(home / "lake", "landfall", "lake")
    folder = Catalog(ROOT / "pipelines").get("bank-customers")
    job = FeaturesJob(
        name=f"{run}-features",
        pipeline=replace(folder.pipeline, landing=replace(folder.pipeline.landing, format="parquet")),
        run=run,
        sql=folder.sql,
        files=tuple(_landed(lake, home, files)),
        earlier=tuple(_landed(lake, home, earlier)),
        fingerprint=run,
        output=f"features/bank-customers/{run}",
        base=base and f"features/bank-customers/by-input/{base}.json",
    )
    spec = FeaturesSpec(
        job=job, lake=str(home / "lake"), account="landfall", container="lake", work=str(home / "work"), memory=memory
    )
    (home / "spec.json").write_text(json.dumps(to_record(spec)))
    took, megabytes, _ = process([sys.executable, "-m", "shared.adapters.local.features_job", str(home / "spec.json")])
    found = subprocess.run([sys.executable, "-c", FOUND, str(home / "lake"), run], capture_output=True, check=True)
    return took, megabytes, json.loads(found.stdout)


def _landed(lake: FolderLake, home: Path, files: Sequence[Path]) -> Iterator[LandedFile]:
    for file in files:
        info = lake.stat(str(file.relative_to(home / "lake")))
        assert info is not None
        yield LandedFile(path=info.path, etag=info.etag, size=info.size, at=info.modified)


def process(command: list[str]) -> tuple[float, float, list[int]]:
    """(seconds, MB at the most of it and its children, last line as JSON or nothing) of a process from start to end."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = psutil.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.DEVNULL)
        most = 0
        while process.poll() is None:
            most = max(most, _resident(process))
            time.sleep(LOOK)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} left with {process.returncode}")
        output.seek(0)
        last = output.read().splitlines()[-1]
    return seconds, most / 1e6, json.loads(last) if last.startswith(b"[") else []


def _resident(process: psutil.Process) -> int:
    """Bytes that a process and its children hold in memory."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
