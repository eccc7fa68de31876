"""A model version appeared in the registry: measure it against the champion."""

from __future__ import annotations

from shared import evaluation, runs, versions
from shared.decisions import Outcome
from shared.domain.ledger import Run, Version
from shared.domain.signals import ModelRegistered
from shared.loop import Loop


def react(signal: ModelRegistered, loop: Loop) -> Outcome:
    """Enter the version into the ledger and submit its evaluation."""
    subject = f"{signal.model}:{signal.version}"
    if signal.model not in loop.catalog.names():
        return Outcome(
            pipeline="",
            what="model registered",
            outcome="nothing",
            reason=f"no pipeline has the model {signal.model}",
            subjects=(subject,),
        )
    folder = loop.catalog.get(signal.model)
    registered = loop.ports.registry.get(signal.model, signal.version)
    if registered is None:
        return _outcome(signal, "nothing", "the registry has no such version (any more)", subject)
    run = loop.ports.ledger.read(Run, signal.model, registered.run) if registered.run else None
    entry = Version(
        pipeline=signal.model,
        version=signal.version,
        status="registered",
        registered_at=registered.created_at,
        run=registered.run if run else "",
        features=run.features if run else "",
        signature=registered.signature,
    )
    version = versions.enter(loop, entry)
    if version.status not in versions.OPEN:
        return _outcome(signal, "nothing", f"the version is already {version.status}", subject)
    if run and not run.version:
        run = runs.move(
            loop, run, "evaluation", "waiting", f"registered as version {signal.version}", version=signal.version
        )
    loop.ports.registry.set_alias(signal.model, "challenger", signal.version)
    said = evaluation.begin(loop, folder, version)
    rejected = versions.read(loop, signal.model, signal.version).status == "rejected"
    return _outcome(signal, "rejected" if rejected else "done", said, subject, *([run.id] if run else []))


def _outcome(signal: ModelRegistered, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(pipeline=signal.model, what="model registered", outcome=outcome, reason=reason, subjects=subjects)
