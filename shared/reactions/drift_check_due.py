"""Compare what the endpoint was asked with what its model was trained on, and how well it answered."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from shared import pipeline_states, preparation, versions
from shared.decisions import Outcome
from shared.definitions.catalog import PipelineFolder
from shared.domain import drift
from shared.domain.compiled import place
from shared.domain.drift import Profile, Summary
from shared.domain.durations import in_words
from shared.domain.ledger import DriftCheck, PipelineState, Version
from shared.domain.performance import CALIBRATION, METRICS, Estimate, estimate
from shared.domain.pipelines import Drift
from shared.domain.realised import Realised, realised
from shared.domain.records import from_record, to_record
from shared.domain.signals import DriftCheckDue, RetrainingDue
from shared.errors import Missing
from shared.features import manifests
from shared.loop import Loop
from shared.predictions import outcomes


def react(signal: DriftCheckDue, loop: Loop) -> Outcome:
    """Check one window; ask for retraining when it was called for often enough, the cooldown is over and there is
    something new to learn."""
    folder = loop.catalog.get(signal.pipeline)
    state = pipeline_states.read(loop, signal.pipeline)
    if not state.champion:
        return _outcome(signal, "nothing", "there is no champion yet")
    version = versions.read(loop, signal.pipeline, state.champion)
    check = _check(signal, loop, folder, version)
    loop.ports.ledger.update(DriftCheck, check.pipeline, check.id, lambda present: present or check)
    now = max(loop.ports.clock.now(), signal.slot)
    state = pipeline_states.update(loop, signal.pipeline, lambda s: _remember(s, folder, check, now))
    subjects = (f"{signal.pipeline}:{version.version}", f"drift {check.id}")
    if not check.retrain:
        return _outcome(signal, "nothing", check.reason, *subjects)
    k, n = folder.pipeline.drift.k_of_n
    if not drift.sustained(state.recent_drift, k, n):
        found = sum(state.recent_drift)
        return _outcome(
            signal,
            "nothing",
            f"{check.reason}; seen in {found} of the last {n} checks, retraining follows from {k} on; "
            f"checks within {in_words(folder.pipeline.drift.every)} count as one",
            *subjects,
        )
    last, cooldown = state.last_drift_retraining_at, folder.pipeline.drift.cooldown
    # A time that lies further ahead was noted by a clock that was wrong.
    if last and abs(signal.slot - last) < cooldown:
        return _outcome(
            signal,
            "nothing",
            f"{check.reason}; the last retraining for drift was at {last:%Y-%m-%d %H:%M},"
            f" cooldown {in_words(cooldown)}",
            *subjects,
        )
    learned_by = _learned_by(loop, folder, version)
    loop.ports.events.publish(
        "DriftDetected",
        f"{signal.pipeline}:{version.version}",
        {
            "pipeline": signal.pipeline,
            "version": version.version,
            "columns": list(check.drifted),
            "rows": check.rows,
            "retraining": not learned_by,
        },
        id=f"{signal.pipeline}-{check.id}",
    )
    if learned_by:
        return _outcome(
            signal,
            "nothing",
            f"{check.reason}; no new labelled data has landed since version {learned_by} was trained,"
            " so that retraining would give the same model",
            *subjects,
        )
    loop.ports.queue.send(
        RetrainingDue(pipeline=signal.pipeline, cause="drift", slot=f"{signal.slot:%Y%m%dt%H%M%S}", reason=check.reason)
    )
    return _outcome(signal, "done", f"{check.reason}; retraining is asked for", *subjects)


def _learned_by(loop: Loop, folder: PipelineFolder, champion: Version) -> str:
    """The version that was made from all that has landed, the champion or one after it; empty when there is none."""
    since = (v for v in loop.ports.ledger.list(Version, champion.pipeline) if int(v.version) >= int(champion.version))
    return next((v.version for v in since if preparation.nothing_new(loop, folder, v.features)), "")


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
    found, labelled = _realised(signal, loop, folder, version)
    if found:
        check = replace(check, realised=found)
    return _judged(_compared(signal, loop, folder, version, check), policy, labelled)


def _judged(check: DriftCheck, policy: Drift, labelled: str) -> DriftCheck:
    """The check with what it says of performance, and whether that, or drift alone, calls for retraining."""
    known = [found for found in (check.performance, check.realised) if found]
    hurt = any(found.hurt for found in known)
    drifted = check.status == "drift"
    said = [check.reason, *(found.sentence() for found in known), *([labelled] if labelled else [])]
    if hurt and not drifted:
        check = replace(check, status="hurt")
    elif check.status == "none":
        said.append("the data did not change, retraining would not help")
    elif drifted and known and not hurt and policy.retrain == "performance":
        said.append("the drift does no harm, retraining would not help")
    retrain = drifted if policy.retrain == "drift" or not known else hurt
    return replace(check, retrain=retrain, reason="; ".join(said))


def _compared(
    signal: DriftCheckDue, loop: Loop, folder: PipelineFolder, version: Version, check: DriftCheck
) -> DriftCheck:
    """The check with what the window of the log shows: drift, and performance as estimated from it."""
    policy = folder.pipeline.drift
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
        few = f"{rows:,} rows scored by version {version.version} in the last {in_words(policy.window)}"
        reason = f"{few} are too few to judge (min_rows {policy.min_rows:,})"
        return replace(check, status="too_few_rows", rows=rows, reason=reason)
    compared = drift.compare(profile, summary)
    compared.pop(CALIBRATION, None)
    drifted = drift.drifted(compared, policy, rows)
    check = replace(
        check,
        rows=rows,
        columns={name: to_record(column) for name, column in compared.items()},
        performance=_performance(folder, version, summary),
    )
    if not compared:
        reason = f"the reference profile of version {version.version} was made of no rows"
        return replace(check, status="no_reference", reason=reason)
    if not drifted:
        name, top = max(compared.items(), key=lambda item: item[1].psi)
        reason = f"no drift in {rows:,} rows: the largest PSI is {top.psi:.3f} in {name} (threshold {policy.psi})"
        return replace(check, reason=reason)
    named = ", ".join(f"{name} (PSI {compared[name].psi:.2f})" for name in drifted[:3])
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    return replace(check, status="drift", drifted=drifted, reason=f"drift in {rows:,} rows: {named}{more}")


def _performance(folder: PipelineFolder, version: Version, summary: Summary) -> Estimate | None:
    """The gate's metric, estimated from the logged probabilities; accuracy where that is none that can be."""
    calibration = version.evaluation.calibration if version.evaluation else None
    counted = summary.columns.get(CALIBRATION)
    if calibration is None or counted is None:
        return None
    metric = folder.pipeline.gate.metric
    return estimate(calibration, counted, metric if metric in METRICS else "accuracy", folder.pipeline.drift.tolerance)


def _realised(
    signal: DriftCheckDue, loop: Loop, folder: PipelineFolder, version: Version
) -> tuple[Realised | None, str]:
    """The gate's metric on what the version predicted and labels have come of, or why that cannot be judged yet."""
    policy, lake = folder.pipeline.drift, loop.ports.lake
    outcomes.join(lake, loop.predictions, signal.pipeline, policy.labels, signal.slot)
    found = outcomes.newest(lake, signal.pipeline, version.version, signal.slot - policy.labels, signal.slot)
    if not found or version.evaluation is None:
        return None, ""
    if len(found) < policy.min_rows:
        few = f"{len(found):,} predictions of the last {in_words(policy.labels)} whose labels have landed"
        return None, f"{few} are too few to judge (min_rows {policy.min_rows:,})"
    chances = [outcome.probability for outcome in found if outcome.probability is not None]
    measured = realised(
        [outcome.label for outcome in found],
        [outcome.prediction for outcome in found],
        # Without a calibration the logged probability may be that of whatever class was the likeliest.
        chances if version.evaluation.calibration and len(chances) == len(found) else None,
        [outcome.labelled_at - outcome.at for outcome in found],
        folder.pipeline.gate,
        version.evaluation.challenger,
        version.evaluation.rows,
        policy.tolerance,
    )
    if measured is None:
        metric = folder.pipeline.gate.metric
        return None, f"{metric} cannot be measured on the {len(found):,} predictions whose labels have landed"
    return measured, ""


def _profile(loop: Loop, version: Version) -> Profile:
    """The reference of the features, of the answers on the held-out rows as (prediction) and (probability), and of
    the calibration."""
    found = Profile(rows=0, columns={})
    if version.features:
        manifest = manifests.read(loop.ports.lake, manifests.place(version.features))
        found = _read(loop, manifest.profile)
    columns = dict(found.columns)
    with suppress(Missing):
        answers = _read(loop, place(version.pipeline, version.version, "predictions.json"))
        columns |= {f"({name})": column for name, column in answers.columns.items()}
    if version.evaluation and version.evaluation.calibration:
        columns[CALIBRATION] = version.evaluation.calibration.column
    return replace(found, columns=columns)


def _read(loop: Loop, path: str) -> Profile:
    return from_record(Profile, json.loads(loop.ports.lake.read(path)))


def _remember(state: PipelineState, folder: PipelineFolder, check: DriftCheck, now: datetime) -> PipelineState:
    if state.drift_at and check.at <= state.drift_at <= now:
        return state
    state = replace(
        state,
        drift_status=check.status,
        drift_at=check.at,
        estimated=check.performance,
        realised=check.realised,
    )
    if not check.retrain and check.status not in ("none", "drift"):
        return state
    _, n = folder.pipeline.drift.k_of_n
    counted = state.drift_counted_at
    # The same window looked at once more is no second sign of drift: the newer look counts in place of the older.
    if counted and state.recent_drift and counted <= check.at < counted + folder.pipeline.drift.every:
        return replace(state, recent_drift=(*state.recent_drift[:-1], check.retrain))
    return replace(state, drift_counted_at=check.at, recent_drift=(*state.recent_drift, check.retrain)[-n:])


def _outcome(signal: DriftCheckDue, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.pipeline, what="drift", outcome=outcome, reason=reason, subjects=subjects)
