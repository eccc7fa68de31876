"""The driver's process: a Spark session that outlives its batches. Reads a Livy body a line, answers a line each.

The script runs as Synapse would start it: alone, with its archive on the path and this repository's modules away.
Two things are not as on Synapse: the session is not stopped, and the Delta table is written by delta-rs into the
mirrored folder, because PySpark comes without Spark's own Delta.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from landfall.spark import local_spark

OURS = ("shared", "landfall", "tests", "sqlglot")
QUICK = {
    # Most of the time of a small job would go into code that is made for large ones.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


def main(mirror: Path) -> None:
    """Run batches until the end of the input."""
    answers = sys.stdout
    with local_spark() as spark:
        for name, value in QUICK.items():
            spark.conf.set(name, value)
        hadoop: Any = spark._jsc.hadoopConfiguration()
        hadoop.set("fs.abfss.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme")
        hadoop.set("fs.abfss.impl.disable.cache", "true")
        root = str(Path(__file__).resolve().parents[2])
        sys.path[:] = [path for path in sys.path if path not in ("", root)]
        archives: list[str] = []
        for line in sys.stdin:
            body = json.loads(line)
            for address in (body["file"], *body.get("args", [])):
                authority = urlsplit(address).netloc
                folder = _local(mirror, address.split(authority)[0] + authority)
                hadoop.set(f"fs.viewfs.mounttable.{authority}.linkFallback", folder.as_uri())
            wanted = [str(_local(mirror, address)) for address in body.get("pyFiles", [])]
            if wanted != archives:
                sys.path[:] = [*wanted, *(path for path in sys.path if path not in archives)]
                for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
                    del sys.modules[name]
                archives = wanted
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _delta_by_delta_rs(mirror):
                failed = _run(spark, str(_local(mirror, body["file"])), body.get("args", []))
            print(json.dumps({"failed": failed, "log": said.getvalue().splitlines()}), file=answers, flush=True)


def _run(spark: Any, script: str, arguments: list[str]) -> str:
    """Run a script to its end; empty, or how it failed."""
    stop, type(spark).stop = type(spark).stop, lambda session: None
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return f"the script exited with code {end.code}" if end.code else ""
    except BaseException as error:  # noqa: BLE001 - the process goes on, as a cluster does
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    finally:
        type(spark).stop = stop
    return ""


@contextlib.contextmanager
def _delta_by_delta_rs(mirror: Path) -> Iterator[None]:
    from shared.spark import delta_tables

    known = delta_tables.by_delta_rs

    def write(rows: Any, uri: str, mark: Mapping[str, str]) -> int:
        return known(rows, str(_local(mirror, uri)), mark)

    delta_tables.by_delta_rs = write
    try:
        yield
    finally:
        delta_tables.by_delta_rs = known


def _local(mirror: Path, address: str) -> Path:
    parts = urlsplit(address)
    return mirror / parts.netloc.partition("@")[0] / parts.path.lstrip("/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
