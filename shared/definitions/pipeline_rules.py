"""What a pipeline must hold beyond the types of its fields."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.definitions.typed_yaml import Faults, nearest
from shared.domain.landing import OWN_FOLDERS
from shared.domain.pipelines import MOST_MIRRORED, NAME, Check, Pipeline
from shared.features.column_types import SQL_TYPES
from shared.features.landed_rows import RESERVED, is_reserved

NUMERIC = ("int", "double")

_positive = ("must be longer than 0s", lambda v: v > timedelta(0))
_at_least_1 = ("must be at least 1", lambda v: v >= 1)
_at_least_0 = ("must be at least 0", lambda v: 0 <= v < math.inf)
_above_0 = ("must be above 0", lambda v: 0 < v < math.inf)
_share = ("must be between 0 and 1", lambda v: 0 <= v <= 1)
_within = ("must lie between 0 and 1, both excluded", lambda v: 0 < v < 1)

RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "landing.complete.max_wait": _positive,
    "landing.complete.min_rows": _at_least_1,
    "landing.expect_every": _positive,
    "features.test_share": _within,
    "features.price": _at_least_0,
    "training.timeout": _positive,
    "training.price": _at_least_0,
    "gate.min_gain": ("must be a finite number", math.isfinite),
    "gate.confidence": _within,
    "gate.slice_tolerance": _at_least_0,
    "gate.min_slice_rows": _at_least_1,
    "gate.max_latency_ms": ("must be above 0", lambda v: v > 0),
    "gate.max_size_mb": ("must be above 0", lambda v: v > 0),
    "rollout.mirror": (f"must be from 0 to {MOST_MIRRORED}", lambda v: 0 <= v <= MOST_MIRRORED),
    "rollout.rollback_when.error_rate": _share,
    "rollout.rollback_when.p95_ms": ("must be above 0", lambda v: v > 0),
    "rollout.rollback_when.prediction_psi": ("must be above 0", lambda v: v > 0),
    "rollout.rollback_when.min_requests": _at_least_1,
    "rollout.instance_count": _at_least_1,
    "drift.every": _positive,
    "drift.window": _positive,
    "drift.min_rows": _at_least_1,
    "drift.psi": _above_0,
    "drift.tolerance": _at_least_0,
    "drift.labels": _positive,
}
"""Bounds of single fields: the sentence and the test."""


def judge(pipeline: Pipeline, folder: Path, faults: Faults) -> str:
    """Add to ``faults`` what is wrong with ``pipeline`` in ``folder``; returns the text of its features.sql."""
    if pipeline.name != folder.name and not faults.about("name"):
        what = f"is {pipeline.name!r}, but the folder is called {folder.name!r}"
        faults.add("name", what, "Give both the same name.")
    _judge_ranges(pipeline, faults)
    _judge_landing(pipeline, faults)
    _judge_gate(pipeline, faults)
    _judge_endpoint(pipeline, faults)
    _judge_schedule(pipeline, faults)
    sql = _judge_files(pipeline, folder, faults)
    if sql and not faults.about("features", "landing.columns"):
        _judge_sql(pipeline, sql, folder, faults)
    _judge_keep(pipeline, faults)
    return sql


def within(path: str, folder: str) -> bool:
    """True when the lake path ``path`` is ``folder`` or below it."""
    return path == folder or path.startswith(f"{folder}/")


def _judge_ranges(pipeline: Pipeline, faults: Faults) -> None:
    for field, (sentence, holds) in RANGES.items():
        value: Any = pipeline
        for step in field.split("."):
            value = getattr(value, step)
        if value is not None and not holds(value):
            faults.add(field, sentence, "Change it, or leave it out for the default.")
    complete = pipeline.landing.complete
    if complete.marker and complete.each_file:
        faults.add("landing.complete", "names both marker and each_file", "Keep one of them.")
    if complete.marker and "/" in complete.marker:
        faults.add("landing.complete.marker", "is a path", "Write the bare name of the file, for example _SUCCESS.")
    if complete.quiet > complete.max_wait:
        what = f"is longer than max_wait ({complete.max_wait})"
        faults.add("landing.complete.quiet", what, "Shorten quiet or lengthen max_wait.")


def _judge_landing(pipeline: Pipeline, faults: Faults) -> None:
    landing = pipeline.landing
    parts = landing.path.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\x00-\x1f\x7f]", landing.path):
        what = f"{landing.path!r} is no plain folder of the lake"
        faults.add(
            "landing.path",
            what,
            f"Write a relative path such as landing/{pipeline.name or 'name'}, without a slash at the end.",
        )
    elif parts[0] in OWN_FOLDERS:
        what = f"is below {parts[0]}/, where Landfall itself writes"
        faults.add("landing.path", what, f"Let data land elsewhere, for example in landing/{pipeline.name or 'name'}.")
    seen: dict[str, str] = {}
    for column, declared in landing.columns.items():
        field = f"landing.columns.{column}"
        if declared.removesuffix("?") not in SQL_TYPES:
            cure = nearest(declared.removesuffix("?"), SQL_TYPES) + " A ? behind it allows nulls."
            faults.add(field, f"{declared!r} is no type of a column", cure)
        if is_reserved(column):
            faults.add(field, f"begins with {RESERVED}, which is reserved", "Rename the column.")
        if column.lower() in seen:
            what = f"differs from {seen[column.lower()]!r} in case only, which SQL does not see"
            faults.add(field, what, "Rename one of them.")
        seen.setdefault(column.lower(), column)
    for i, check in enumerate(landing.checks):
        _judge_check(check, f"landing.checks[{i}]", landing.columns, faults)


def _judge_keep(pipeline: Pipeline, faults: Faults) -> None:
    landed = {column.lower() for column in pipeline.landing.columns}
    key = pipeline.features.key
    if pipeline.landing.keep == "all" or not landed or faults.about("features.key", "landing.columns"):
        return
    if key.lower() not in landed:
        what = f"latest means the newest row of each {key!r}, which is no landed column"
        faults.add("landing.keep", what, "Write keep: all, or make features.key a landed column.")


def _judge_check(check: Check, field: str, columns: dict[str, str], faults: Faults) -> None:
    if check.max_null_share is None and check.between is None and check.allowed is None and not check.unique:
        faults.add(field, "demands nothing", "Add max_null_share, between, allowed or unique, or remove it.")
    if check.max_null_share is not None and not 0 <= check.max_null_share <= 1:
        faults.add(f"{field}.max_null_share", "must be between 0 and 1", "0.01 means one row in a hundred.")
    if check.allowed == ():
        faults.add(f"{field}.allowed", "allows nothing", "List the allowed values, or remove it.")
    if check.between is not None and check.between[0] > check.between[1]:
        faults.add(
            f"{field}.between", "has the higher bound first", f"Write [{check.between[1]:g}, {check.between[0]:g}]."
        )
    if not columns or faults.about(f"{field}.column", "landing.columns"):
        return
    if check.column not in columns:
        faults.add(
            f"{field}.column", f"{check.column!r} is no column in landing.columns", nearest(check.column, columns)
        )
    elif check.between is not None and columns[check.column].removesuffix("?") not in NUMERIC:
        what = f"bounds the {columns[check.column]} column {check.column!r}"
        faults.add(f"{field}.between", what, "Bound a column of type int or double, or use allowed.")


def _judge_gate(pipeline: Pipeline, faults: Faults) -> None:
    from shared.domain.metrics import CLASSIFICATION, LOSSES, REGRESSION

    gate = pipeline.gate
    known = CLASSIFICATION + REGRESSION
    if gate.metric not in known:
        faults.add("gate.metric", f"{gate.metric!r} is no metric", nearest(gate.metric, known))
    for metric, floor in gate.floors.items():
        field = f"gate.floors.{metric}"
        if metric not in known:
            faults.add(field, f"{metric!r} is no metric", nearest(metric, known))
        elif not faults.about("gate.metric") and (metric in REGRESSION) != (gate.metric in REGRESSION):
            ours, theirs = ("numbers", "classes") if metric in REGRESSION else ("classes", "numbers")
            faults.add(
                field, f"is for {ours}, but gate.metric {gate.metric} is for {theirs}", "Use metrics of one kind."
            )
        elif not math.isfinite(floor):
            faults.add(field, "must be a finite number", "Write a number.")
        elif metric in CLASSIFICATION and metric not in LOSSES and not 0 <= floor <= 1:
            faults.add(field, f"must be between 0 and 1, as {metric} is", "Write a share, for example 0.5.")
    for i, column in enumerate(gate.slices):
        if column in gate.slices[:i]:
            faults.add(f"gate.slices[{i}]", f"names {column!r} again", "Remove it.")


def _judge_endpoint(pipeline: Pipeline, faults: Faults) -> None:
    if pipeline.rollout.endpoint and not NAME.fullmatch(pipeline.rollout.endpoint):
        what = f"{pipeline.rollout.endpoint!r} is no name of an endpoint"
        faults.add("rollout.endpoint", what, "Write 3 to 32 lower-case letters, digits and dashes, a letter first.")


def _judge_schedule(pipeline: Pipeline, faults: Faults) -> None:
    from shared.domain.schedule import validate

    if pipeline.retraining.schedule is None:
        return
    problem = validate(pipeline.retraining.schedule)
    if problem:
        cure = 'Write six fields in UTC, for example "0 0 2 * * SUN" (Sundays at 02:00), or null for never.'
        faults.add("retraining.schedule", problem, cure)


def _judge_files(pipeline: Pipeline, folder: Path, faults: Faults) -> str:
    named = {
        "features.sql": pipeline.features.sql,
        "training.script": pipeline.training.script,
        "training.environment": pipeline.training.environment,
    }
    for field, name in named.items():
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            faults.add(field, f"{name!r} leaves the pipeline's folder", "Name a file in the folder.")
        elif not (folder / name).is_file():
            others = sorted(path.name for path in folder.iterdir() if path.suffix == Path(name).suffix)
            faults.add(
                field, f"there is no file {name}", nearest(name, others) if others else f"Put it into {folder.name}/."
            )
    if faults.about("features.sql"):
        return ""
    try:
        sql = (folder / pipeline.features.sql).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.add("features.sql", f"{pipeline.features.sql} cannot be read: {error}", "Save it as UTF-8 text.")
        return ""
    if not sql.strip():
        faults.add("features.sql", f"{pipeline.features.sql} is empty", "Select key, label and features from landed.")
    return sql


def _judge_sql(pipeline: Pipeline, sql: str, folder: Path, faults: Faults) -> None:
    from shared.features.features_sql import analyse, parse

    landed = pipeline.landing.columns
    found = analyse(sql, landed or None).faults
    for fault in found:
        faults.include(replace(fault, where=f"{folder.parent.name}/{folder.name}/{fault.where}"))
    if found:
        return
    projections = parse(sql).expressions
    stars = any(p.is_star or p.key == "columns" for p in projections)
    names = [p.alias_or_name for p in projections if not p.is_star]
    if stars and not landed:
        return
    given = [name for name in (*names, *(landed if stars else ())) if name]
    wanted = {"features.key": pipeline.features.key, "features.label": pipeline.features.label}
    wanted |= {f"gate.slices[{i}]": column for i, column in enumerate(pipeline.gate.slices)}
    for field, column in wanted.items():
        if column not in given:
            what = f"{column!r} is no column that {pipeline.features.sql} gives"
            faults.add(field, what, nearest(column, given))
    if pipeline.features.key.lower() == pipeline.features.label.lower():
        faults.add("features.label", "is the key, too", "Name the column that is to be predicted.")
    for i, name in enumerate(names):
        if name and name.lower() in [n.lower() for n in names[:i]]:
            what = f"{pipeline.features.sql} gives two columns called {name!r}"
            faults.add("features.sql", what, "Give one of them another name with AS.")
