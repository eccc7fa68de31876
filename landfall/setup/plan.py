"""What is to be done so that everything is as it should be, and the doing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from landfall.setup.resource import Change, NotWanted, Resource, differences
from shared.errors import LandfallError, Missing

Action = Literal["create", "change", "same", "waits", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is to be done with one resource.

    It waits when something else has to be there first; it is unknown when Azure did not let us look, for the
    ``reason``. Of a creation ``changes`` has what will be there.
    """

    resource: Resource
    action: Action
    changes: tuple[Change, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a step: ``problem`` is empty when it is done, or was never to be done."""

    step: Step
    problem: str = ""


def plan(resources: Iterable[Resource]) -> list[Step]:
    """A step for every resource. What cannot be looked at hides nothing else."""
    return [look(resource) for resource in resources]


def look(resource: Resource) -> Step:
    """The step of one resource, from what is there now."""
    try:
        wanted = resource.desired()
    except NotWanted as reason:
        return Step(resource=resource, action="same", reason=str(reason))
    except Missing as error:
        return Step(resource=resource, action="waits", reason=str(error))
    except LandfallError as error:
        return Step(resource=resource, action="unknown", reason=str(error))
    try:
        there = resource.actual()
    except LandfallError as error:
        return Step(resource=resource, action="unknown", reason=str(error))
    changes = differences(there, wanted)
    action: Action = "create" if there is None else "change" if changes else "same"
    return Step(resource=resource, action=action, changes=changes)


def apply(resources: Sequence[Resource], said: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Do what is to be done, in the order given, and tell ``said`` of each as it is done.

    Every resource is looked at again just before, because one may need what an earlier one made. One that fails
    stops no other.
    """
    outcomes = []
    for resource in resources:
        step = look(resource)
        problem = step.reason if step.action in ("waits", "unknown") else ""
        if step.action in ("create", "change"):
            try:
                resource.apply()
            except LandfallError as error:
                problem = str(error)
        outcomes.append(Outcome(step=step, problem=problem))
        said(outcomes[-1])
    return outcomes
