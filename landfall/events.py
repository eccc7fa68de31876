"""Events by hand, and the dead-letter inbox."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape

from landfall.session import open_loop, working
from landfall.show import console, when
from shared.adapters.local.signal_queue import SqliteQueue
from shared.errors import Missing, Rejected
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
    """Print the dead-letter inbox."""
    letters = [
        {"id": letter.id, "message": letter.text, "error": letter.error, "at": letter.poisoned_at.isoformat()}
        for letter in _queue(open_loop()).poisoned()
    ]
    if as_json:
        print(json.dumps(letters, indent=2))
    elif not letters:
        console.print("The dead-letter inbox is empty.")
    for letter in letters if not as_json else ():
        console.print(f"[bold]{letter['id']}[/]  {when(letter['at'])}  {escape(letter['error'])}")
        console.print(f"    {letter['message']}", markup=False)


def replay(letter: str | None) -> None:
    """Put one or all dead letters back on the queue. Raises Missing when there is no such letter."""
    queue = _queue(open_loop())
    letters = [found.id for found in queue.poisoned()]
    if letter is not None and letter not in map(str, letters):
        raise Missing(f"no dead letter {letter}; landfall events dead lists them")
    chosen = [found for found in letters if letter in (None, str(found))]
    for found in chosen:
        queue.requeue(found)
    console.print(f"{len(chosen)} dead letter{'' if len(chosen) == 1 else 's'} back on the queue")
    if chosen:
        with working() as (loop, _):
            _drain(loop)


def _queue(loop: Loop) -> SqliteQueue:
    queue = loop.ports.queue
    if not isinstance(queue, SqliteQueue):
        raise Rejected(
            "the signals are in a storage queue: what was given up there is told by landfall why, and reconcile "
            "raises again what is needed"
        )
    return queue


def _drain(loop: Loop, seconds: float = 10) -> None:
    """Give the host a moment to handle what is visible now."""
    import time

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _queue(loop).counts()["visible"]:
        time.sleep(0.05)


def _function(payload: list[Any]) -> str:
    first = payload[0] if payload and isinstance(payload[0], dict) else {}
    return "event_azureml" if "MachineLearningServices" in str(first.get("eventType", "")) else "event_storage"
