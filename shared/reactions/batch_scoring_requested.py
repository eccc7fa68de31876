"""A file of the lake is to be scored with the champion."""

from __future__ import annotations

import hashlib

from shared import runs
from shared.domain.ledger import Version
from shared.domain.signals import BatchScoringRequested
from shared.errors import Rejected
from shared.loop import Loop
from shared.ports.batch_service import BatchScoringJob
from shared.runs import Outcome


def job_name(pipeline: str, version: str, partition: str) -> str:
    """The name of a batch scoring job: one for each partition and model version."""
    digest = hashlib.sha256(partition.encode()).hexdigest()[:12]
    return f"{pipeline}-score-{version}-{digest}"


def react(signal: BatchScoringRequested, loop: Loop) -> Outcome:
    """Submit the batch scoring job; the same partition and version meet the first job."""
    pipeline = loop.catalog.get(signal.pipeline).pipeline
    champion = runs.state_of(loop, signal.pipeline).champion
    if not champion:
        raise Rejected(f"{signal.pipeline} has no champion yet: land data first")
    if not signal.input.endswith("/") and loop.ports.lake.stat(signal.input) is None:
        raise Rejected(f"there is no file {signal.input} in the lake")
    version = loop.ports.ledger.read(Version, signal.pipeline, champion)
    job = BatchScoringJob(
        name=job_name(signal.pipeline, champion, signal.partition or f"{signal.input}>{signal.output}"),
        pipeline=signal.pipeline,
        model=signal.pipeline,
        version=champion,
        input=signal.input,
        output=signal.output,
        key=pipeline.features.key,
        label=pipeline.features.label,
        positive=pipeline.gate.positive,
        features=version.features if version else "",
    )
    loop.ports.batch.submit(job)
    return Outcome(
        pipeline=signal.pipeline,
        what="batch scoring",
        reason=f"job {job.name} scores {signal.input} with version {champion} into {signal.output}",
        subjects=(signal.input, signal.output, f"{signal.pipeline}:{champion}"),
    )
