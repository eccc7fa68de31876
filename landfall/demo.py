"""`landfall demo`: the whole loop on real customers, as it would go over weeks, in about a minute."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.markup import escape
from rich.table import Table

from landfall.follow import follow, run_of_file, settled
from landfall.host import LaptopHost, running
from landfall.session import fresh_app
from landfall.show import coloured, console, status_table
from shared import bootstrap, decisions, history, pipeline_states, settings
from shared import status as statuses
from shared.adapters.local import tracking
from shared.domain.ledger import Decision, DriftCheck, Run
from shared.domain.signals import DriftCheckDue
from shared.errors import Refused
from shared.loop import Loop
from shared.ports.lake import FileInfo

PIPELINE = "customer-churn"
PACE = 240.0
"""Ten minutes of bake time are two and a half seconds."""
VISITED = 750
FIRST = 1500
"""Customers of the first landing: few, so that the model of the second is better beyond doubt."""
LATE = 600
"""Customers whose labels land last, when they have been scored."""
MARK = "demo"
"""A home with this file in it was made by a demo, so the next demo may start it afresh."""
SAMPLE = settings.ROOT / "samples" / "telco_churn.csv"


@dataclass
class Stage:
    """The running loop, and what the demo keeps for its closing table."""

    loop: Loop
    host: LaptopHost
    http: httpx.Client
    rows: list[dict[str, str]]
    began: float = field(default_factory=time.monotonic)
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def tell(self, what: str, outcome: str, why: str) -> None:
        """Remember a line for the closing table."""
        self.told.append((what, outcome, why))


def demo() -> None:
    """Play the loop's whole story and leave its state for ``landfall status``.

    Raises :class:`~shared.errors.Refused` when a host is running in this home.
    """
    loaded = dataclasses.replace(settings.load(), pace=PACE)
    fresh_home(loaded.home)
    with _stage(loaded) as stage:
        console.print(
            f"[bold]Landfall[/] runs its loop here, {PACE:g} times faster than in life "
            f"(a bake time of 10 minutes is {600 / PACE:g} seconds).\n"
        )
        late = [row for row in stage.rows[FIRST:] if _of_one_kind(row)][:LATE]
        _first_landing(stage, stage.rows[:FIRST])
        _second_landing(stage, [row for row in stage.rows[FIRST:] if row not in late])
        _scoring(stage)
        _drifting(stage, late)
        _noise(stage)
        _closing(stage)


def _first_landing(stage: Stage, rows: list[dict[str, str]]) -> None:
    _chapter("1", f"{len(rows):,} of {len(stage.rows):,} real telephone customers land, in two files")
    middle = len(rows) // 2
    infos = [_land(stage, "customers-1.csv", rows[:middle]), _land(stage, "customers-2.csv", rows[middle:])]
    run = _follow(stage, infos[-1])
    stage.tell("two files landed together", f"one batch, run {run.id}", run.reason)


def _second_landing(stage: Stage, rows: list[dict[str, str]]) -> None:
    _chapter("2", f"{len(rows):,} more land: a challenger, the gate, traffic in steps")
    with _visitors(stage):
        run = _follow(stage, _land(stage, "customers-3.csv", rows))
    model = history.run(stage.loop, PIPELINE, run.id)["model"] or {}
    verdict = model.get("verdict") or {"summary": run.reason, "rules": []}
    for rule in verdict["rules"]:
        console.print(
            f"  {'[green]yes[/]' if rule['passed'] else '[red]no [/]'}  {rule['name']}: {escape(rule['text'])}"
        )
    stage.tell("more customers landed", f"run {run.id} {run.status}", verdict["summary"])


def _scoring(stage: Stage) -> None:
    _chapter("3", "three customers are scored by hand, from their raw landed columns")
    records = [_raw(row) for row in stage.rows[:3]]
    answer = _score(stage, {"dataframe_records": records})
    body = answer.json()
    for record, prediction, chances in zip(records, body["predictions"], body["probabilities"], strict=True):
        leaves = chances[body["classes"].index("Yes")]
        console.print(
            f"  {record['customer_id']}, {record['contract'].lower()}, {record['tenure']} months: "
            f"churn [bold]{prediction}[/] ({leaves:.0%}), answered by {body['deployment']}"
        )
    wrong = _score(stage, {"dataframe_records": [{**records[0], "tenure": "two years"}]})
    console.print(f"  a tenure of 'two years': {wrong.status_code}, {escape(wrong.json()['error']['message'])}")
    stage.tell("a request with a wrong value", str(wrong.status_code), wrong.json()["error"]["message"])


def _of_one_kind(row: dict[str, str]) -> bool:
    on_fiber = row["internet_service"] == "Fiber optic" and row["contract"] == "Month-to-month"
    return on_fiber and int(row["tenure"]) <= 24


def _drifting(stage: Stage, late: list[dict[str, str]]) -> None:
    segment = [row for row in stage.rows if _of_one_kind(row)]
    _chapter("4", f"only one kind of customer asks now: {len(segment):,} on fiber, by the month, two years at most")
    for start in range(0, len(segment), 100):
        _score(stage, {"dataframe_records": [_raw(row) for row in segment[start : start + 100]]}).raise_for_status()
    stage.loop.predictions.flush()
    every = stage.loop.catalog.get(PIPELINE).pipeline.drift.every
    for window in range(2):
        # Looking at one window twice would be one sign of drift: the second is the window of the next timer.
        _check(stage, datetime.now(UTC) + window * every)
    check = max(stage.loop.ports.ledger.list(DriftCheck, PIPELINE), key=lambda found: found.at)
    stage.tell("traffic of one kind of customer", check.status, check.reason)
    console.print(f"\n  what became of {len(late):,} of them lands later: rows that the champion has not seen")
    run = _follow(stage, _land(stage, "customers-4.csv", late))
    stage.tell("their labels landed", f"run {run.id} {run.status}", run.reason)
    _check(stage, datetime.now(UTC) + 2 * every)
    realised = pipeline_states.read(stage.loop, PIPELINE).realised
    if realised:
        stage.tell("predictions met their labels", "hurt" if realised.hurt else "not hurt", realised.sentence())


def _check(stage: Stage, slot: datetime) -> None:
    signal = DriftCheckDue(pipeline=PIPELINE, slot=slot)
    stage.loop.ports.queue.send(signal)
    claim = settled(stage.loop, signal)
    console.print(f"  {escape(claim.reason) if claim else 'no check was made'}")


def _noise(stage: Stage) -> None:
    _chapter("5", "events come twice, broken, from strangers and too early: nothing happens twice")
    before = len(list(stage.loop.ports.ledger.list(Run, PIPELINE)))
    info = next(iter(stage.loop.ports.lake.list(f"landing/{PIPELINE}/")))
    genuine = _event(stage, info)
    stranger = {**_event(stage, info), "id": "stranger", "topic": genuine["topic"].replace("/landfall", "/stranger")}
    stranger["data"] = {**genuine["data"], "url": genuine["data"]["url"].replace("landfall.", "stranger.")}
    early = {**_event(stage, info), "id": "early", "subject": genuine["subject"] + ".part"}
    early["data"] = {**genuine["data"], "api": "CreateFile", "contentLength": 0, "eTag": "0x1"}
    broken = {**_event(stage, info), "id": "broken", "subject": "", "data": {"url": None}}
    for what, event, about in (
        ("the same event again", genuine, info.path),
        ("a foreign account", stranger, info.path),
        ("a file just created", early, f"{info.path}.part"),
        ("a broken event", broken, "broken"),
    ):
        since = datetime.now(UTC)
        _deliver(stage, event)
        decision = _decision_about(stage, about, since)
        reason = decision.reason if decision else "nothing was decided"
        console.print(f"  {what}: {coloured(decision.outcome if decision else 'nothing')}, {escape(reason)}")
        stage.tell(what, decision.outcome if decision else "nothing", reason)
    after = len(list(stage.loop.ports.ledger.list(Run, PIPELINE)))
    console.print(f"  runs before {before}, after {after}")


def _closing(stage: Stage) -> None:
    table = Table(
        "what happened", "outcome", "why", title="\nWhat happened, and why", title_justify="left", header_style="bold"
    )
    for row in stage.told:
        table.add_row(*row)
    console.print(table)
    console.print()
    console.print(status_table(statuses.status(stage.loop)))
    seconds = time.monotonic() - stage.began
    console.print(
        f"\n{seconds:.0f} seconds. It is all still there: [bold].venv/bin/landfall status[/], "
        f"[bold]landfall runs[/], [bold]landfall why {PIPELINE}[/]; go on with [bold]landfall up[/]."
    )


def fresh_home(home: Path) -> None:
    """Make ``home`` anew. What is there is moved aside, unless it is only an earlier demo's, which is removed.

    Raises Refused while a host runs there.
    """
    host = running(home)
    if host:
        raise Refused(
            f"{home} is in use by process {host.pid} at {host.url}; stop it, or set LANDFALL_HOME to another folder"
        )
    if (home / MARK).exists() and not _used(home):
        shutil.rmtree(home)
    elif home.exists() and any(home.iterdir()):
        aside = home.with_name(f"{home.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        home.rename(aside)
        console.print(f"What was in {home.name} is now in {aside.name}.")
    home.mkdir(parents=True, exist_ok=True)
    (home / MARK).touch()


def _used(home: Path) -> bool:
    """Whether somebody has worked on in the home of an earlier demo: files of another pipeline have landed."""
    landing = home / "lake" / "landing"
    return any(file.is_file() and file.relative_to(landing).parts[0] != PIPELINE for file in landing.rglob("*"))


@contextmanager
def _stage(loaded: settings.Settings) -> Iterator[Stage]:
    loop = bootstrap.build(loaded)
    bootstrap.use(loop)
    threading.Thread(target=_warm, args=(loop,), name="warm", daemon=True).start()
    host = LaptopHost(fresh_app(), loaded.home, 0, account=loaded.account, container=loaded.container)
    host.start()
    with SAMPLE.open(newline="", encoding="utf-8") as sample:
        rows = list(csv.DictReader(sample))
    try:
        with httpx.Client(base_url=host.url, timeout=30) as http:
            yield Stage(loop, host, http, rows)
    finally:
        host.stop()
        loop.predictions.close()
        bootstrap.use(None)


def _warm(loop: Loop) -> None:
    """MLflow is loaded and its database made while the first features are prepared."""
    tracking.ensure(loop.settings.home)
    list(loop.ports.registry.versions(PIPELINE))


def _chapter(number: str, text: str) -> None:
    console.print(f"\n[bold blue]{number}[/]  [bold]{text}[/]")


def _land(stage: Stage, name: str, rows: list[dict[str, str]]) -> FileInfo:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(stage.rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stage.loop.ports.lake.write(f"landing/{PIPELINE}/{name}", text.getvalue().encode())


def _follow(stage: Stage, info: FileInfo) -> Run:
    run = run_of_file(stage.loop, PIPELINE, info, lambda said: console.print(f"  {said}"), 120)
    if isinstance(run, str):
        raise Refused(run)
    return follow(stage.loop, run)


@contextmanager
def _visitors(stage: Stage) -> Iterator[None]:
    """Somebody asks the endpoint meanwhile, as in life, but not more on a slow machine: drift would drown in it."""
    stop = threading.Event()

    def ask() -> None:
        for first in range(0, VISITED, 5):
            if stop.wait(0.1):
                return
            _score(stage, {"dataframe_records": [_raw(row) for row in stage.rows[first : first + 5]]})

    visitor = threading.Thread(target=ask, name="visitors")
    visitor.start()
    try:
        yield
    finally:
        stop.set()
        visitor.join()


def _score(stage: Stage, payload: dict[str, Any]) -> httpx.Response:
    return stage.http.post(
        f"/api/pipelines/{PIPELINE}/score", headers={"x-functions-key": stage.host.keys.function}, json=payload
    )


def _raw(row: dict[str, str]) -> dict[str, Any]:
    """A sample row as a caller would send it: typed, without its label."""
    types = stage_types()
    return {name: _typed(value, types[name]) for name, value in row.items() if name != "churn"}


def stage_types() -> dict[str, str]:
    """The declared types of the landed columns."""
    return bootstrap.loop().catalog.get(PIPELINE).pipeline.landing.columns


def _typed(value: str, declared: str) -> Any:
    if value == "":
        return None
    kind = declared.rstrip("?")
    return int(value) if kind == "int" else float(value) if kind == "double" else value


def _event(stage: Stage, info: FileInfo) -> dict[str, Any]:
    account, container = stage.loop.settings.account, stage.loop.settings.container
    return {
        "topic": f"/subscriptions/0/resourceGroups/landfall/providers/Microsoft.Storage/storageAccounts/{account}",
        "subject": f"/blobServices/default/containers/{container}/blobs/{info.path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": info.modified.isoformat(),
        "id": f"again-{info.etag}",
        "data": {
            "api": "FlushWithClose",
            "eTag": info.etag,
            "contentLength": info.size,
            "blobType": "BlockBlob",
            "url": f"https://{account}.dfs.core.windows.net/{container}/{info.path}",
            "sequencer": "0",
        },
        "dataVersion": "2",
        "metadataVersion": "1",
    }


def _deliver(stage: Stage, event: dict[str, Any]) -> None:
    answer = stage.http.post(
        "/runtime/webhooks/eventgrid",
        params={"functionName": "event_storage", "code": stage.host.keys.master},
        headers={"aeg-event-type": "Notification", "content-type": "application/json"},
        content=json.dumps([event]),
    )
    answer.raise_for_status()


def _decision_about(stage: Stage, about: str, since: datetime, seconds: float = 10) -> Decision | None:
    """The decision about a thing that was made after ``since``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pipeline in (PIPELINE, decisions.NOWHERE):
            for decision in stage.loop.ports.ledger.list(Decision, pipeline, limit=20):
                if decision.at > since and about in decision.subjects:
                    return decision
        time.sleep(0.05)
    return None
