"""The command line.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 not found, 4 timed out, 5 changes wait.
"""

from __future__ import annotations

import errno
import getpass
import json
import logging
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.errors import ConfigurationError, LandfallError, Missing

app = typer.Typer(
    name="landfall",
    help="Data lands, models ship: the machine-learning loop of a team, on Azure or on this laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
events = typer.Typer(help="Send events, look at dead letters, replay them.", no_args_is_help=True)
app.add_typer(events, name="events")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Pipeline = Annotated[str, typer.Argument(help="Its name, as landfall status shows it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is written into the audit.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"landfall {version('landfall')}")
        raise typer.Exit


REFUSED, USAGE, NOT_FOUND, TIMED_OUT = 1, 2, 3, 4
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says of a disk that is full, or a folder that may only be read."""


@app.callback()
def version_of(
    version: Annotated[
        bool, typer.Option("--version", help="Print Landfall's version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Data lands, models ship: the machine-learning loop of a team, on Azure or on this laptop."""


def main() -> None:
    """Run the command line; what is refused is said in one line on stderr, with an exit code that means something."""
    from rich.markup import escape

    from landfall.show import problems

    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    # What it logs of a missing sign-in is raised, too, and said once.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    try:
        app()
    except ConfigurationError as error:
        for fault in error.faults:
            problems.print(f"[red]{escape(fault.where)}[/]: {escape(f'{fault.what}. {fault.cure}')}")
        sys.exit(USAGE)
    except Missing as error:
        problems.print(f"[red]not found:[/] {escape(str(error))}")
        sys.exit(NOT_FOUND)
    except LandfallError as error:
        problems.print(f"[red]refused:[/] {escape(str(error))}")
        sys.exit(REFUSED)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        where = f"{error.filename} cannot be written" if error.filename else "something cannot be written"
        cure = "Make room and let it be written, or set LANDFALL_HOME to another folder"
        problems.print(f"[red]refused:[/] {escape(f'{where}: {error.strerror}. {cure}')}")
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        problems.print("stopped; what was begun is in the ledger, landfall up goes on with it")
        sys.exit(130)


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2))


@app.command()
def up(
    pace: Annotated[float | None, typer.Option(help="Divide all waiting times by this.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for each function that runs.")] = False,
) -> None:
    """Run the loop on this machine until Ctrl-C: webhook, HTTP functions, timers, queue, and a watch on the lake."""
    from landfall.serve import serve

    serve(pace, verbose)


@app.command()
def page(
    browser: Annotated[bool, typer.Option(help="Open it; else only say which file does.")] = True,
) -> None:
    """Open the page of the loop that landfall up runs, in a browser."""
    from landfall.page import open_page
    from landfall.show import console

    lead = open_page(browser=browser)
    console.print(f"{lead} leads to the page, with the key of this home: open it in a browser", soft_wrap=True)


@app.command()
def demo() -> None:
    """The whole loop on real data in a minute: two versions, drift, retraining, and events that must not count."""
    from landfall.demo import demo as play

    play()


@app.command()
def land(
    pipeline: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    wait: Annotated[bool, typer.Option(help="Follow the run to its end.")] = True,
    as_json: Json = False,
) -> None:
    """Land a file for a pipeline and follow its run."""
    from landfall.landing import land as land_file

    ended = land_file(pipeline, file, wait=wait, quiet=as_json)
    if as_json:
        _print(ended)
    raise typer.Exit(0 if ended["status"] in ("landed", "succeeded", "kept", "running", "waiting") else REFUSED)


@app.command()
def status(as_json: Json = False) -> None:
    """Each pipeline: champion, traffic, last run, drift."""
    from rich.markup import escape

    from landfall.session import open_loop
    from landfall.show import console, problems, status_table
    from shared import status as statuses

    found = statuses.status(open_loop())
    if as_json:
        _print(found)
        return
    console.print(status_table(found))
    for faults in found["faults"].values():
        for fault in faults:
            problems.print(f"[red]{escape(str(fault))}[/]")


@app.command()
def runs(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all by default.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: Json = False,
) -> None:
    """The newest runs."""
    from landfall.session import open_loop
    from landfall.show import console, runs_table
    from shared import history

    loop = open_loop()
    names = [pipeline] if pipeline else loop.catalog.names()
    rows = [row for name in names for row in history.runs_of(loop, name, limit=limit)]
    rows = sorted(rows, key=lambda row: row["created_at"], reverse=True)[:limit]
    _print(rows) if as_json else console.print(runs_table(rows) if rows else "Nothing has run yet: land a file.")


@app.command()
def run(run_id: Annotated[str, typer.Argument(metavar="RUN")], as_json: Json = False) -> None:
    """One run: its stages, the gate's rules, the end of its log, every decision about it."""
    from landfall.session import open_loop
    from landfall.show import print_run
    from shared import history

    loop = open_loop()
    found = history.run(loop, history.find_run(loop, run_id), run_id)
    _print(found) if as_json else print_run(found)


@app.command()
def why(
    subject: Annotated[
        str, typer.Argument(metavar="FILE|MODEL", help="A lake path, run, batch, pipeline, or model:version.")
    ],
    as_json: Json = False,
) -> None:
    """Every decision about a thing, also: nothing happened, because."""
    from landfall.session import open_loop
    from landfall.show import console, decisions_table
    from shared import history

    found = history.why(open_loop(), subject)
    _print(found) if as_json else console.print(decisions_table(found))


@app.command()
def score(
    pipeline: str,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, readable=True, help=".json request, or .csv, .parquet, .jsonl rows."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Write all predictions to this parquet file.")] = None,
    as_json: Json = False,
) -> None:
    """Score rows with the champion: a JSON request like the endpoint's, or a table of any size."""
    from landfall.scoring import score_request, score_table

    if file.suffix == ".json":
        _print(score_request(pipeline, file))
        return
    said = score_table(pipeline, file, out, quiet=as_json)
    if as_json:
        _print(said)


@app.command()
def retrain(pipeline: str, reason: Reason = "", wait: bool = True, as_json: Json = False) -> None:
    """Train again with what has landed so far; the gate decides."""
    from landfall.asking import ask
    from shared.domain.signals import RetrainingDue

    reason = reason or "asked for by hand"
    signal = RetrainingDue(pipeline=pipeline, cause="hand", slot=_request(), reason=reason, by=_me())
    ask(signal, run=f"{pipeline}-m{signal.slot}" if wait else None, as_json=as_json)


@app.command()
def rollback(
    pipeline: str,
    to: Annotated[str, typer.Option(help="A version; the previous one by default.")] = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Put all traffic back to the previous version, or turn a rollout round."""
    from landfall.asking import ask
    from shared.domain.signals import RollbackRequested

    ask(RollbackRequested(pipeline=pipeline, version=to, request=_request(), by=_me(), reason=reason), as_json=as_json)


@app.command()
def pin(
    pipeline: Pipeline,
    version: Annotated[
        str, typer.Argument(help="The version that serves until it is unpinned, such as 3; see landfall runs.")
    ] = "",
    off: Annotated[bool, typer.Option("--off", help="Unpin: the gate decides again.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Keep one version serving, whatever the gate says: its rollout begins now, later ones wait until --off."""
    from landfall.asking import ask
    from shared.domain.signals import PinRequested

    if bool(version) == off:
        raise typer.BadParameter("name a version, or --off to unpin")
    ask(PinRequested(pipeline=pipeline, version=version, request=_request(), by=_me(), reason=reason), as_json=as_json)


@app.command()
def freeze(
    pipeline: str,
    off: Annotated[bool, typer.Option("--off", help="Thaw: take up what waited.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Hold training and rollouts of a pipeline; what lands is recorded."""
    from landfall.asking import ask
    from shared.domain.signals import FreezeRequested

    ask(
        FreezeRequested(pipeline=pipeline, frozen=not off, request=_request(), by=_me(), reason=reason), as_json=as_json
    )


@app.command()
def approve(
    pipeline: Pipeline,
    version: Annotated[str, typer.Argument(help="The version that waits, such as 3; landfall runs shows it.")],
    no: Annotated[bool, typer.Option("--no", help="Turn it down: the champion stays.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let a version that passed the gate roll out, or turn it down, where gate.approval is manual."""
    from landfall.asking import ask
    from shared.domain.signals import ApprovalGiven

    ask(
        ApprovalGiven(pipeline=pipeline, version=version, approved=not no, request=_request(), by=_me(), reason=reason),
        as_json=as_json,
    )


@app.command()
def drift(pipeline: str, as_json: Json = False) -> None:
    """Compare the prediction log up to now with what the champion was trained on."""
    from datetime import UTC, datetime

    from landfall.asking import ask
    from shared.domain.signals import DriftCheckDue

    ask(DriftCheckDue(pipeline=pipeline, slot=datetime.now(UTC), by=_me()), as_json=as_json)


@app.command()
def new(
    name: str,
    data: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, readable=True, help="A table: csv, parquet or jsonl.")
    ],
    label: Annotated[str, typer.Option(help="The column to predict.")],
    key: Annotated[str | None, typer.Option(help="The column that names a row.")] = None,
) -> None:
    """Make a pipeline folder from any table."""
    from rich.markup import escape

    from landfall.scaffold import new as scaffold
    from landfall.show import console, problems
    from shared import settings

    made = scaffold(settings.load().pipelines, name, data, label, key)
    for decision in made.decisions:
        console.print(f"  {decision}", markup=False)
    for warning in made.warnings:
        problems.print(f"  [yellow]warning[/] {escape(warning)}")
    console.print(f"\n{made.folder} is ready. Next: landfall land {name} {data}", markup=False, soft_wrap=True)


@app.command()
def check(
    pipelines: Annotated[list[str] | None, typer.Argument(help="Names; all by default.")] = None,
    spark: Annotated[
        bool, typer.Option("--spark", help="Refuse what Spark may do differently; run both engines on landed data.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="With --spark: this file for landed data."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Everything that can be known of pipelines without running them; with --spark, that both engines agree."""
    from landfall.check import check as check_pipelines
    from landfall.check import check_for_events, check_for_spark, report
    from shared import settings
    from shared.definitions.catalog import Catalog

    loaded = settings.load()
    root = loaded.pipelines
    names = pipelines or Catalog(root).names()
    if data and (not spark or len(names) != 1):
        raise typer.BadParameter("--data is for --spark and one pipeline")
    faults, for_spark, for_events = (
        found(root, names) for found in (check_pipelines, check_for_spark, check_for_events)
    )
    only_on_azure = for_events if spark else for_spark + for_events
    said: list[str] = []
    if spark:
        from landfall.two_engines import compare_all

        faults, compared = compare_all(root, names, data, faults, for_spark)
        said += compared
    if loaded.backend == "azure":
        faults += only_on_azure
    elif only_on_azure:
        said += ["On Azure, where Spark prepares features and events tell what landed, this would be refused, too:"]
        said += [f"  {fault}" for fault in only_on_azure]
    if as_json:
        _print([{"where": f.where, "what": f.what, "cure": f.cure} for f in faults])
    else:
        print("\n".join([*said, report(faults, names)]))
    raise typer.Exit(REFUSED if faults else 0)


@app.command()
def setup(
    apply: Annotated[bool, typer.Option("--apply", help="Make and change what the plan names.")] = False,
    as_json: Json = False,
) -> None:
    """Compare what the loop needs on Azure with what is there, and make it. Exit code 5: changes wait for --apply."""
    from landfall.setup.command import run as run_setup
    from shared import settings

    raise typer.Exit(run_setup(settings.load(for_setup=True), apply_it=apply, as_json=as_json))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Examine this installation, on a laptop or on Azure; each finding with its cure. Exit code 1: some are wrong."""
    from landfall.doctor.command import run as examine

    raise typer.Exit(examine(as_json=as_json))


@events.command("send")
def events_send(
    file: Annotated[typer.FileText, typer.Argument(help="JSON: one event or a list; - for stdin.")],
    function: Annotated[str | None, typer.Option(help="The function to wake; told from the events by default.")] = None,
) -> None:
    """Deliver Event Grid events to the webhook, as Event Grid would."""
    from landfall.events import send

    raise typer.Exit(0 if send(file.read(), function) else REFUSED)


@events.command("dead")
def events_dead(as_json: Json = False) -> None:
    """Dead letters: messages that failed at every attempt, with their errors."""
    from landfall.events import dead

    dead(as_json)


@events.command("replay")
def events_replay(
    letter: Annotated[
        str | None, typer.Argument(help="One dead letter, as landfall events dead shows it; all by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put dead letters back on the queue."""
    from landfall.events import replay

    replay(letter, as_json)


@events.command("forward")
def events_forward(
    url: Annotated[str, typer.Option("--to", help="Where the Functions host answers.")] = "http://localhost:7071",
) -> None:
    """Send the events of this laptop's lake folder and jobs to a Functions host, such as func start, until Ctrl-C."""
    from landfall.forward import forward

    forward(url)


def _request() -> str:
    return uuid.uuid4().hex[:10]


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


if __name__ == "__main__":
    main()
