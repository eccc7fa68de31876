"""Events by hand, and dead letters."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape

from landfall.session import open_loop, working
from landfall.show import console, when
from shared import dead_letters
from shared.adapters.local.signal_queue import SqliteQueue
from shared.errors import Rejected
from shared.loop import Loop


def send(text: str, function: str | None) -> bool:
    """Deliver events to the webhook of the host; True when it took them. Raises Rejected for text that is no events."""
    import httpx

    from landfall.host import running
    from landfall.host.keys import load

    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise Rejected(f"that is no JSON: {error}") from error
    payload = parsed if isinstance(parsed, list) else [parsed]
    with working() as (loop, _):
        info = running(loop.settings.home)
        if info is None:
            raise Rejected("no host answers; start landfall up")
        answer = httpx.post(
            f"{info.url}/runtime/webhooks/eventgrid",
            params={"functionName": function or _function(payload), "code": load(loop.settings.home).master},
            headers={"aeg-event-type": "Notification"},
            json=payload,
            timeout=60,
        )
        _drain(loop)
    console.print(
        f"{answer.status_code}  {len(payload)} event{'s' if len(payload) > 1 else ''}  {escape(answer.text[:500])}"
    )
    return answer.is_success


def dead(as_json: bool) -> None:
    """Print the dead letters that wait."""
    letters = dead_letters.waiting(open_loop())
    if as_json:
        rows = [{"id": x.id, "message": x.message, "error": x.error, "at": x.at.isoformat()} for x in letters]
        print(json.dumps(rows, indent=2))
    elif not letters:
        console.print("There is no dead letter.")
    for letter in letters if not as_json else ():
        console.print(f"[bold]{letter.id}[/]  {when(letter.at.isoformat())}  {escape(letter.error)}")
        console.print(f"    {letter.message}", markup=False)


def replay(letter: str | None, as_json: bool = False) -> None:
    """Put one or all dead letters back on the queue, and print which.

    Raises Missing when there is no such letter, and Rejected, after the others, for what is no signal.
    """
    loop = open_loop()
    refused: dict[str, str] = {}
    if letter is None:
        done, refused = dead_letters.replay_all(loop)
    else:
        done = [letter] if dead_letters.replay(loop, letter) else []
    if as_json:
        print(json.dumps({"replayed": done}))
    else:
        console.print(f"{len(done)} dead letter{'' if len(done) == 1 else 's'} back on the queue")
    if done:
        with working() as (worked, _):
            _drain(worked)
    if refused:
        raise Rejected("; ".join(f"dead letter {id} stays: {why}" for id, why in refused.items()))


def _drain(loop: Loop, seconds: float = 10) -> None:
    """Give a laptop's host a moment to handle what is visible now."""
    import time

    queue = loop.ports.queue
    deadline = time.monotonic() + seconds
    while isinstance(queue, SqliteQueue) and time.monotonic() < deadline and queue.counts()["visible"]:
        time.sleep(0.05)


def _function(payload: list[Any]) -> str:
    first = payload[0] if payload and isinstance(payload[0], dict) else {}
    return "event_azureml" if "MachineLearningServices" in str(first.get("eventType", "")) else "event_storage"
