"""The plan and its outcome, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from landfall.setup.plan import Outcome, Step
from landfall.setup.resource import ABSENT

LONGEST = 160
"""Characters of a value that people are shown; JSON has all of it."""
FEW = 12
SIGNS = {"create": "[green]+[/]", "change": "[yellow]~[/]", "same": " ", "waits": "[cyan]…[/]", "unknown": "[red]?[/]"}


def lines(steps: Sequence[Step]) -> list[str]:
    """A line for each step that is more than a look, below it each changed field, and a line that counts."""
    from rich.markup import escape

    said = []
    for step in steps:
        if step.action == "same":
            continue
        why = f": {escape(step.reason)}" if step.reason else ""
        said.append(f"{SIGNS[step.action]} {step.action:7} {step.resource.kind} {escape(step.resource.name)}{why}")
        # What is new and has many fields is described well enough by its name.
        for change in step.changes if step.action == "change" or len(step.changes) <= FEW else ():
            there = "" if step.action == "create" else f"{escape(_short(change.there))} → "
            said.append(f"            {change.field}: {there}{escape(_short(change.wanted))}")
    return [*said, summary(steps)]


def summary(steps: Sequence[Step]) -> str:
    """How many steps there are of each kind, in a line."""
    counts = {action: sum(step.action == action for step in steps) for action in SIGNS}
    if counts["same"] == len(steps):
        return f"Nothing to do: all {len(steps)} are as they should be."
    words = {
        "create": "to create",
        "change": "to change",
        "same": "as they should be",
        "waits": "wait for another",
        "unknown": "could not be looked at",
    }
    return ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)


def outcome_line(outcome: Outcome) -> str:
    """What became of a step; empty for one that had nothing to do."""
    from rich.markup import escape

    step = outcome.step
    what = f"{step.resource.kind} {escape(step.resource.name)}"
    if outcome.problem:
        return f"[red]failed[/]  {what}: {escape(outcome.problem)}"
    done = {"create": "created", "change": "changed"}.get(step.action)
    return f"[green]{done}[/] {what}" if done else ""


def records(steps: Sequence[Step], outcomes: Sequence[Outcome] = ()) -> list[dict[str, Any]]:
    """The same as JSON; with outcomes each step tells whether it is ``done`` and its ``problem``."""
    became = {id(outcome.step.resource): outcome for outcome in outcomes}
    made = []
    for step in steps:
        record: dict[str, Any] = {
            "kind": step.resource.kind,
            "name": step.resource.name,
            "action": step.action,
            "changes": [
                {"field": c.field, "there": None if c.there == ABSENT else c.there, "wanted": c.wanted}
                for c in step.changes
            ],
            "reason": step.reason,
        }
        if outcome := became.get(id(step.resource)):
            record |= {"done": not outcome.problem, "problem": outcome.problem}
        made.append(record)
    return made


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
