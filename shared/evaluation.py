"""The comparison of a challenger with the champion, as a job on the challenger's held-out rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

from shared import pipeline_states, runs, versions
from shared.definitions.catalog import PipelineFolder
from shared.domain import compiled
from shared.domain.ledger import Run, Version
from shared.domain.records import to_record
from shared.errors import Missing, Rejected
from shared.features import manifests
from shared.loop import Loop
from shared.ports.training_service import CommandJob
from shared.settings import ROOT

OUTPUT = "evaluation"
TIMEOUT = timedelta(hours=1)


def job_name(version: Version, champion: str) -> str:
    """The name of the job that compares a version with a champion (empty: none)."""
    run = version.run or f"{version.pipeline}-hand"
    against = f"-against-{champion}" if champion else ""
    return f"{run}-evaluate-{version.version}{against}"


def begin(loop: Loop, folder: PipelineFolder, version: Version) -> str:
    """Submit the evaluation of a version against the present champion, or let it wait while a rollout is under way.

    Returns what was done, in words. A version that cannot be evaluated, for one because there are no
    prepared features to evaluate it on, is rejected.
    """
    name = folder.pipeline.name
    run = loop.ports.ledger.read(Run, name, version.run) if version.run else None
    rollout = pipeline_states.read(loop, name).rollout
    if rollout:
        version = versions.change(loop, version, only_if=_as(version), status="waiting")
        if version.status != "waiting":
            return f"version {version.version} is already {version.status}"
        if run:
            runs.move(loop, run, "evaluation", "waiting", f"until rollout {rollout} has ended")
        # It may have ended before this version was seen to wait.
        if pipeline_states.read(loop, name).rollout:
            return f"waits until rollout {rollout} has ended"
    if folder.faults:
        # Reconcile, which measures what is open, goes on once they are mended.
        reason = f"until the faults of pipeline {name} are mended, see landfall check"
        if run:
            runs.move(loop, run, "evaluation", "waiting", reason, only_if=lambda r: r.stage == "evaluation")
        return f"version {version.version} waits {reason}"
    champion = pipeline_states.read(loop, name).champion
    try:
        job, rows = _job(loop, folder, version, champion)
        # Entered first: the job may end, and say so, before this process has come any further.
        changed = versions.change(loop, version, only_if=_as(version), status="evaluating", job=job.name)
        if (changed.status, changed.job) != ("evaluating", job.name):
            return f"version {version.version} is already {changed.status}"
        against = f"champion {champion}" if champion else "the gate's floors (there is no champion yet)"
        if run:
            runs.move(loop, run, "evaluation", "running", f"version {version.version} against {against}", job=job.name)
        loop.ports.training.submit(job)
    except Rejected as error:
        reason = f"version {version.version} cannot be evaluated: {error}"
        if run:
            runs.end(loop, run, "failed", reason)
        versions.change(loop, version, status="rejected")
        return reason
    return f"version {version.version} is measured against {against} on {rows:,} held-out rows"


def _as(version: Version) -> Callable[[Version], bool]:
    """Whether nobody else has gone on with the version since it was read."""
    return lambda present: (present.status, present.job) == (version.status, version.job)


def _job(loop: Loop, folder: PipelineFolder, version: Version, champion: str) -> tuple[CommandJob, int]:
    """The evaluation job, and how many held-out rows it works on."""
    pipeline = folder.pipeline
    manifest = manifests.read(loop.ports.lake, manifests.place(_features(loop, version)))
    settings = compiled.place(version.pipeline, version.version, "pipeline.json")
    loop.ports.lake.write(settings, json.dumps(to_record(pipeline)).encode())
    inputs = {
        "challenger": f"model:{pipeline.name}:{version.version}",
        "test": manifest.test,
        "pipeline": settings,
    }
    if champion and champion != version.version:
        inputs["champion"] = f"model:{pipeline.name}:{champion}"
    arguments = " ".join(f"--{name} ${{{{inputs.{name}}}}}" for name in inputs)
    job = CommandJob(
        name=job_name(version, champion),
        experiment=pipeline.name,
        code=ROOT,
        command=f"python -m shared.jobs.evaluate {arguments} --output ${{{{outputs.{OUTPUT}}}}}",
        timeout=TIMEOUT,
        environment=str(folder.folder / pipeline.training.environment),
        image=pipeline.training.image,
        compute=pipeline.training.compute,
        inputs=inputs,
        outputs={OUTPUT: "uri_folder"},
        tags={
            "landfall.pipeline": pipeline.name,
            "landfall.run": version.run,
            "landfall.step": "evaluate",
            "landfall.version": version.version,
        },
    )
    return job, manifest.test_rows


def next_waiting(loop: Loop, folder: PipelineFolder) -> None:
    """A rollout has ended: evaluate the newest version that waits, and those that a person has approved; supersede
    the other ones."""
    name = folder.pipeline.name
    listed = pipeline_states.read(loop, name).open_versions
    found = (loop.ports.ledger.read(Version, name, version) for version in sorted(listed, key=int))
    waiting = [version for version in found if version and version.status == "waiting"]
    newest = waiting[-1:]
    for older in waiting[:-1]:
        if older.approved_at:
            newest.insert(-1, older)
            continue
        if older.run:
            reason = f"version {waiting[-1].version} is newer and is evaluated in its place"
            runs.end(loop, runs.read(loop, name, older.run), "superseded", reason)
        versions.change(loop, older, status="superseded")
    for version in newest:
        begin(loop, folder, version)


def _features(loop: Loop, version: Version) -> str:
    if version.features:
        return version.features
    state = pipeline_states.read(loop, version.pipeline)
    if not state.champion:
        raise Rejected(
            f"version {version.version} of {version.pipeline} was registered by hand and there are no prepared "
            f"features to evaluate it on; land data for {version.pipeline} first"
        )
    champion = loop.ports.ledger.read(Version, version.pipeline, state.champion)
    if champion is None or not champion.features:
        raise Missing(f"the ledger does not know the features of champion {state.champion} of {version.pipeline}")
    return champion.features
