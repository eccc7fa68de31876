"""The comparison has ended: the gate gives its verdict."""

from __future__ import annotations

import json

from shared import evaluation, operator_requests, pipeline_states, rollouts, runs, versions
from shared.decisions import Outcome
from shared.definitions.catalog import PipelineFolder
from shared.domain import gate
from shared.domain.compiled import GRAPH, place
from shared.domain.gate import Evaluation, Verdict
from shared.domain.ledger import PipelineState, Run, Version
from shared.domain.records import from_record, to_record
from shared.domain.signals import EvaluationFinished
from shared.errors import Missing, Transient
from shared.loop import Loop

ARTIFACTS = ("evaluation.json", "predictions.json", "smoke.json")


def react(signal: EvaluationFinished, loop: Loop) -> Outcome:
    """Store the measurement and the verdict; then roll out, ask a person, or keep the champion."""
    folder = loop.catalog.get(signal.pipeline)
    version = versions.read(loop, signal.pipeline, signal.version)
    if version.status != "evaluating" or version.job != signal.job:
        return _outcome(signal, version, "nothing", f"version {version.version} is already {version.status}")
    status = loop.ports.training.status(signal.job)
    if status is None:
        return _outcome(signal, version, "nothing", f"its job is unknown: {evaluation.begin(loop, folder, version)}")
    if not status.ended:
        raise Transient(f"job {status.name} is still {status.state}, though an event says {signal.status}")
    if status.state != "completed":
        return _fail(signal, loop, version, f"evaluation {status.state}: {status.reason}{status.last_lines}")
    champion = pipeline_states.read(loop, signal.pipeline).champion
    if evaluation.job_name(version, champion) != signal.job:
        return _outcome(
            signal, version, "nothing", f"the champion changed meanwhile: {evaluation.begin(loop, folder, version)}"
        )
    training = loop.ports.training
    try:
        files = {name: training.read_output(signal.job, evaluation.OUTPUT, name) for name in ARTIFACTS}
        measured = from_record(Evaluation, json.loads(files["evaluation.json"]))
        if measured.compiled and measured.compiled.verified:
            files[GRAPH] = training.read_output(signal.job, evaluation.OUTPUT, GRAPH)
    except Missing as error:
        return _fail(signal, loop, version, f"the evaluation left no result: {error}")
    for name, content in files.items():
        loop.ports.lake.write(place(version.pipeline, version.version, name), content)
    verdict = gate.decide(measured, folder.pipeline.gate, challenger=version.version, champion=champion or None)
    version = versions.change(loop, version, evaluation=measured, verdict=verdict)
    return _act(signal, loop, folder, version, verdict)


def _act(signal: EvaluationFinished, loop: Loop, folder: PipelineFolder, version: Version, verdict: Verdict) -> Outcome:
    run = loop.ports.ledger.read(Run, version.pipeline, version.run) if version.run else None
    state = pipeline_states.read(loop, version.pipeline)
    loop.ports.events.publish(
        "VerdictGiven",
        f"{version.pipeline}:{version.version}",
        {"pipeline": version.pipeline, "version": version.version, **to_record(verdict)},
        id=signal.job,
    )
    if not verdict.promote:
        status = "kept_out" if state.champion else "rejected"
        if run:
            runs.end(
                loop, runs.move(loop, run, "gate", "running"), "kept" if state.champion else "rejected", verdict.summary
            )
        versions.change(loop, version, status=status)
        return _outcome(signal, version, "done", verdict.summary)
    held = _why_held(loop, folder, version, state)
    if held:
        if run:
            runs.move(loop, run, "gate", "waiting", f"{verdict.summary}; {held}")
        versions.change(loop, version, status="awaiting_approval")
        return _outcome(signal, version, "nothing", f"{verdict.summary}; {held}")
    if run:
        runs.move(loop, run, "gate", "running", verdict.summary)
    cause = "approval" if version.approved_at else "gate"
    approved = [f"approved by {version.approved_by}"] if version.approved_at else []
    begun = rollouts.begin(loop, folder, version, cause=cause, asked_at=version.approved_at)
    said = [verdict.summary, *approved, begun]
    if version.evaluation and version.evaluation.compiled:
        said.append(version.evaluation.compiled.sentence())
    return _outcome(signal, version, "done", "; ".join(said))


def _why_held(loop: Loop, folder: PipelineFolder, version: Version, state: PipelineState) -> str:
    approved = version.approved_at
    if state.pinned and (approved is None or operator_requests.stale(loop, approved, state.asked_at)):
        return f"version {state.pinned} is pinned: approve this one by hand, or unpin"
    if state.frozen:
        return f"{folder.pipeline.name} is frozen: approve this version by hand after the freeze"
    if approved:
        return ""
    if folder.pipeline.gate.approval == "manual":
        return "approval is manual: waits for landfall approve"
    return ""


def _fail(signal: EvaluationFinished, loop: Loop, version: Version, reason: str) -> Outcome:
    if version.run:
        runs.end(loop, runs.read(loop, version.pipeline, version.run), "failed", reason)
    versions.change(loop, version, status="rejected")
    return _outcome(signal, version, "failed", reason)


def _outcome(signal: EvaluationFinished, version: Version, outcome: str, reason: str) -> Outcome:
    return Outcome(
        pipeline=signal.pipeline,
        what="gate",
        outcome=outcome,
        reason=reason,
        subjects=(f"{signal.pipeline}:{version.version}", *([version.run] if version.run else [])),
    )
