"""What matters where the loop runs on a laptop."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec

from landfall.check import check as faults_of
from landfall.doctor.finding import Check, Finding
from landfall.host import running
from shared.definitions.catalog import Catalog
from shared.settings import Settings

OLDEST, FIRST_UNKNOWN = (3, 11), (3, 14)
NEEDED = ("deltalake", "duckdb", "mlflow", "pandas", "pyarrow", "sklearn", "starlette", "uvicorn", "watchfiles")
LEAST_BYTES = 1024**3


def python() -> Check:
    """The version of Python, and the packages of the laptop's engines."""

    def look() -> Iterator[Finding]:
        version = ".".join(str(part) for part in sys.version_info[:3])
        if OLDEST <= sys.version_info[:2] < FIRST_UNKNOWN:
            yield check.ok(f"is {version}")
        else:
            yield check.wrong(f"is {version}", "Use 3.11 to 3.13: make clean, then make PYTHON=python3.12 demo.")
        absent = [name for name in NEEDED if find_spec(name) is None]
        if absent:
            what = f"has no {', '.join(absent)}"
            yield check.wrong(what, "Run make demo once, or .venv/bin/python -m pip install -e '.[laptop]'.")

    check = Check(name="python", subject=sys.executable, look=look)
    return check


def disk(settings: Settings) -> Check:
    """The home can be written, and has room."""

    def look() -> Iterator[Finding]:
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=settings.home) as file:
                file.write(b"probe")
            free = shutil.disk_usage(settings.home).free
        except OSError as error:
            cure = "Let this user write there, or set LANDFALL_HOME to another folder."
            yield check.wrong(f"it cannot be written: {error.strerror or error}", cure)
            return
        if free < LEAST_BYTES:
            yield check.wrong(f"{free / 1024**2:.0f} MB are left", "Make room, or set LANDFALL_HOME to another disk.")
        else:
            yield check.ok(f"can be written, {free / 1024**3:.0f} GB are left")

    check = Check(name="home", subject=str(settings.home), look=look)
    return check


def port(settings: Settings) -> Check:
    """The port of the host is free, or our own host has it."""

    def look() -> Iterator[Finding]:
        if not settings.port:
            yield check.ok("any free one is taken")
        elif settings.home.is_dir() and (host := running(settings.home)):
            yield check.ok(f"landfall up runs already, at {host.url}")
        else:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", settings.port))
                except OSError as error:
                    cure = "End what listens there, or set LANDFALL_PORT to another port."
                    yield check.wrong(f"it is taken: {error.strerror or error}", cure)
                    return
            yield check.ok("is free")

    check = Check(name="port", subject=str(settings.port), look=look)
    return check


def pipelines(settings: Settings) -> Check:
    """Every pipeline is valid."""

    def look() -> Iterator[Finding]:
        names = Catalog(settings.pipelines).names()
        if not names:
            yield check.wrong("there is no pipeline", "Make one: landfall new NAME --data FILE --label COLUMN.")
            return
        faults = faults_of(settings.pipelines)
        for fault in faults:
            yield Finding(check=check.name, subject=fault.where, state="wrong", what=fault.what, cure=fault.cure)
        if not faults:
            yield check.ok(f"{', '.join(names)}: no faults")

    check = Check(name="pipelines", subject=str(settings.pipelines), look=look)
    return check
