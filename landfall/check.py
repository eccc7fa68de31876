"""`landfall check`: everything that can be known of pipelines without running them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.definitions.catalog import Catalog, PipelineFolder
from shared.definitions.typed_yaml import Faults, nearest, read
from shared.domain.pipelines import Pipeline
from shared.errors import Fault, Missing


def check(root: Path, names: Sequence[str] = ()) -> list[Fault]:
    """All faults of the pipelines called ``names`` below ``root`` (all of them by default).

    Beyond what makes a pipeline valid for the loop, train.py must be Python and environment.yml an
    environment. Raises :class:`~shared.errors.Missing` for a name that is no folder there.
    """
    catalog = Catalog(root)
    wanted = _wanted(catalog, names)
    faults = [fault for name, found in catalog.faults().items() if name in wanted for fault in found]
    for folder in catalog.all():
        if folder.pipeline.name in wanted:
            faults += _script_faults(folder) + _environment_faults(folder)
    return faults


def check_for_spark(root: Path, names: Sequence[str] = ()) -> list[Fault]:
    """What in the features.sql of valid pipelines is not proven to mean the same on Spark, which Azure runs.

    For a pipeline that stays on a laptop these are no faults. Raises like :func:`check`.
    """
    from shared.spark.pipelines import judge

    catalog = Catalog(root)
    wanted = _wanted(catalog, names)
    return [
        replace(fault, where=_in(folder, fault.where))
        for folder in catalog.all()
        if folder.pipeline.name in wanted
        for fault in judge(folder.pipeline, folder.sql)
    ]


def check_for_events(root: Path, names: Sequence[str] = ()) -> list[Fault]:
    """The landing paths of valid pipelines of which no storage event tells on Azure: runs would never begin there.

    A laptop watches its whole lake, so there they are no faults. Raises like :func:`check`.
    """
    from landfall.setup.subscription import LANDING

    catalog = Catalog(root)
    wanted = _wanted(catalog, names)
    return [
        Fault(
            _in(folder, f"pipeline.yaml:{_line_of(folder, 'landing.path')} landing.path"),
            f"{folder.pipeline.landing.path} is outside {LANDING}, of which alone Azure's event subscription tells",
            f"Let data land below it, for example in {LANDING}{folder.pipeline.name}.",
        )
        for folder in catalog.all()
        if folder.pipeline.name in wanted and not f"{folder.pipeline.landing.path}/".startswith(LANDING)
    ]


def report(faults: Sequence[Fault], checked: Sequence[str]) -> str:
    """The faults for people: what, and below it the cure; one line when there are none."""
    if not faults:
        many = "pipeline is" if len(checked) == 1 else "pipelines are"
        return f"{len(checked)} {many} fine: {', '.join(checked)}" if checked else "There is no pipeline to check."
    lines = [f"{fault.where}: {fault.what}\n    {fault.cure}" for fault in faults]
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return "\n".join([*lines, "", f"{count}. What is live goes on as it was last defined."])


def _wanted(catalog: Catalog, names: Sequence[str]) -> list[str]:
    known = catalog.names()
    for name in names:
        if name not in known:
            raise Missing(f"there is no pipeline {name!r} in {catalog.root.name}/. {nearest(name, known)}")
    return list(dict.fromkeys(names)) or known


def _in(folder: PipelineFolder, where: str) -> str:
    return f"{folder.folder.parent.name}/{folder.folder.name}/{where}"


def _line_of(folder: PipelineFolder, field: str) -> int:
    read_again = Faults("pipeline.yaml")
    read((folder.folder / "pipeline.yaml").read_text(encoding="utf-8-sig"), Pipeline, read_again)
    return read_again.lines.get(field, 1)


def _script_faults(folder: PipelineFolder) -> list[Fault]:
    name = folder.pipeline.training.script
    where = f"{folder.folder.parent.name}/{folder.folder.name}/{name}"
    try:
        ast.parse((folder.folder / name).read_bytes(), name)
    except SyntaxError as error:
        return [Fault(f"{where}:{error.lineno or 1}", f"is no Python: {error.msg}", "Correct the script.")]
    except ValueError as error:
        return [Fault(f"{where}:1", f"is no Python: {error}", "Save it as UTF-8 text.")]
    return []


def _environment_faults(folder: PipelineFolder) -> list[Fault]:
    import yaml

    name = folder.pipeline.training.environment
    where = f"{folder.folder.parent.name}/{folder.folder.name}/{name}"
    try:
        content = yaml.safe_load((folder.folder / name).read_bytes())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"is no YAML: {getattr(error, 'problem', None) or error}"
        return [Fault(f"{where}:{mark.line + 1 if mark else 1}", what, "Correct the file.")]
    dependencies = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(dependencies, list) or not dependencies:
        return [
            Fault(f"{where}:1 dependencies", "lists no dependencies", "List conda packages, and pip ones below pip:.")
        ]
    return []
