"""`landfall check --spark`: a pipeline's features by DuckDB and by Spark on the same landed data, compared."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.definitions.catalog import Catalog, PipelineFolder
from shared.errors import Fault, Rejected
from shared.features.features_sql import line_of, parse

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from shared.ports.feature_engine import FeaturesJob, Manifest
    from shared.ports.lake import Lake

SAMPLE_BYTES = 100 << 20
"""About so much of what landed last is compared."""
PRECISION = 1e-12


def compare_all(
    root: Path, names: Sequence[str], data: Path | None, faults: list[Fault], for_spark: Iterable[Fault]
) -> tuple[list[Fault], list[str]]:
    """All faults, with those that comparing finds, and a line for each pipeline that was compared or could not be.

    ``for_spark`` are the faults that reading features.sql found: such a pipeline is not run. With ``data``
    it is run whatever landing.columns leaves open, since the data have types. Raises
    :class:`~shared.errors.Refused` when there is no Spark.
    """
    from landfall.spark import local_spark

    said: list[str] = []
    found = list(faults)
    with tempfile.TemporaryDirectory(prefix="landfall-check-") as folder, local_spark() as spark:
        for pipeline in Catalog(root).all():
            name = pipeline.pipeline.name
            if name not in names:
                continue
            mine = [fault for fault in for_spark if fault.where.startswith(f"{root.name}/{pipeline.folder.name}/")]
            open_types = not pipeline.pipeline.landing.columns
            if mine and not open_types:
                found += mine
                continue
            home = Path(folder) / name
            files = _from_file(pipeline, data, home) if data else _from_lake(pipeline, home)
            if not files:
                found += mine
                said.append(f"{name}: no data has landed, so only its features.sql was read. Name a file with --data.")
                continue
            different, line = compare(pipeline, files, home, spark)
            found += different
            said.append(line)
    return found, said


def compare(folder: PipelineFolder, files: Sequence[str], home: Path, spark: SparkSession) -> tuple[list[Fault], str]:
    """Prepare ``files`` of the lake ``home``/lake with both engines; what differs, and a line about what was done."""
    from shared.adapters.local.features_job import prepare as prepare_with_duckdb
    from shared.adapters.local.lake import FolderLake
    from shared.adapters.system_clock import SystemClock
    from shared.jobs.prepare_features_spark import prepare as prepare_with_spark
    from shared.spark.delta_tables import by_delta_rs
    from shared.spark.lake import SparkLake

    lake, name = FolderLake(home / "lake", "landfall", "lake"), folder.pipeline.name
    job = _job(folder, files, lake)
    on_duck, on_spark = (replace(job, run=run, output=f"features/{name}/{run}") for run in ("duckdb", "spark"))
    try:
        with redirect_stdout(io.StringIO()):
            duck = prepare_with_duckdb(on_duck, lake, home / "work", SystemClock())
            other = prepare_with_spark(spark, SparkLake(spark, (home / "lake").as_uri()), on_spark, by_delta_rs)
    except Rejected as error:
        return [_fault(folder, 1, str(error), "Correct it.")], f"{name}: the features could not be made"
    if duck.status != "ready" or other.status != "ready":
        return _compare_rejections(folder, duck, other)
    rows = duck.train_rows + duck.test_rows
    faults = _compare_manifests(folder, duck, other)
    if not faults:
        for side in ("train", "test"):
            faults += compare_rows(folder, _table(lake, getattr(duck, side)), _table(lake, getattr(other, side)), side)
    verdict = "differ" if faults else "agree"
    return faults, f"{name}: DuckDB and Spark {verdict} on {rows:,} rows of {', '.join(files)}"


def _job(folder: PipelineFolder, files: Sequence[str], lake: Lake) -> FeaturesJob:
    from shared.domain.landing import LandedFile
    from shared.ports.feature_engine import FeaturesJob

    landed = [
        LandedFile(path=info.path, etag=info.etag, size=info.size, at=info.modified)
        for path in files
        if (info := lake.stat(path))
    ]
    return FeaturesJob(
        name="check", pipeline=folder.pipeline, run="check", sql=folder.sql, files=tuple(landed), earlier=(),
        fingerprint="check", output="features/check",
    )  # fmt: skip


def _from_file(folder: PipelineFolder, data: Path, home: Path) -> list[str]:
    path = f"{folder.pipeline.landing.path}/{data.name}"
    (home / "lake" / path).parent.mkdir(parents=True)
    shutil.copyfile(data, home / "lake" / path)
    return [path]


def _from_lake(folder: PipelineFolder, home: Path) -> list[str]:
    """Bring what landed last, as much as fits into a sample, in landing order."""
    from landfall.session import open_loop
    from shared.domain.landing import ignored

    lake, landing = open_loop().ports.lake, folder.pipeline.landing
    if landing.format == "delta":
        infos = [i for i in lake.list(f"{landing.path}/") if "/_delta_log/" in i.path or i.path.endswith(".parquet")]
        wanted = [i.path for i in infos if "/_delta_log/" in i.path and i.path.endswith(".json")]
    else:
        infos, size = [], 0
        for info in sorted(lake.list(f"{landing.path}/"), key=lambda i: i.modified, reverse=True):
            if ignored(info.path, "PutBlob", info.size):
                continue
            if infos and size + info.size > SAMPLE_BYTES:
                break
            infos.insert(0, info)
            size += info.size
        wanted = [info.path for info in infos]
    for info in infos:
        (home / "lake" / info.path).parent.mkdir(parents=True, exist_ok=True)
        (home / "lake" / info.path).write_bytes(lake.read(info.path))
    return wanted


def _compare_rejections(folder: PipelineFolder, duck: Manifest, spark: Manifest) -> tuple[list[Fault], str]:
    name = folder.pipeline.name
    if duck.status == spark.status:
        what = f"the data is {duck.status}, so no features could be compared: {_reasons(duck)}"
        return [_fault(folder, 1, what, "Give data that the pipeline takes.")], f"{name}: nothing to compare"
    what = f"the data is {duck.status} for DuckDB ({_reasons(duck)}) and {spark.status} for Spark ({_reasons(spark)})"
    return [_fault(folder, 1, what, "Land what both engines read alike.")], f"{name}: DuckDB and Spark differ"


def _reasons(manifest: Manifest) -> str:
    texts = [fault["text"].rstrip(".") for fault in manifest.faults]
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return f"{texts[0]}{more}" if texts else f"{manifest.landed_rows:,} rows"


def _compare_manifests(folder: PipelineFolder, duck: Manifest, spark: Manifest) -> list[Fault]:
    faults = []
    for field in ("landed_columns", "columns", "train_rows", "test_rows"):
        ours, theirs = getattr(duck, field), getattr(spark, field)
        if ours != theirs:
            what = f"{field.replace('_', ' ')} are {ours} in DuckDB and {theirs} in Spark"
            faults.append(_fault(folder, 1, what, "Report it: this was believed to be equal."))
    return faults


def _table(lake: Lake, path: str) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(lake.uri(path))


def compare_rows(folder: PipelineFolder, duck: pa.Table, spark: pa.Table, side: str) -> list[Fault]:
    """A fault for each column of which a row differs by more than 1e-12; both tables are sorted by key."""
    key, faults = folder.pipeline.features.key, []
    if not duck[key].equals(spark[key]):
        return [_fault(folder, 1, f"the rows of {side} are not the same", "Look at WHERE, JOIN and QUALIFY.")]
    for name in duck.column_names:
        different = _different(duck[name], spark[name])
        if different:
            row = different[0]
            values = " and ".join(repr(table[name][row].as_py()) for table in (duck, spark))
            what = (
                f"{name} differs between DuckDB and Spark in {len(different):,} of {duck.num_rows:,} rows of {side},"
                f" such as {key} {duck[key][row].as_py()}: {values}"
            )
            line = _line(folder, name)
            faults.append(_fault(folder, line, what, "Write it in another way, and report it: it was believed equal."))
    return faults


def _different(a: pa.ChunkedArray, b: pa.ChunkedArray) -> list[int]:
    import numpy as np
    import pyarrow as pa

    if a.equals(b):
        return []
    if pa.types.is_floating(a.type):
        x, y = a.to_numpy(), b.to_numpy()
        close = np.isclose(x, y, rtol=PRECISION, atol=0, equal_nan=True)
    else:
        close = np.array([x == y for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)])
    return [int(row) for row in np.flatnonzero(~close)]


def _line(folder: PipelineFolder, column: str) -> int:
    for projection in parse(folder.sql).expressions:
        if projection.alias_or_name.lower() == column.lower():
            return line_of(projection) or 1
    return 1


def _fault(folder: PipelineFolder, line: int, what: str, cure: str) -> Fault:
    return Fault(f"{folder.folder.parent.name}/{folder.folder.name}/{folder.pipeline.features.sql}:{line}", what, cure)
