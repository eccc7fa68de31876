"""Compare what the endpoint was asked with what its model was trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

from shared import evaluation, preparation, runs
from shared.catalog import PipelineFolder
from shared.domain import drift
from shared.domain.drift import ColumnDrift, Profile
from shared.domain.ledger import DriftCheck, PipelineState, Version
from shared.domain.records import from_record, to_record
from shared.domain.signals import DriftCheckDue, RetrainingDue
from shared.errors import Missing
from shared.loop import Loop
from shared.runs import Outcome

FEATURES, ANSWERS = "{}", "({})"
"""How a check names the columns of the model's input, and those of its answers: (prediction), (probability)."""


def react(signal: DriftCheckDue, loop: Loop) -> Outcome:
    """Check one window; ask for retraining when drift is sustained and the cooldown is over."""
    folder = loop.catalog.get(signal.pipeline)
    state = runs.state_of(loop, signal.pipeline)
    if not state.champion:
        return _outcome(signal, "nothing", "there is no champion yet")
    version = evaluation.read_version(loop, signal.pipeline, state.champion)
    check = _check(signal, loop, folder, version)
    loop.ports.ledger.update(DriftCheck, check.pipeline, check.id, lambda present: present or check)
    now = max(loop.ports.clock.now(), signal.slot)
    state = loop.ports.ledger.update(
        PipelineState, signal.pipeline, "state", lambda s: _remember(s, folder, check, now)
    )
    subjects = (f"{signal.pipeline}:{version.version}", f"drift {check.id}")
    if check.status != "drift":
        return _outcome(signal, "nothing", check.reason, *subjects)
    k, n = folder.pipeline.drift.k_of_n
    if not drift.sustained(state.recent_drift, k, n):
        found = sum(state.recent_drift)
        return _outcome(
            signal,
            "nothing",
            f"{check.reason}; seen in {found} of the last {n} checks, retraining follows from {k} on",
            *subjects,
        )
    last, cooldown = state.last_drift_retraining_at, folder.pipeline.drift.cooldown
    # A time that lies further ahead was noted by a clock that was wrong.
    if last and abs(signal.slot - last) < cooldown:
        return _outcome(
            signal,
            "nothing",
            f"{check.reason}; the last retraining for drift was at {last:%Y-%m-%d %H:%M}, cooldown {cooldown}",
            *subjects,
        )
    loop.ports.queue.send(
        RetrainingDue(pipeline=signal.pipeline, cause="drift", slot=f"{signal.slot:%Y%m%dt%H%M%S}", reason=check.reason)
    )
    loop.ports.events.publish(
        "DriftDetected",
        f"{signal.pipeline}:{version.version}",
        {"pipeline": signal.pipeline, "version": version.version, "columns": list(check.drifted), "rows": check.rows},
        id=f"{signal.pipeline}-{check.id}",
    )
    return _outcome(signal, "done", f"{check.reason}; retraining is asked for", *subjects)


def _check(signal: DriftCheckDue, loop: Loop, folder: PipelineFolder, version: Version) -> DriftCheck:
    policy = folder.pipeline.drift
    check = DriftCheck(
        pipeline=signal.pipeline,
        id=f"{signal.slot:%Y%m%dt%H%M%S}",
        at=signal.slot,
        status="none",
        rows=0,
        version=version.version,
    )
    profiles = _profiles(loop, version)
    if not profiles:
        return replace(check, status="no_reference", reason=f"version {version.version} has no reference profile")
    since = max(signal.slot - policy.window, version.registered_at)
    compared: dict[str, ColumnDrift] = {}
    rows = 0
    for naming, profile in profiles.items():
        key = f"{version.version}-{'features' if naming == FEATURES else 'answers'}"
        summary = loop.predictions.summary(signal.pipeline, profile, key, since, signal.slot)
        rows = max(rows, summary.rows)
        compared |= {naming.format(name): column for name, column in drift.compare(profile, summary).items()}
    if rows < policy.min_rows:
        few = f"{rows:,} scored rows in the last {_words(policy.window)}"
        reason = f"{few} are too few to judge (min_rows {policy.min_rows:,})"
        return replace(check, status="too_few_rows", rows=rows, reason=reason)
    drifted = drift.drifted(compared, policy, rows)
    columns = {name: to_record(column) for name, column in compared.items()}
    worst = sorted(drifted, key=lambda name: -columns[name]["psi"])
    if not drifted:
        top = max(columns.items(), key=lambda item: item[1]["psi"])
        reason = (
            f"no drift in {rows:,} rows: the largest PSI is {top[1]['psi']:.3f} in {top[0]} (threshold {policy.psi})"
        )
        return replace(check, rows=rows, columns=columns, reason=reason)
    named = ", ".join(f"{name} (PSI {columns[name]['psi']:.2f})" for name in worst[:3])
    more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
    return replace(
        check,
        status="drift",
        rows=rows,
        columns=columns,
        drifted=tuple(worst),
        reason=f"drift in {rows:,} rows: {named}{more}",
    )


def _profiles(loop: Loop, version: Version) -> dict[str, Profile]:
    """The reference of the features, and of the predictions on the held-out rows, by how its columns are named."""
    profiles = {}
    if version.features:
        manifest = preparation.read_manifest(loop, version.features)
        profiles[FEATURES] = _read(loop, manifest.profile)
    try:
        profiles[ANSWERS] = _read(loop, evaluation.artifact(version, "predictions.json"))
    except Missing:
        return profiles
    return profiles


def _read(loop: Loop, path: str) -> Profile:
    return from_record(Profile, json.loads(loop.ports.lake.read(path)))


def _remember(state: PipelineState | None, folder: PipelineFolder, check: DriftCheck, now: datetime) -> PipelineState:
    state = state or PipelineState(pipeline=check.pipeline)
    if state.drift_at and check.at <= state.drift_at <= now:
        return state
    _, n = folder.pipeline.drift.k_of_n
    judged = check.status in ("none", "drift")
    recent = (*state.recent_drift, check.status == "drift")[-n:] if judged else state.recent_drift
    return replace(state, drift_status=check.status, drift_at=check.at, recent_drift=recent)


def _words(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:g} h" if hours >= 1 else f"{hours * 60:g} min"


def _outcome(signal: DriftCheckDue, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="drift", outcome=outcome, reason=reason, subjects=subjects)
