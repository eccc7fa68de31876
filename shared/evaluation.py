"""The comparison of a challenger with the champion, as a job on the challenger's held-out rows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from shared import preparation, runs
from shared.catalog import PipelineFolder
from shared.domain.ledger import Run, Version
from shared.domain.records import to_record
from shared.errors import Missing, Rejected
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


def artifact(version: Version, file: str) -> str:
    """The lake path where a file about a version is kept."""
    return f"models/{version.pipeline}/{version.version}/{file}"


def read_version(loop: Loop, pipeline: str, version: str) -> Version:
    """What the ledger knows of a version. Raises Missing when it knows nothing."""
    entry = loop.ports.ledger.read(Version, pipeline, version)
    if entry is None:
        known = ", ".join(v.version for v in loop.ports.ledger.list(Version, pipeline)) or "none"
        raise Missing(f"{pipeline} has no version {version}; known: {known}")
    return entry


def change_version(loop: Loop, version: Version, **changes: object) -> Version:
    """Set fields of a version's entry whatever they were."""
    return loop.ports.ledger.update(
        Version,
        version.pipeline,
        version.version,
        lambda v: replace(v or version, **changes),  # type: ignore[arg-type]
    )


def begin(loop: Loop, folder: PipelineFolder, version: Version) -> str:
    """Submit the evaluation of a version against the present champion, or let it wait while a rollout is under way.

    Older versions that wait are superseded: the newest is what the data say now. Returns what was
    done, in words. Raises Rejected when there are no prepared features to evaluate on.
    """
    pipeline = folder.pipeline
    state = runs.state_of(loop, pipeline.name)
    run = loop.ports.ledger.read(Run, pipeline.name, version.run) if version.run else None
    if state.rollout:
        change_version(loop, version, status="waiting")
        if run:
            runs.move(loop, run, "evaluation", "waiting", f"until rollout {state.rollout} has ended")
        return f"waits until rollout {state.rollout} has ended"
    manifest = preparation.read_manifest(loop, _features(loop, version))
    lake = loop.ports.lake
    lake.write(artifact(version, "pipeline.json"), json.dumps(to_record(pipeline)).encode())
    inputs = {
        "challenger": f"model:{pipeline.name}:{version.version}",
        "test": manifest.test,
        "pipeline": artifact(version, "pipeline.json"),
    }
    if state.champion and state.champion != version.version:
        inputs["champion"] = f"model:{pipeline.name}:{state.champion}"
    arguments = " ".join(f"--{name} ${{{{inputs.{name}}}}}" for name in inputs)
    job = CommandJob(
        name=job_name(version, state.champion),
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
    # Entered first: the job may end, and say so, before this process has come any further.
    change_version(loop, version, status="evaluating", job=job.name)
    against = f"champion {state.champion}" if state.champion else "the gate's floors (there is no champion yet)"
    if run:
        runs.move(loop, run, "evaluation", "running", f"version {version.version} against {against}", job=job.name)
    loop.ports.training.submit(job)
    return f"version {version.version} is measured against {against} on {manifest.test_rows:,} held-out rows"


def next_waiting(loop: Loop, folder: PipelineFolder) -> None:
    """A rollout has ended: evaluate the newest version that waits, supersede the older ones."""
    waiting = sorted(
        (v for v in loop.ports.ledger.list(Version, folder.pipeline.name) if v.status == "waiting"),
        key=lambda v: int(v.version),
    )
    for older in waiting[:-1]:
        change_version(loop, older, status="superseded")
        if older.run:
            reason = f"version {waiting[-1].version} is newer and is evaluated in its place"
            runs.end(loop, runs.read(loop, folder.pipeline.name, older.run), "superseded", reason)
    if waiting:
        begin(loop, folder, waiting[-1])


def _features(loop: Loop, version: Version) -> str:
    if version.features:
        return version.features
    state = runs.state_of(loop, version.pipeline)
    if not state.champion:
        raise Rejected(
            f"version {version.version} of {version.pipeline} was registered by hand and there are no prepared "
            f"features to evaluate it on; land data for {version.pipeline} first"
        )
    champion = loop.ports.ledger.read(Version, version.pipeline, state.champion)
    if champion is None or not champion.features:
        raise Missing(f"the ledger does not know the features of champion {state.champion} of {version.pipeline}")
    return champion.features
