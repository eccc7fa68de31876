"""Asking the loop for something, and seeing it done."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import typer
from rich.markup import escape

from landfall.follow import follow, settled
from landfall.session import working
from landfall.show import coloured, console
from shared import pipeline_states
from shared.domain.ledger import RolloutState, Run
from shared.domain.rollout import ENDED
from shared.domain.signals import OperatorSignal, Signal
from shared.loop import Loop


def ask(signal: Signal, *, run: str | None = None, as_json: bool = False) -> None:
    """Put ``signal`` on the queue, wait until it was handled, say what came of it; follow the run it began.

    Exits with 1 when it was refused, 4 when nobody handled it within a minute.
    """
    with working() as (loop, own):
        loop.catalog.get(getattr(signal, "pipeline", ""))
        if isinstance(signal, OperatorSignal):
            signal = replace(signal, at=loop.ports.clock.now())
        loop.ports.queue.send(signal)
        claim = settled(loop, signal)
        if claim is None:
            console.print("it is on the queue; nobody has handled it within a minute")
            raise typer.Exit(4)
        if not as_json:
            console.print(f"{coloured(claim.status)}  {escape(claim.reason)}")
        entry = loop.ports.ledger.read(Run, getattr(signal, "pipeline", ""), run) if run else None
        if entry:
            entry = follow(loop, entry, quiet=as_json)
        if own:
            _finish_rollout(loop, getattr(signal, "pipeline", ""))
    if as_json:
        print(
            json.dumps(
                {"signal": signal.claim_key, "outcome": claim.status, "reason": claim.reason, "run": entry and entry.id}
            )
        )
    if claim.status in ("rejected", "failed") or (entry and entry.status == "failed"):
        raise typer.Exit(1)


def _finish_rollout(loop: Loop, pipeline: str, seconds: float = 300) -> None:
    """Our own host ends with this command: let a rollout that it began reach its end."""

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = pipeline_states.read(loop, pipeline)
        rollout = loop.ports.ledger.read(RolloutState, pipeline, state.rollout) if state.rollout else None
        if rollout is None or rollout.phase in ENDED or state.frozen:
            return
        time.sleep(0.1)
