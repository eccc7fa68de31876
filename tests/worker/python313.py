"""Python 3.13 with the packages that are deployed and Microsoft's worker, as a virtual environment of its own."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from shared.settings import ROOT

WORKER = "azure-functions-runtime==1.3.0"
PYENV = Path.home() / ".pyenv" / "versions"


class Unavailable(Exception):
    """This machine has no Python 3.13; the message says in a line what to install."""


@cache
def worker_python() -> Path:
    """The interpreter, installed when it is not, or when other packages are asked for.

    Raises Unavailable when there is no Python 3.13 to make it of.
    """
    requirements = ROOT / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + WORKER.encode()).hexdigest()[:12]
    home = Path(sys.prefix) / "functions-worker" / wanted
    python = home / "bin" / "python"
    home.parent.mkdir(exist_ok=True)
    with (home.parent / "lock").open("w") as held:
        # Several test processes may be the first at the same time.
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([_base(), "-m", "venv", home], check=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            done = subprocess.run([*pip, "-r", requirements, WORKER], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"pip cannot install what is deployed on Python 3.13: {done.stderr[-2000:]}")
            (home / "done").touch()
    return python


def _base() -> str:
    """A Python 3.13 that runs: this one, the one on the PATH, or one of pyenv's."""
    found = [sys.executable, shutil.which("python3.13") or "", *map(str, PYENV.glob("3.13*/bin/python3.13"))]
    for python in filter(None, found):
        said = subprocess.run([python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
        if said.stdout.strip() == "(3, 13)":
            return python
    raise Unavailable("the Functions worker needs Python 3.13 on the PATH as python3.13: install it, or with pyenv")
