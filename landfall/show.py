"""Tables and words for people."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.domain.compiled import Compiled
from shared.domain.durations import in_words
from shared.domain.records import from_record

WIDTH = 110
"""Columns where the output is no terminal: a log, a pipe, a file."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
problems = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)

COLOURS = {
    "succeeded": "green", "done": "green", "kept": "cyan", "running": "yellow", "waiting": "yellow", "failed": "red",
    "rejected": "red", "rolled_back": "magenta", "superseded": "dim", "nothing": "dim", "alarm": "magenta",
    "none": "green", "drift": "red", "hurt": "red",
}  # fmt: skip


def coloured(word: str) -> str:
    """A status in its colour."""
    colour = COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else word


def when(at: str | datetime | None) -> str:
    """A time of day in UTC, with its date when that is not today."""
    if not at:
        return ""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    today = datetime.now(moment.tzinfo).date()
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"


def status_table(status: dict[str, Any]) -> Table:
    """One row a pipeline."""
    columns = ("pipeline", "champion", "traffic", "last run", "drift", "performance")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in status["pipelines"]:
        champion = row["champion"]
        run = row["last_run"]
        flags = [flag for flag in ("frozen",) if row[flag]] + ([f"pinned {row['pinned']}"] if row["pinned"] else [])
        flags += [f"has faults, goes on as defined {when(row['as_of'])}"] if row["as_of"] else []
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in _first(champion["metrics"] if champion else {}))
        table.add_row(
            row["name"] + (f" [magenta]({', '.join(flags)})[/]" if flags else ""),
            f"v{champion['version']} ({metrics})" if champion else "[dim]none yet[/]",
            ", ".join(
                [f"{name} {share} %" for name, share in row["traffic"].items()]
                + [f"copies of {share} % to {name}" for name, share in row["mirror"].items()]
            )
            or "[dim]-[/]",
            f"{run['id']} {coloured(run['status'])}"
            + (f" in {run['stage']}" if run["status"] in ("running", "waiting") else "")
            if run
            else "[dim]-[/]",
            coloured(row["drift"]["status"]),
            _performance(row["performance"]),
        )
    return table


def _performance(found: dict[str, Any]) -> str:
    """What it is held to be, and what it was where labels have landed."""
    estimated, realised = found["estimated"], found["realised"]
    said = []
    if estimated:
        said.append(f"{estimated['metric']} estimated {_hurt(estimated)}")
    if realised:
        late = in_words(timedelta(seconds=realised["late"]))
        said.append(f"{realised['metric']} realised {_hurt(realised)} ({realised['rows']:,} labels, {late} late)")
    return ", ".join(said) or "[dim]-[/]"


def _hurt(found: dict[str, Any]) -> str:
    return f"[{'red' if found['hurt'] else 'green'}]{found['value']:.3f}[/]"


def runs_table(rows: list[dict[str, Any]]) -> Table:
    """One row a run, newest first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", no_wrap=True)
    for name in ("cause", "stage", "status", "version", "began", "why"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            row["id"],
            row["cause"],
            row["stage"],
            coloured(row["status"]),
            row["version"],
            when(row["created_at"]),
            escape(row["reason"]),
        )
    return table


def decisions_table(rows: list[dict[str, Any]]) -> Table:
    """One row a decision, oldest first."""
    table = Table("when", "what", "outcome", "why", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(when(row["at"]), row["what"], coloured(row["outcome"]), escape(row["reason"]))
    return table


def print_run(run: dict[str, Any]) -> None:
    """A run's story, its gate and the end of its log."""
    console.print(
        f"[bold]{run['id']}[/]  {coloured(run['status'])} in {run['stage']}, cause {run['cause']}: "
        f"{escape(run['reason'])}\n"
    )
    table = Table("when", "stage", "status", "note", box=None, header_style="bold", pad_edge=False)
    for step in run["steps"]:
        table.add_row(when(step["at"]), step["stage"], coloured(step["status"]), escape(step["note"]))
    console.print(table)
    verdict = (run["model"] or {}).get("verdict")
    if verdict:
        console.print(f"\n[bold]gate[/]  {escape(verdict['summary'])}")
        for rule in verdict["rules"]:
            console.print(
                f"  {'[green]yes[/]' if rule['passed'] else '[red]no [/]'}  {rule['name']}: {escape(rule['text'])}"
            )
    compiled = ((run["model"] or {}).get("evaluation") or {}).get("compiled")
    if compiled:
        console.print(f"\n[bold]model[/]  {escape(from_record(Compiled, compiled).sentence())}")
    if run["log"]:
        console.print("\n[bold]end of the log[/]")
        for line in run["log"][-10:]:
            console.print(f"  {line}", markup=False)
    if run["decisions"]:
        console.print("\n[bold]decisions[/]")
        console.print(decisions_table(run["decisions"]))


def _first(metrics: dict[str, float]) -> list[tuple[str, float]]:
    return list(metrics.items())[:2]
