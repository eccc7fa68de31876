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


def _show(found: Sequence[Finding]) -> None:
    from rich.markup import escape

    from landfall.show import console

    for finding in found:
        said = f"{SIGNS[finding.state]} {finding.check} {escape(finding.subject)}: {escape(finding.what)}"
        console.print(said, soft_wrap=True)
        if finding.state not in FINE:
            console.print(f"        {escape(finding.cure)}", soft_wrap=True)
    ill = sum(finding.state not in FINE for finding in found)
    console.print(f"\n{len(found)} looked at, {ill} to mend" if ill else f"\nAll {len(found)} are well.")
