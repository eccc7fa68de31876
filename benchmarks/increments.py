"""What a batch of bank customers costs where many have landed before."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.features import SCRIPTS, features_job, process
from benchmarks.figures import Figure, seconds_and_memory
from shared.settings import ROOT

BATCH, QUICK_BATCH = 10_000, 2_000
EARLIER, QUICK_EARLIER = (100_000, 1_000_000, 10_000_000), (20_000, 200_000)
Measured = tuple[float, float, list[int]]


def run(quick: bool) -> list[Figure]:
    """Seconds and most memory of whole processes, for a batch of new customers and one of which a tenth came before."""
    figures: list[Figure] = []
    for earlier in QUICK_EARLIER if quick else EARLIER:
        with tempfile.TemporaryDirectory(prefix="landfall-increments-") as name:
            figures += _measure(Path(name), earlier, QUICK_BATCH if quick else BATCH, rounds=1 if quick else 3)
    return figures


def _measure(home: Path, earlier: int, rows: int, rounds: int) -> list[Figure]:
    landing = home / "lake" / "landing" / "bank-customers"
    landing.mkdir(parents=True)
    everything, before = home / "everything.parquet", landing / "0.parquet"
    made = [sys.executable, "samples/bank_customers.py", "--rows", str(earlier + rows), "--out", str(everything)]
    subprocess.run(made, cwd=ROOT, check=True)
    new, again = landing / "new.parquet", landing / "again.parquet"
    _pick(everything, f"CustomerId <= {earlier}", before)
    _pick(everything, f"CustomerId > {earlier}", new)
    # Their tenth lies side by side, as customers of one week would.
    _pick(everything, f"CustomerId BETWEEN {earlier - rows // 10} AND {earlier + rows - rows // 10}", again)
    everything.unlink()
    features_job(home, "base", [before])
    shutil.copytree(home / "lake" / "features" / "bank-customers" / "by-input" / "base", home / "base")
    table = home / "table"
    process([sys.executable, str(SCRIPTS / "delta_merge.py"), str(before), str(table)])
    contenders: dict[str, Callable[[], Measured]] = {
        "DuckDB by hand, all anew": partial(_by_hand, home, before, new),
        "a Delta table by hand, merged": partial(_merged, home, table, new),
        "Landfall, all anew": partial(_ours, home, before, new, base=""),
        "Landfall, added": partial(_ours, home, before, new, base="base"),
        "Landfall, added, a tenth came before": partial(_ours, home, before, again, base="base"),
    }
    return seconds_and_memory(f"{rows:,} rows after {earlier:,}", contenders, _proven, rounds=rounds)


def _pick(source: Path, condition: str, place: Path) -> None:
    duckdb.execute(f"COPY (FROM '{source}' WHERE {condition} ORDER BY CustomerId) TO '{place}' (FORMAT parquet)")


def _proven(answers: Mapping[str, list[int]]) -> None:
    """Raise RuntimeError unless all that got the same rows prepared the same."""
    same = {name: tuple(answer) for name, answer in answers.items() if "came before" not in name}
    if len(set(same.values())) > 1:
        raise RuntimeError(f"they prepared different rows: {answers}")


def _by_hand(home: Path, before: Path, new: Path) -> Measured:
    with tempfile.TemporaryDirectory(dir=home) as name:
        source = Path(name) / "source"
        source.mkdir()
        for file in (before, new):
            (source / file.name).hardlink_to(file)
        return process([sys.executable, str(SCRIPTS / "duckdb_features.py"), f"{source}/*.parquet", name])


def _merged(home: Path, table: Path, new: Path) -> Measured:
    with tempfile.TemporaryDirectory(dir=home) as name:
        copy = Path(name) / "table"
        shutil.copytree(table, copy)
        return process([sys.executable, str(SCRIPTS / "delta_merge.py"), str(new), str(copy)])


def _ours(home: Path, before: Path, batch: Path, base: str) -> Measured:
    run = f"run-{uuid.uuid4().hex}"
    # The job removes what its base has for the next one.
    shutil.copytree(
        home / "base", home / "lake" / "features" / "bank-customers" / "by-input" / "base", dirs_exist_ok=True
    )
    measured = features_job(home, run, [batch], [before], base=base)
    output = home / "lake" / "features" / "bank-customers" / run
    prepared = json.loads((output / "manifest.json").read_text())["prepared"]
    if prepared.startswith("added") != bool(base):
        raise RuntimeError(f"not what was to be measured: {prepared}")
    shutil.rmtree(output)
    return measured
