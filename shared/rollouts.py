"""Rollouts: beginning one, and making its moves on the endpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared import evaluation, operator_requests, pipeline_states, runs, versions
from shared.definitions.catalog import PipelineFolder
from shared.domain import rollout
from shared.domain.drift import Profile
from shared.domain.ledger import PipelineState, RolloutState, Run, Version
from shared.domain.records import from_record
from shared.domain.rollout import Seen, deployment_name, roll_back
from shared.domain.signals import RolloutDue
from shared.errors import Conflict, LandfallError, Missing, Rejected, Transient
from shared.loop import Loop

LONGEST_DELAY = timedelta(days=6)


def begin(loop: Loop, folder: PipelineFolder, version: Version, *, cause: str, asked_at: datetime | None = None) -> str:
    """Start to move traffic to a version. Returns what was done, in words.

    A rollback or a pin goes to 100 % at once; a first version, too: there is nobody to share with. While another
    rollout is under way, a version of the gate or of an approval waits, to be measured against its outcome.
    What a person asked for ``asked_at`` then moves a pin that is older to the version, once it serves.
    Raises Rejected when a rollback or a pin meets another rollout.
    """
    pipeline = folder.pipeline

    def take(state: PipelineState) -> PipelineState:
        if state.rollout:
            return state
        number = state.rollouts + 1
        rollout_id = f"{pipeline.name}-r{number:06d}-v{version.version}"
        return replace(state, rollouts=number, rollout=rollout_id, active_rollouts=(*state.active_rollouts, rollout_id))

    state = pipeline_states.update(loop, pipeline.name, take)
    if not state.rollout.endswith(f"-v{version.version}"):
        if cause in ("gate", "approval"):
            return evaluation.begin(loop, folder, version)
        raise Rejected(
            f"rollout {state.rollout} is under way: turn it round with landfall rollback {pipeline.name}, "
            "or try again when it has ended"
        )
    champion = state.champion if state.champion != version.version else ""
    # A version that is pinned or rolled back to may have a run that waits for a verdict: it ends with the rollout.
    run = loop.ports.ledger.read(Run, pipeline.name, version.run) if version.run else None
    alone = cause in ("rollback", "pin") or not champion
    now = loop.ports.clock.now()
    plan = RolloutState(
        pipeline=pipeline.name,
        id=state.rollout,
        endpoint=pipeline.endpoint,
        challenger=version.version,
        champion=champion,
        phase="deploying",
        steps=(100,) if alone else pipeline.rollout.steps,
        mirror=0 if alone else pipeline.rollout.mirror,
        bake=timedelta(0) if alone else pipeline.rollout.bake,
        cause=cause,
        asked_at=asked_at,
        started_at=now,
        wake=1,
        next_at=now,
        run=version.run if run and not run.ended else "",
    )
    plan = loop.ports.ledger.update(RolloutState, pipeline.name, plan.id, lambda present: present or plan)
    versions.change(loop, version, status="rolling_out")
    if plan.run:
        runs.move(loop, runs.read(loop, pipeline.name, plan.run), "rollout", "running", f"rollout {plan.id}")
    loop.ports.queue.send(RolloutDue(pipeline=pipeline.name, rollout=plan.id, wake=plan.wake))
    percent = " → ".join(f"{step}" for step in plan.steps)
    copies = f"copies of {plan.mirror} %, then " if plan.mirror else ""
    return f"rollout {plan.id} begins ({copies}{percent} %)"


def turn_round(loop: Loop, rollout: RolloutState, reason: str) -> RolloutState:
    """Let a rollout go back to its champion, if it still can: then its phase is rolling_back."""

    def change(present: RolloutState | None) -> RolloutState:
        turned = roll_back(present or rollout, reason)
        return turned if turned == present else replace(turned, wake=turned.wake + 1)

    turned = loop.ports.ledger.update(RolloutState, rollout.pipeline, rollout.id, change)
    if turned.phase == "rolling_back":
        loop.ports.queue.send(RolloutDue(pipeline=turned.pipeline, rollout=turned.id, wake=turned.wake))
    return turned


def move_pin(loop: Loop, pipeline: str, version: str, asked_at: datetime) -> None:
    """While a version is pinned: pin the one that a rollback or an approval has brought, unless the pin is newer."""

    def change(state: PipelineState) -> PipelineState:
        if not state.pinned or operator_requests.stale(loop, asked_at, state.asked_at):
            return state
        return replace(state, pinned=version, asked_at=asked_at)

    pipeline_states.update(loop, pipeline, change)


def held(state: PipelineState, rollout: RolloutState) -> bool:
    """True when a freeze holds the rollout where it is: one that goes back, or that a person asked for, goes on."""
    return state.frozen and rollout.cause in ("gate", "approval") and rollout.phase != "rolling_back"


def wake(loop: Loop, rollout: RolloutState, **changes: Any) -> None:
    """Let a rollout go on now, with ``changes``. Its wake is a new one: the last may have been handled, for nothing."""

    def change(present: RolloutState | None) -> RolloutState:
        present = present or rollout
        return replace(present, wake=present.wake + 1, **changes)

    woken = loop.ports.ledger.update(RolloutState, rollout.pipeline, rollout.id, change)
    loop.ports.queue.send(RolloutDue(pipeline=woken.pipeline, rollout=woken.id, wake=woken.wake))


def active(loop: Loop, pipeline: str) -> list[RolloutState]:
    """The rollouts that have not ended, with those that keep the previous deployment warm."""
    found = (
        loop.ports.ledger.read(RolloutState, pipeline, name)
        for name in pipeline_states.read(loop, pipeline).active_rollouts
    )
    return [rollout for rollout in found if rollout]


def advance(loop: Loop, folder: PipelineFolder, state: RolloutState) -> tuple[RolloutState, list[str]]:
    """Make moves until the rollout has to wait for something; returns its new state and what was said.

    Every action and effect may be repeated, so a crash anywhere is mended by doing the move again.
    """
    said: list[str] = []
    while True:
        now = loop.ports.clock.now()
        try:
            move = rollout.next_move(state, _look(loop, state), folder.pipeline.rollout, now)
            said += [note for action in move.actions if (note := _do(loop, folder, state, action))]
        except Transient as error:
            move = rollout.waits(state, str(error), now)
        except Rejected as error:
            move = rollout.refused(state, str(error))
        if move.note:
            said.append(move.note)
        if move.state.phase != state.phase:
            _effects(loop, folder, move.state)
        _note_traffic(loop, state)
        again = None if move.again is None else min(max(move.again, timedelta(0)), LONGEST_DELAY)
        waits = move.state.phase in ("baking", "promoted")
        next_at = move.state.next_at if waits else now + (again or timedelta(0))
        try:
            state = loop.ports.ledger.replace(replace(move.state, wake=state.wake + 1, next_at=next_at))
        except Conflict as error:
            raise Transient(f"rollout {state.id} was changed by somebody else; looking again") from error
        if again is None:
            unlist(loop, state)
            return state, said
        if again > timedelta(0):
            loop.ports.queue.send(RolloutDue(pipeline=state.pipeline, rollout=state.id, wake=state.wake), delay=again)
            return state, said


def unlist(loop: Loop, rollout: RolloutState) -> None:
    """Take a rollout that has ended off the list of active ones."""

    def change(state: PipelineState) -> PipelineState:
        return replace(state, active_rollouts=tuple(r for r in state.active_rollouts if r != rollout.id))

    pipeline_states.update(loop, rollout.pipeline, change)


def _look(loop: Loop, state: RolloutState) -> Seen:
    endpoints = loop.ports.endpoints
    deployments = {name: d.state for name, d in endpoints.deployments(state.endpoint).items()}
    name = deployment_name(state.challenger)
    mirror = endpoints.mirror(state.endpoint) if state.mirror else {}
    seen = Seen(deployments=deployments, traffic=endpoints.traffic(state.endpoint), mirror=mirror)
    if state.phase == "smoking":
        return replace(seen, smoke=_smoke(loop, state))
    if state.phase == "baking" and state.step_since:
        reference = _prediction_profile(loop, state)
        return replace(seen, health=loop.predictions.health(state.pipeline, name, state.step_since, reference))
    return seen


def _smoke(loop: Loop, state: RolloutState) -> str | None:
    """Empty when the deployment answers a few held-out rows as the evaluated model did, else what is wrong; None when
    it does not answer yet."""
    path = f"models/{state.pipeline}/{state.challenger}/smoke.json"
    try:
        expected = json.loads(loop.ports.lake.read(path))
    except Missing:
        return f"{path} is missing: evaluate the version first"
    try:
        answer = loop.ports.endpoints.score(
            state.endpoint, expected["columns"], expected["rows"], deployment=deployment_name(state.challenger)
        )
    except Transient:
        return None
    except LandfallError as error:
        return str(error)
    for row, (got, wanted) in enumerate(zip(answer.predictions, expected["predictions"], strict=True), start=1):
        same = abs(got - wanted) <= 1e-6 * max(1.0, abs(wanted)) if isinstance(wanted, float) else got == wanted
        if not same:
            return f"row {row} is answered {got!r}, the evaluated model said {wanted!r}"
    return ""


def _prediction_profile(loop: Loop, state: RolloutState) -> Profile | None:
    path = f"models/{state.pipeline}/{state.challenger}/predictions.json"
    if loop.ports.lake.stat(path) is None:
        return None
    return from_record(Profile, json.loads(loop.ports.lake.read(path)))


def _do(loop: Loop, folder: PipelineFolder, state: RolloutState, action: rollout.Action) -> str:
    """Do one thing on the endpoint; what has to be said about it, if anything."""
    endpoints = loop.ports.endpoints
    if action.do == "deploy":
        endpoints.ensure(state.endpoint)
        endpoints.deploy(
            state.endpoint,
            action.deployment,
            model=state.pipeline,
            version=action.version,
            sizing=folder.pipeline.rollout,
        )
    elif action.do == "shift":
        endpoints.set_traffic(state.endpoint, action.traffic, mirror=action.mirror)
    elif action.deployment not in _in_use(loop, state):
        try:
            endpoints.remove(state.endpoint, action.deployment)
        except Rejected as error:
            # It costs money, but it serves nobody: no reason to hold up what comes next.
            return f"deployment {action.deployment} is left: {error}"
    return ""


def _in_use(loop: Loop, state: RolloutState) -> set[str]:
    """The champion's deployment and the one that another rollout is bringing up."""
    present = pipeline_states.read(loop, state.pipeline)
    other = loop.ports.ledger.read(RolloutState, state.pipeline, present.rollout) if present.rollout else None
    used = {present.champion}
    if other and other.id != state.id:
        used |= {other.challenger, other.champion}
    return {deployment_name(version) for version in used if version}


def _note_traffic(loop: Loop, state: RolloutState) -> None:
    endpoints = loop.ports.endpoints
    changes: dict[str, object] = {"traffic": endpoints.traffic(state.endpoint)}
    if state.mirror:
        changes["mirror"] = endpoints.mirror(state.endpoint)
    pipeline_states.set_fields(loop, state.pipeline, **changes)


def _effects(loop: Loop, folder: PipelineFolder, rollout: RolloutState) -> None:
    """What the outcome of a rollout means for others, done again after a crash while it is still the one rollout."""
    if rollout.phase not in ("promoted", "rolled_back", "failed"):
        return
    if rollout.phase == "promoted":
        _end_former(loop, rollout)
    state = pipeline_states.read(loop, rollout.pipeline)
    if state.rollout == rollout.id:
        if rollout.phase == "promoted":
            _promote(loop, folder, rollout)
        else:
            _finish(loop, rollout)
        state = _change_while_rolling(loop, rollout, rollout="")
    if state.rollout:
        return
    if state.pinned not in ("", state.champion, rollout.challenger):
        begin(loop, folder, versions.read(loop, rollout.pipeline, state.pinned), cause="pin")
    else:
        evaluation.next_waiting(loop, folder)


def _end_former(loop: Loop, rollout: RolloutState) -> None:
    """Only the newest champion's predecessor is kept: what former rollouts have kept is to go now."""
    now = loop.ports.clock.now()
    for former in active(loop, rollout.pipeline):
        if former.id != rollout.id and former.phase == "promoted":
            wake(loop, former, next_at=now)


def _change_while_rolling(loop: Loop, rollout: RolloutState, /, **changes: object) -> PipelineState:
    def change(state: PipelineState) -> PipelineState:
        return replace(state, **changes) if state.rollout == rollout.id else state  # type: ignore[arg-type]

    return pipeline_states.update(loop, rollout.pipeline, change)


def _promote(loop: Loop, folder: PipelineFolder, state: RolloutState) -> None:
    version = versions.read(loop, state.pipeline, state.challenger)
    measured = version.evaluation.challenger if version.evaluation else {}
    metrics = {m: measured[m] for m in sorted(measured, key=lambda m: m != folder.pipeline.gate.metric)}
    compiled = version.evaluation.compiled if version.evaluation else None
    serving = compiled.sentence() if compiled else ""
    changes: dict[str, object] = {"champion": state.challenger, "metrics": metrics, "serving": serving}
    # What was found of the former champion says nothing of this one.
    changes |= {"estimated": None, "realised": None}
    if state.champion:
        changes["previous"] = state.champion
        former = versions.read(loop, state.pipeline, state.champion)
        versions.change(loop, former, status="rolled_back" if state.cause == "rollback" else "retired")
    if state.asked_at:
        move_pin(loop, state.pipeline, state.challenger, state.asked_at)
    _change_while_rolling(loop, state, **changes)
    loop.ports.registry.set_alias(state.pipeline, "champion", state.challenger)
    versions.change(loop, version, status="champion")
    reason = f"version {state.challenger} is the champion"
    if state.run:
        runs.end(loop, runs.read(loop, state.pipeline, state.run), "succeeded", reason)
    loop.ports.events.publish(
        "ModelPromoted",
        f"{state.pipeline}:{state.challenger}",
        {
            "pipeline": state.pipeline,
            "version": state.challenger,
            "previous": state.champion,
            "cause": state.cause,
            "metrics": metrics,
        },
        id=state.id,
    )


def _finish(loop: Loop, state: RolloutState) -> None:
    version = versions.read(loop, state.pipeline, state.challenger)
    versions.change(loop, version, status="rolled_back" if state.phase == "rolled_back" else "rejected")
    if state.run:
        ended = "rolled_back" if state.champion else "failed"
        runs.end(loop, runs.read(loop, state.pipeline, state.run), ended, state.reason)
    loop.ports.events.publish(
        "RolloutStopped",
        f"{state.pipeline}:{state.challenger}",
        {"pipeline": state.pipeline, "version": state.challenger, "phase": state.phase, "reason": state.reason},
        id=state.id,
    )
