"""Batch scoring on a cluster: ``python -m shared.jobs.score_lake <job.json> <folder of the input> <model>``.

What Azure ML has mounted is scored by :mod:`shared.jobs.score_batch`; the output goes to the lake in one write,
at the end. Beside ``job.json`` in the lake the job tells how it goes: ``progress.json`` has a :class:`Progress`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.lake import BlobLake
from shared.domain.compiled import GRAPH, place
from shared.domain.records import from_record, to_record
from shared.errors import LandfallError, Rejected, Transient
from shared.features import manifests
from shared.jobs.score_batch import ScoringSpec, printed, score
from shared.ports.batch_service import BatchScoringJob
from shared.ports.lake import Lake
from shared.settings import cluster_identity


@dataclass(frozen=True, kw_only=True)
class LakeScoring:
    """What ``job.json`` holds: the job, the lake that it is about, and the folder of the lake for its progress."""

    job: BatchScoringJob
    account: str
    container: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is; ``state`` is running, completed or failed."""

    state: str = "running"
    reason: str = ""
    rows: int = 0
    problems: int = 0
    seconds: float = 0.0


def main(arguments: list[str]) -> int:
    """Run a job; 0 when the output is in the lake, else 1 after its reason was told there."""
    order, data, model = map(Path, arguments)
    scoring = from_record(LakeScoring, json.loads(order.read_text(encoding="utf-8")))
    address = f"https://{scoring.account}.blob.core.windows.net"
    lake = BlobLake(address, scoring.account, scoring.container, AppCredential(cluster_identity()))
    report = _Report(lake, f"{scoring.folder}/progress.json")
    try:
        _score(scoring.job, lake, data, model, report)
    except LandfallError as error:
        print(error, file=sys.stderr)
        report.end("failed", str(error))
        return 1
    except Exception as error:
        report.end("failed", f"{type(error).__name__}: {error}")
        raise
    report.end("completed")
    return 0


def _score(job: BatchScoringJob, lake: Lake, data: Path, model: Path, report: _Report) -> None:
    mlmodel = next(iter(sorted(model.rglob("MLmodel"))), None)
    if mlmodel is None:
        raise Rejected(f"version {job.version} of {job.model} has no MLmodel among its files")
    with tempfile.TemporaryDirectory(prefix="landfall-score-") as folder:
        work = Path(folder)
        manifest = ""
        if job.features:
            copy = work / "manifest.json"
            copy.write_bytes(lake.read(manifests.place(job.features)))
            manifest = str(copy)
        graph, compiled = place(job.model, job.version, GRAPH), work / GRAPH
        if lake.stat(graph):
            compiled.write_bytes(lake.read(graph))
        spec = ScoringSpec(
            files=tuple(map(str, _files(job, data))),
            output=str(work / "scored.parquet"),
            model=str(mlmodel.parent),
            version=job.version,
            key=job.key,
            label=job.label,
            positive=job.positive,
            manifest=manifest,
            compiled=str(compiled),
        )
        score(spec, work / "part.parquet", report)
        lake.upload(job.output, work / "scored.parquet")


def _files(job: BatchScoringJob, data: Path) -> list[Path]:
    """The input in the mounted folder: all its files that are no marks of an engine, or the one that is named."""
    if not job.input.endswith("/"):
        return [data / job.input.rpartition("/")[2]]
    below = sorted(file.relative_to(data).as_posix() for file in data.rglob("*") if file.is_file())
    # In the order in which the lake lists them.
    return [data / name for name in below if Path(name).name[0].isalnum() and job.input + name != job.output]


class _Report:
    """The job's progress, printed and put into the lake. The lake not answering for once does not end the job."""

    def __init__(self, lake: Lake, path: str) -> None:
        self._lake, self._path = lake, path
        self._last = Progress()

    def __call__(self, progress: dict[str, float]) -> None:
        printed(progress)
        self._last = replace(self._last, **progress)  # type: ignore[arg-type]
        try:
            self._put()
        except Transient as error:
            print(error, file=sys.stderr)

    def end(self, state: str, reason: str = "") -> None:
        """Tell the outcome."""
        self._last = replace(self._last, state=state, reason=reason)
        self._put()

    def _put(self) -> None:
        self._lake.write(self._path, json.dumps(to_record(self._last)).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
