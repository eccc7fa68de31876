"""A file of the lake is to be scored with the champion."""

from __future__ import annotations

import hashlib

from shared import pipeline_states
from shared.decisions import Outcome
from shared.definitions.pipeline_rules import within
from shared.domain.landing import OWN_FOLDERS
from shared.domain.ledger import ScoredFile, Version, path_key
from shared.domain.signals import BatchScoringRequested
from shared.errors import Refused, Rejected
from shared.loop import Loop
from shared.ports.batch_service import BatchScoringJob
from shared.ports.lake import check_path

ATTEMPTS = 20
"""How often a partition may be scored with one version until a job of it completes."""


def job_name(pipeline: str, version: str, partition: str) -> str:
    """The name of the first batch scoring job for a partition and model version."""
    digest = hashlib.sha256(partition.encode()).hexdigest()[:12]
    return f"{pipeline}-score-{version}-{digest}"


def react(signal: BatchScoringRequested, loop: Loop) -> Outcome:
    """Submit the batch scoring job; the same partition and version meet the first job, unless it failed."""
    job = plan(
        loop, signal.pipeline, signal.input, signal.output, signal.partition, query=signal.query, table=signal.table
    )
    loop.ports.batch.submit(job)
    return Outcome(
        pipeline=signal.pipeline,
        what="batch scoring",
        reason=f"job {job.name} scores {job.input} with version {job.version} into {job.output}",
        subjects=(job.input, job.output, f"{job.pipeline}:{job.version}"),
    )


def refuse_what_cannot_be(signal: BatchScoringRequested, backend: str) -> None:
    """Raises Rejected for a request that no state of the loop can make right, before it is put on the queue."""
    if not signal.output:
        raise Rejected("field 'output' is empty: name the file of the lake that the predictions go to")
    if backend == "local" and (signal.query or signal.table):
        raise Rejected("a laptop has no SQL pool; score a file of the lake without query and table")
    if not signal.input and not signal.query:
        raise Rejected("field 'input' is empty: name the file of the lake that has the rows")


def plan(
    loop: Loop, name: str, source: str, target: str, partition: str = "", *, query: str = "", table: str = ""
) -> BatchScoringJob:
    """The job that scores lake file ``source`` with the champion into ``target``.

    It is the one for this partition and version that has not failed: what failed may be asked for again.
    Raises Rejected when there is no champion or no such file, or when the output would be where the loop itself
    writes, where data land, or over a file that no batch scoring wrote.
    """
    pipeline = loop.catalog.get(name).pipeline
    champion = pipeline_states.read(loop, name).champion
    if not champion:
        raise Rejected(f"{name} has no champion yet: land data first")
    if not query and not source.endswith("/") and loop.ports.lake.stat(source) is None:
        raise Rejected(f"there is no file {source} in the lake")
    _take_place(loop, name, target)
    version = loop.ports.ledger.read(Version, name, champion)
    return BatchScoringJob(
        name=_not_failed(loop, job_name(name, champion, partition or _said(query, source, target, table))),
        pipeline=name,
        model=name,
        version=champion,
        input=source,
        output=target,
        key=pipeline.features.key,
        label=pipeline.features.label,
        positive=pipeline.gate.positive,
        features=version.features if version else "",
        compute=pipeline.training.compute,
        query=query,
        table=table,
    )


def _take_place(loop: Loop, pipeline: str, target: str) -> None:
    """Note that batch scoring writes ``target``, so that it may do so again."""
    check_path(target)
    top, *below = target.split("/")
    if top in OWN_FOLDERS and not (top == "scoring" and below[:1] == [pipeline]):
        raise Rejected(f"the output {target} is below {top}/, where Landfall itself writes; name another place")
    for folder in loop.catalog.live():
        if within(target, folder.pipeline.landing.path):
            owner = folder.pipeline.name
            raise Rejected(
                f"the output {target} would land as data of {owner}; name a place outside its landing folder"
            )
    known = loop.ports.ledger.read(ScoredFile, path_key(target), "scored")
    if known is None and loop.ports.lake.stat(target):
        raise Rejected(f"the output {target} is there already, and no batch scoring wrote it; name another place")
    wanted = ScoredFile(path=target, pipeline=pipeline)
    loop.ports.ledger.update(ScoredFile, wanted.partition, wanted.key, lambda present: present or wanted)


def _said(*request: str) -> str:
    return ">".join(filter(None, request))


def _not_failed(loop: Loop, first: str) -> str:
    reason = ""
    for name in (first, *(f"{first}-{attempt}" for attempt in range(2, ATTEMPTS + 1))):
        status = loop.ports.batch.status(name)
        if status is None or status.state not in ("failed", "cancelled"):
            return name
        reason = status.reason
    raise Refused(f"batch scoring {first} has failed {ATTEMPTS} times, the last time because {reason}")
