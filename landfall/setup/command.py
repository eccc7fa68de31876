"""What `landfall setup` does: show the plan, and carry it out when that is asked for."""

from __future__ import annotations

import sys

from landfall.setup.estate import Estate
from landfall.setup.plan import Outcome, apply, plan
from landfall.setup.show import lines, outcome_line, records
from landfall.setup.table import resources
from shared.adapters.azure.workspace import ARM
from shared.errors import Forbidden
from shared.settings import Settings

DONE, FAILED, PENDING = 0, 1, 5
"""Exit codes: nothing (more) to do; something could not be looked at or made; changes are waiting for --apply."""


def run(settings: Settings, *, apply_it: bool, as_json: bool) -> int:
    """Plan, and apply when told to or when somebody at the terminal agrees. Returns the exit code.

    Raises ConfigurationError when the settings are none of an app on Azure, and Forbidden when nobody is signed in.
    """
    from landfall.show import console

    estate = Estate(settings)
    wanted = resources(settings, estate)
    _signed_in(estate)
    steps = plan(wanted)
    unseen = any(step.action == "unknown" for step in steps)
    pending = any(step.action in ("create", "change", "waits") for step in steps)
    if not as_json:
        for line in lines(steps):
            console.print(line, soft_wrap=True)
    if pending and not apply_it and not as_json and sys.stdin.isatty():
        import typer

        apply_it = typer.confirm("Apply?")
    if not pending or not apply_it:
        if as_json:
            _print(records(steps))
        elif pending:
            console.print("Nothing was changed: landfall setup --apply does it.")
        return FAILED if unseen else PENDING if pending else DONE

    def say(outcome: Outcome) -> None:
        if not as_json and (line := outcome_line(outcome)):
            console.print(line, soft_wrap=True)

    outcomes = apply(wanted, say)
    if as_json:
        _print(records([outcome.step for outcome in outcomes], outcomes))
    return FAILED if any(outcome.problem for outcome in outcomes) else DONE


def _signed_in(estate: Estate) -> None:
    try:
        estate.workspace.token(ARM)
    except Forbidden as error:
        raise Forbidden(f"nobody is signed in to Azure on this machine: az login, then again ({error})") from error


def _print(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))
