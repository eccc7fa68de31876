"""What `landfall doctor` does: examine, and show each finding with its cure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from landfall.doctor.finding import Finding
from landfall.doctor.table import of_azure, of_faults, of_laptop
from landfall.setup.table import check_settings
from shared import settings
from shared.errors import ConfigurationError

WELL, ILL = 0, 1
SIGNS = {
    "ok": "[green]ok[/]     ",
    "wrong": "[red]wrong[/]  ",
    "unknown": "[yellow]unknown[/]",
    "skipped": "[dim]skipped[/]",
}
FINE = ("ok", "skipped")
MOST_NAMES = 5
INDENT = "\n        "


def run(*, as_json: bool) -> int:
    """Examine what the environment's settings name. Returns 0 when all is well, 1 otherwise."""
    found = findings()
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        _show(found)
    return WELL if all(finding.state in FINE for finding in found) else ILL


def findings() -> list[Finding]:
    """Everything that is found; faults of the settings are findings, too."""
    try:
        loaded = settings.load(for_setup=True)
        if loaded.backend != "azure":
            return of_laptop(loaded)
        check_settings(loaded)
    except ConfigurationError as error:
        return of_faults(error)
    return of_azure(loaded)


def _alike(found: Sequence[Finding]) -> list[list[Finding]]:
    """The findings, those that are to be mended in one and the same way together at the place of the first."""
    groups: dict[object, list[Finding]] = {}
    for number, finding in enumerate(found):
        same = number if finding.state in FINE else (finding.state, finding.what, finding.cure)
        groups.setdefault(same, []).append(finding)
    return list(groups.values())


def _show(found: Sequence[Finding]) -> None:
    from rich.markup import escape

    from landfall.show import console

    for alike in _alike(found):
        first, names = alike[0], [f"{finding.check} {finding.subject}" for finding in alike]
        more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
        lines = [*names[:MOST_NAMES], *more, first.what] if len(names) > 1 else [f"{names[0]}: {first.what}"]
        console.print(f"{SIGNS[first.state]} {escape(INDENT.join(lines))}", soft_wrap=True)
        if first.state not in FINE:
            console.print(f"        {escape(first.cure)}", soft_wrap=True)
    ill = sum(finding.state not in FINE for finding in found)
    console.print(f"\n{len(found)} looked at, {ill} to mend" if ill else f"\nAll {len(found)} are well.")
