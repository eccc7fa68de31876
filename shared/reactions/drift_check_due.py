"""Compare what the endpoint was asked with what its model was trained on."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from shared import evaluation, preparation, runs
from shared.catalog import PipelineFolder
from shared.domain import drift
from shared.domain.drift import Profile, Summary
from shared.domain.ledger import DriftCheck, PipelineState, Version
from shared.domain.performance import CALIBRATION, METRICS, Estimate, estimate
from shared.domain.records import from_record, to_record
from shared.domain.signals import DriftCheckDue, RetrainingDue
from shared.errors import Missing
from shared.loop import Loop
from shared.runs import Outcome


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
            f"{check.reason}; seen in {found} of the last {n} checks, retraining follows from {k} on; "
            f"checks within {folder.pipeline.drift.every} count as one",
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
    profile = _profile(loop, version)
    if not profile.columns:
        return replace(check, status="no_reference", reason=f"version {version.version} has no reference profile")
    summary = loop.predictions.summary(
        signal.pipeline,
        profile,
        f"{version.version}-drift",
        signal.slot - policy.window,
        signal.slot,
        version=version.version,
    )
    rows = summary.rows
    if rows < policy.min_rows:
        few = f"{rows:,} rows scored by version {version.version} in the last {_words(policy.window)}"
        reason = f"{few} are too few to judge (min_rows {policy.min_rows:,})"
        return replace(check, status="too_few_rows", rows=rows, reason=reason)
    compared = drift.compare(profile, summary)
    compared.pop(CALIBRATION, None)
    drifted = drift.drifted(compared, policy, rows)
    performance = _performance(folder, version, summary)
    estimated = f"; {performance.sentence()}" if performance else ""
    check = replace(
        check,
        rows=rows,
        columns={name: to_record(column) for name, column in compared.items()},
        performance=performance,
    )
    if not compared:
        reason = f"the reference profile of version {version.version} was made of no rows"
        return replace(check, status="no_reference", reason=reason)
    if not drifted:
        name, top = max(compared.items(), key=lambda item: item[1].psi)
        hurt = performance is not None and performance.hurt
        advice = "" if hurt else "; the data did not change, retraining would not help"
        reason = f"no drift in {rows:,} rows: the largest PSI is {top.psi:.3f} in {name} (threshold {policy.psi})"
        return replace(check, reason=f"{reason}{estimated}{advice}")
    named = ", ".join(f"{name} (PSI {compared[name].psi:.2f})" for name in drifted[:3])
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    return replace(check, status="drift", drifted=drifted, reason=f"drift in {rows:,} rows: {named}{more}{estimated}")


def _performance(folder: PipelineFolder, version: Version, summary: Summary) -> Estimate | None:
    """The gate's metric, estimated from the logged probabilities; accuracy where that is none that can be."""
    calibration = version.evaluation.calibration if version.evaluation else None
    counted = summary.columns.get(CALIBRATION)
    if calibration is None or counted is None:
        return None
    metric = folder.pipeline.gate.metric
    return estimate(calibration, counted, metric if metric in METRICS else "accuracy")


def _profile(loop: Loop, version: Version) -> Profile:
    """The reference of the features, of the answers on the held-out rows as (prediction) and (probability), and of
    the calibration."""
    found = Profile(rows=0, columns={})
    if version.features:
        manifest = preparation.read_manifest(loop, version.features)
        found = _read(loop, manifest.profile)
    columns = dict(found.columns)
    with suppress(Missing):
        answers = _read(loop, evaluation.artifact(version, "predictions.json"))
        columns |= {f"({name})": column for name, column in answers.columns.items()}
    if version.evaluation and version.evaluation.calibration:
        columns[CALIBRATION] = version.evaluation.calibration.column
    return replace(found, columns=columns)


def _read(loop: Loop, path: str) -> Profile:
    return from_record(Profile, json.loads(loop.ports.lake.read(path)))


def _remember(state: PipelineState | None, folder: PipelineFolder, check: DriftCheck, now: datetime) -> PipelineState:
    state = state or PipelineState(pipeline=check.pipeline)
    if state.drift_at and check.at <= state.drift_at <= now:
        return state
    state = replace(state, drift_status=check.status, drift_at=check.at)
    if check.status not in ("none", "drift"):
        return state
    _, n = folder.pipeline.drift.k_of_n
    counted = state.drift_counted_at
    found = check.status == "drift"
    # The same window looked at once more is no second sign of drift: the newer look counts in place of the older.
    if counted and state.recent_drift and counted <= check.at < counted + folder.pipeline.drift.every:
        return replace(state, recent_drift=(*state.recent_drift[:-1], found))
    return replace(state, drift_counted_at=check.at, recent_drift=(*state.recent_drift, found)[-n:])


def _words(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:g} h" if hours >= 1 else f"{hours * 60:g} min"


def _outcome(signal: DriftCheckDue, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="drift", outcome=outcome, reason=reason, subjects=subjects)
