"""The pipelines: every folder with a pipeline.yaml, validated with all faults at once.

Edits are seen by a running host: a lookup compares the times and sizes of a folder's files with
those that were read, and reads again only what changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.domain.pipelines import Pipeline, paced
from shared.errors import ConfigurationError, Fault, Missing
from shared.pipeline_rules import judge, within
from shared.typed_yaml import Faults, nearest, read

FILE = "pipeline.yaml"

Stamp = tuple[Path, int, int, int]
"""A file, its time of change in nanoseconds, size and inode; zeros when there is none."""


@dataclass(frozen=True)
class PipelineFolder:
    """A valid pipeline, the folder it is in and the text of its features.sql."""

    pipeline: Pipeline
    folder: Path
    sql: str


@dataclass(frozen=True)
class _Loaded:
    """What was read of one folder. ``stamps`` are of the files it rests on; with faults ``pipeline`` is a makeshift."""

    stamps: tuple[Stamp, ...]
    pipeline: Pipeline | None
    sql: str
    faults: Faults

    @property
    def holds(self) -> bool:
        """True while the files are as they were read."""
        return all(_stamp(stamp[0]) == stamp for stamp in self.stamps)


@dataclass(frozen=True)
class _Snapshot:
    """All folders as they were at one look."""

    loaded: dict[str, _Loaded]
    valid: dict[str, PipelineFolder]
    faults: dict[str, list[Fault]]


class Catalog:
    """The pipelines below ``root``. A broken one never stops the others; several threads may ask.

    ``pace`` divides all their waiting times, see :func:`shared.domain.pipelines.paced`.
    """

    def __init__(self, root: Path, *, pace: float = 1.0) -> None:
        self.root = root
        self._pace = pace
        self._snapshot = _Snapshot({}, {}, {})

    def names(self) -> list[str]:
        """All folders with a pipeline.yaml, broken ones too, sorted. Hidden folders are not looked at."""
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if not path.name.startswith("."))
        return sorted(path.name for path in folders if (path / FILE).is_file())

    def get(self, name: str) -> PipelineFolder:
        """The pipeline, the same object until its files change.

        Raises :class:`~shared.errors.Missing` when there is no such folder,
        :class:`~shared.errors.ConfigurationError` with every fault when it is broken.
        """
        known = self._snapshot.loaded.get(name)
        snapshot = self._snapshot if known and known.holds else self._look()
        if name in snapshot.valid:
            return snapshot.valid[name]
        if name in snapshot.faults:
            raise ConfigurationError(snapshot.faults[name])
        raise Missing(f"there is no pipeline {name!r} in {self.root.name}/. {nearest(name, snapshot.loaded)}")

    def all(self) -> list[PipelineFolder]:
        """The valid pipelines, sorted by name."""
        return list(self._look().valid.values())

    def faults(self) -> dict[str, list[Fault]]:
        """The broken pipelines, each with all its faults in the order of its lines."""
        return dict(self._look().faults)

    def for_path(self, path: str) -> PipelineFolder | None:
        """The pipeline for which the lake file ``path`` has landed: its landing.path is a folder above the file.

        None when there is none. Landing folders of valid pipelines never lie in each other.
        """
        folders = self._look().valid.values()
        return next(
            (f for f in folders if within(path, f.pipeline.landing.path) and path != f.pipeline.landing.path), None
        )

    def _look(self) -> _Snapshot:
        before = self._snapshot
        loaded: dict[str, _Loaded] = {}
        for name in self.names():
            known = before.loaded.get(name)
            loaded[name] = known if known and known.holds else _load(self.root / name)
        if loaded != before.loaded:
            self._snapshot = _judge_together(loaded, before, self.root, self._pace)
        return self._snapshot


def _load(folder: Path) -> _Loaded:
    faults = Faults(f"{folder.parent.name}/{folder.name}/{FILE}")
    # Stamps are taken before the files are read: a change in between is read again at the next look.
    stamps = [_stamp(folder / FILE)]
    pipeline, sql = None, ""
    try:
        text = (folder / FILE).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        faults.add("", f"cannot be read: {error}", "Save it as UTF-8 text.")
    else:
        pipeline = read(text, Pipeline, faults)
    if pipeline is not None:
        named = (pipeline.features.sql, pipeline.training.script, pipeline.training.environment)
        stamps += [_stamp(folder / name) for name in named]
        sql = judge(pipeline, folder, faults)
    return _Loaded(tuple(stamps), pipeline, sql, faults)


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return path, 0, 0, 0
    return path, stat.st_mtime_ns, stat.st_size, stat.st_ino


def _judge_together(loaded: dict[str, _Loaded], before: _Snapshot, root: Path, pace: float) -> _Snapshot:
    faults = {name: one.faults.copy() for name, one in loaded.items()}
    pipelines = {name: one.pipeline for name, one in loaded.items() if one.pipeline is not None}
    _judge_landing_folders(pipelines, faults)
    _judge_endpoints(pipelines, faults)
    found = {name: some for name, one in faults.items() if (some := one.all())}
    valid = {}
    for name, one in loaded.items():
        if name not in found and one.pipeline is not None:
            same = before.valid.get(name) if before.loaded.get(name) is one else None
            valid[name] = same or PipelineFolder(paced(one.pipeline, pace), root / name, one.sql)
    return _Snapshot(loaded, valid, found)


def _judge_landing_folders(pipelines: dict[str, Pipeline], faults: dict[str, Faults]) -> None:
    """A file must land for one pipeline only. A folder belongs to the pipeline that it is named after, else to the
    first by name, also while that one is broken: the other must not take its data meanwhile."""
    paths = {name: p.landing.path for name, p in pipelines.items() if not faults[name].about("landing.path")}
    owners: list[str] = []
    for name in sorted(paths, key=lambda name: (name not in paths[name].split("/"), name)):
        for owner in owners:
            if within(paths[name], paths[owner]) or within(paths[owner], paths[name]):
                what = (
                    f"{paths[name]} and {paths[owner]}, where data for {owner} land, are the same or lie in each other"
                )
                faults[name].add(
                    "landing.path", what, f"Let data land in a folder of their own, such as landing/{name}."
                )
        owners.append(name)


def _judge_endpoints(pipelines: dict[str, Pipeline], faults: dict[str, Faults]) -> None:
    """An endpoint serves one pipeline: the one it is named after, else the first by name."""
    owners: dict[str, str] = {}
    for name in sorted(pipelines, key=lambda name: (pipelines[name].endpoint != name, name)):
        endpoint = pipelines[name].endpoint
        if endpoint in owners:
            what = f"the endpoint {endpoint!r} belongs to {owners[endpoint]}"
            faults[name].add("rollout.endpoint", what, "Name another, or leave it out: then it is the pipeline's name.")
        owners.setdefault(endpoint, name)
