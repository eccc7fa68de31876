"""Everything that setup sees to is as it should be: roles, filters of subscriptions, pool, cluster, artifacts."""

from __future__ import annotations

from collections.abc import Iterator

from landfall.doctor.finding import Check, Finding
from landfall.setup.plan import Step, look
from landfall.setup.resource import Resource
from shared.adapters.azure.workspace import ARM
from shared.definitions.catalog import Catalog

SETUP = "Run landfall setup to see the whole difference, and landfall setup --apply to mend it."
UNSEEN = "Let who runs doctor read it: it needs the role Reader on the resource group, and for Synapse a Synapse role."


def as_set_up(resource: Resource) -> Check:
    """The difference that setup would mend."""

    def compare() -> Iterator[Finding]:
        step = look(resource)
        if step.action == "same":
            yield check.ok(step.reason or "as it should be")
            return
        if step.action == "unknown":
            yield Finding(check=check.name, subject=check.subject, state="unknown", what=step.reason, cure=UNSEEN)
        else:
            yield check.wrong(_what(step), SETUP)

    check = Check(name=resource.kind, subject=resource.name, look=compare, audience=ARM)
    return check


def landing_paths(catalog: Catalog, folder: str) -> Check:
    """Every pipeline's files land where events are subscribed to."""

    def compare() -> Iterator[Finding]:
        for pipeline in (found.pipeline for found in catalog.all()):
            if f"{pipeline.landing.path.strip('/')}/".startswith(folder):
                yield check.ok(f"{pipeline.name} lands in {pipeline.landing.path}")
                continue
            what = f"{pipeline.name} lands in {pipeline.landing.path}, of which no event tells"
            yield check.wrong(what, f"Give it a landing.path below {folder} in its pipeline.yaml.")

    check = Check(name="landing", subject=folder, look=compare)
    return check


def _what(step: Step) -> str:
    if step.reason:
        return step.reason
    if step.action == "create":
        return "it does not exist"
    return "; ".join(f"{c.field} is {c.there!r} and should be {c.wanted!r}" for c in step.changes)
