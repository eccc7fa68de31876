"""The code of a Spark job: the script, and an archive of what it imports, the same bytes for the same code."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from shared.errors import AlreadyExists
from shared.ports.lake import Lake
from shared.settings import ROOT

SCRIPT = "shared/jobs/prepare_features_spark.py"
FOLDER = "spark/code"
"""Where code is in the lake: one folder for each state of it, named by its hash."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class SparkCode:
    """Lake paths of the script and of the archive."""

    script: str
    archive: str


def stored(lake: Lake) -> SparkCode:
    """The present code in ``lake``, put there when it is not yet."""
    name, archive = _packed()
    code = SparkCode(f"{FOLDER}/{name}/{Path(SCRIPT).name}", f"{FOLDER}/{name}/landfall.zip")
    for path, content in ((code.script, (ROOT / SCRIPT).read_bytes()), (code.archive, archive)):
        if lake.stat(path) is None:
            with suppress(AlreadyExists):
                lake.write(path, content, overwrite=False)
    return code


@cache
def _packed() -> tuple[str, bytes]:
    """A hash of all code, and the archive: sqlglot, and ``shared`` without adapters, which a Spark job never opens."""
    files = sorted(_files())
    digest = hashlib.sha256()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files:
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return digest.hexdigest()[:20], packed.getvalue()


def _files() -> Iterator[tuple[str, Path]]:
    found = find_spec("sqlglot")
    assert found is not None and found.origin is not None
    for package in (ROOT / "shared", Path(found.origin).parent):
        for path in package.rglob("*.py"):
            name = path.relative_to(package.parent).as_posix()
            if not name.startswith("shared/adapters/"):
                yield name, path
