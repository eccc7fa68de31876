"""The pipelines: every folder with a pipeline.yaml, validated with all faults at once.

Edits are seen by a running host: a lookup compares the times and sizes of a folder's files with
those that were read, and reads again only what changed. While a folder has faults, what is live goes
on with the pipeline's last valid definition.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from shared.definitions.last_valid import LastValid
from shared.definitions.pipeline_rules import judge, within
from shared.definitions.typed_yaml import Faults, nearest, read
from shared.domain.pipelines import NAME, Pipeline, paced
from shared.errors import ConfigurationError, Fault, Missing

FILE = "pipeline.yaml"
LATELY = 0.02
"""Seconds for which a look at a folder serves :meth:`Catalog.lately`."""

Stamp = tuple[Path, int, int, int]
"""A file, its time of change in nanoseconds, size and inode; zeros when there is none."""


@dataclass(frozen=True)
class PipelineFolder:
    """A valid pipeline, the folder it is in and the text of its features.sql.

    With ``faults`` the folder is broken now, and this is what was valid ``since`` then: no job may be
    started from the folder's files.
    """

    pipeline: Pipeline
    folder: Path
    sql: str
    faults: tuple[Fault, ...] = ()
    since: datetime | None = None


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
    """All folders as they were at one look, and the folder ``root`` that they are in."""

    root: Stamp
    loaded: dict[str, _Loaded]
    valid: dict[str, PipelineFolder]
    faults: dict[str, list[Fault]]

    def above(self, path: str) -> PipelineFolder | None:
        """The pipeline whose landing folder is above the lake file ``path``."""
        parents = itertools.accumulate(path.split("/")[:-1], "{}/{}".format)
        return next((self._landing[parent] for parent in parents if parent in self._landing), None)

    @cached_property
    def _landing(self) -> dict[str, PipelineFolder]:
        return {folder.pipeline.landing.path: folder for folder in self.valid.values()}


class Catalog:
    """The pipelines below ``root``. A broken one never stops the others; several threads may ask.

    ``pace`` divides all their waiting times, see :func:`shared.domain.pipelines.paced`. Without
    ``last_valid`` a broken pipeline has no definition to go on with.
    """

    def __init__(self, root: Path, *, pace: float = 1.0, last_valid: LastValid | None = None) -> None:
        self.root = root
        self._pace = pace
        self._last_valid = last_valid
        self._snapshot = _Snapshot((root, 0, 0, 0), {}, {}, {})
        self._stand_ins: dict[str, PipelineFolder] = {}
        self._seen: dict[str, tuple[float, PipelineFolder]] = {}

    def names(self) -> list[str]:
        """All pipelines, broken ones too, sorted. Hidden folders are not looked at."""
        snapshot = self._look()
        return sorted([*snapshot.loaded, *self._bereft(snapshot)])

    def get(self, name: str) -> PipelineFolder:
        """The pipeline, the same object until its files change; its last valid definition while its folder has faults.

        Raises what :meth:`whole` does when no definition was kept.
        """
        try:
            return self.whole(name)
        except ConfigurationError as error:
            stand_in = self._stand_in(name, error.faults)
            if stand_in is None:
                raise
            return stand_in
        except Missing:
            bereft = self._bereft(self._snapshot)
            if name not in bereft:
                raise
            return bereft[name]

    def lately(self, name: str) -> PipelineFolder:
        """As :meth:`get`, as it was at most :data:`LATELY` seconds ago: for who asks a thousand times a second."""
        seen = self._seen.get(name)
        if seen is None or time.monotonic() - seen[0] > LATELY:
            seen = self._seen[name] = (time.monotonic(), self.get(name))
        return seen[1]

    def whole(self, name: str) -> PipelineFolder:
        """The pipeline as its folder is now, which is what a new run needs.

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

    def live(self) -> list[PipelineFolder]:
        """The pipelines, sorted by name, the broken ones as they were last valid."""
        snapshot = self._look()
        broken = (self._stand_in(name, tuple(faults)) for name, faults in snapshot.faults.items())
        found = [*snapshot.valid.values(), *(folder for folder in broken if folder), *self._bereft(snapshot).values()]
        return sorted(found, key=lambda folder: folder.pipeline.name)

    def keep(self, folder: PipelineFolder) -> None:
        """Remember ``folder`` as the last valid definition of its pipeline."""
        if self._last_valid and not folder.faults:
            self._last_valid.keep(folder.pipeline, folder.sql)

    def faults(self) -> dict[str, list[Fault]]:
        """The broken pipelines, each with all its faults in the order of its lines."""
        snapshot = self._look()
        return snapshot.faults | {name: list(folder.faults) for name, folder in self._bereft(snapshot).items()}

    def for_path(self, path: str) -> PipelineFolder | None:
        """The pipeline for which the lake file ``path`` has landed: its landing.path is a folder above the file.

        None when there is none. Landing folders of valid pipelines never lie in each other.
        """
        snapshot = self._snapshot
        found = snapshot.above(path)
        # What an edit of another pipeline would do to this one is seen by whoever looks at all of them.
        if found is None or not snapshot.loaded[found.pipeline.name].holds or snapshot.root != _stamp(self.root):
            found = self._look().above(path)
        return found

    def _bereft(self, snapshot: _Snapshot) -> dict[str, PipelineFolder]:
        """The last valid definitions of folders that have lost their pipeline.yaml."""
        names = {path.name for path in self._folders()} - snapshot.loaded.keys()
        cure = "Put it back, or remove the whole folder to end the pipeline."
        faults = {name: Fault(f"{self.root.name}/{name}/{FILE}", "is missing", cure) for name in names}
        found = {name: self._stand_in(name, (fault,)) for name, fault in faults.items()}
        return {name: folder for name, folder in found.items() if folder}

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return [path for path in self.root.iterdir() if not path.name.startswith(".") and path.is_dir()]

    def _stand_in(self, name: str, faults: tuple[Fault, ...]) -> PipelineFolder | None:
        """The last valid definition for a folder with faults."""
        if self._last_valid is None or not NAME.fullmatch(name):
            return None
        stand_ins = self._stand_ins
        if name in stand_ins:
            return stand_ins[name]
        kept = self._last_valid.get(name)
        if kept is None:
            return None
        pipeline, sql, since = kept
        stand_ins[name] = PipelineFolder(pipeline, self.root / name, sql, faults, since)
        return stand_ins[name]

    def _look(self) -> _Snapshot:
        before = self._snapshot
        root = _stamp(self.root)
        loaded: dict[str, _Loaded] = {}
        for name in sorted(path.name for path in self._folders() if (path / FILE).is_file()):
            known = before.loaded.get(name)
            loaded[name] = known if known and known.holds else _load(self.root / name)
        if loaded != before.loaded:
            self._snapshot = _judge_together(root, loaded, before, self._pace)
            self._stand_ins = {}
        elif root != before.root:
            self._snapshot = replace(before, root=root)
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


def _judge_together(root: Stamp, loaded: dict[str, _Loaded], before: _Snapshot, pace: float) -> _Snapshot:
    faults = {name: one.faults.copy() for name, one in loaded.items()}
    pipelines = {name: one.pipeline for name, one in loaded.items() if one.pipeline is not None}
    _judge_landing_folders(pipelines, faults)
    _judge_endpoints(pipelines, faults)
    found = {name: some for name, one in faults.items() if (some := one.all())}
    valid = {}
    for name, one in loaded.items():
        if name not in found and one.pipeline is not None:
            same = before.valid.get(name) if before.loaded.get(name) is one else None
            valid[name] = same or PipelineFolder(paced(one.pipeline, pace), root[0] / name, one.sql)
    return _Snapshot(root, loaded, valid, found)


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
