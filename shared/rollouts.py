"""Rollouts: beginning one, and making its moves on the endpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from shared import evaluation, runs
from shared.catalog import PipelineFolder
from shared.domain import rollout
from shared.domain.drift import Profile
from shared.domain.ledger import PipelineState, RolloutState, Version
from shared.domain.records import from_record
from shared.domain.rollout import Seen, deployment_name
from shared.domain.signals import RolloutDue
from shared.errors import Conflict, LandfallError, Missing, Transient
from shared.loop import Loop

LONGEST_DELAY = timedelta(days=6)


def begin(loop: Loop, folder: PipelineFolder, version: Version, *, cause: str, by: str = "") -> str:
    """Start to move traffic to a version, or say which rollout it waits for. Returns what was done, in words.

    A rollback or a pin goes to 100 % at once; a first version, too: there is nobody to share with.
    """
    pipeline = folder.pipeline
    state = runs.state_of(loop, pipeline.name)
    at_once = cause in ("rollback", "pin")
    champion = state.champion if state.champion != version.version else ""
    alone = at_once or not champion
    now = loop.ports.clock.now()
    number = sum(1 for _ in loop.ports.ledger.list(RolloutState, pipeline.name)) + 1
    plan = RolloutState(
        pipeline=pipeline.name,
        id=f"{pipeline.name}-r{number:06d}-v{version.version}",
        endpoint=pipeline.endpoint,
        challenger=version.version,
        champion=champion,
        phase="deploying",
        steps=(100,) if alone else pipeline.rollout.steps,
        bake=timedelta(0) if alone else pipeline.rollout.bake,
        cause=cause,
        started_at=now,
        wake=1,
        next_at=now,
        run=version.run if cause in ("gate", "approval") else "",
    )

    def take(present: PipelineState | None) -> PipelineState:
        present = present or PipelineState(pipeline=pipeline.name)
        return present if present.rollout else replace(present, rollout=plan.id)

    taken = loop.ports.ledger.update(PipelineState, pipeline.name, "state", take).rollout
    existing = loop.ports.ledger.read(RolloutState, pipeline.name, taken)
    if existing is None:
        existing = loop.ports.ledger.insert(replace(plan, id=taken))
    if existing.challenger != version.version:
        evaluation.change_version(loop, version, status="waiting")
        return f"waits until rollout {taken} has ended"
    evaluation.change_version(loop, version, status="rolling_out")
    if existing.run:
        runs.move(loop, runs.read(loop, pipeline.name, existing.run), "rollout", "running", f"rollout {taken}")
    loop.ports.queue.send(RolloutDue(pipeline=pipeline.name, rollout=taken, wake=existing.wake))
    percent = " → ".join(f"{step}" for step in existing.steps)
    return f"rollout {taken} begins ({percent} %)"


def advance(loop: Loop, folder: PipelineFolder, state: RolloutState) -> tuple[RolloutState, list[str]]:
    """Make moves until the rollout has to wait for something; returns its new state and what was said.

    Every action and effect may be repeated, so a crash anywhere is mended by doing the move again.
    """
    said: list[str] = []
    while True:
        now = loop.ports.clock.now()
        move = rollout.next_move(state, _look(loop, folder, state), folder.pipeline.rollout, now)
        for action in move.actions:
            _do(loop, folder, state, action)
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
            return state, said
        if again > timedelta(0):
            loop.ports.queue.send(RolloutDue(pipeline=state.pipeline, rollout=state.id, wake=state.wake), delay=again)
            return state, said


def _look(loop: Loop, folder: PipelineFolder, state: RolloutState) -> Seen:
    endpoints = loop.ports.endpoints
    deployments = {name: d.state for name, d in endpoints.deployments(state.endpoint).items()}
    name = deployment_name(state.challenger)
    seen = Seen(deployments=deployments, traffic=endpoints.traffic(state.endpoint))
    if state.phase == "smoking":
        return replace(seen, smoke=_smoke(loop, state))
    if state.phase == "baking" and state.step_since:
        reference = _prediction_profile(loop, state)
        return replace(seen, health=loop.predictions.health(state.pipeline, name, state.step_since, reference))
    return seen


def _smoke(loop: Loop, state: RolloutState) -> str:
    """Empty when the deployment answers a few held-out rows as the evaluated model did, else what is wrong."""
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
        raise
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


def _do(loop: Loop, folder: PipelineFolder, state: RolloutState, action: rollout.Action) -> None:
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
        endpoints.set_traffic(state.endpoint, action.traffic)
    elif action.deployment not in _in_use(loop, state):
        endpoints.remove(state.endpoint, action.deployment)


def _in_use(loop: Loop, state: RolloutState) -> set[str]:
    """The champion's deployment and the one that another rollout is bringing up."""
    present = runs.state_of(loop, state.pipeline)
    other = loop.ports.ledger.read(RolloutState, state.pipeline, present.rollout) if present.rollout else None
    versions = {present.champion}
    if other and other.id != state.id:
        versions |= {other.challenger, other.champion}
    return {deployment_name(version) for version in versions if version}


def _note_traffic(loop: Loop, state: RolloutState) -> None:
    runs.change_state(loop, state.pipeline, traffic=loop.ports.endpoints.traffic(state.endpoint))


def _effects(loop: Loop, folder: PipelineFolder, state: RolloutState) -> None:
    if state.phase == "promoted":
        _promote(loop, folder, state)
    elif state.phase in ("rolled_back", "failed"):
        status = "rolled_back" if state.phase == "rolled_back" else "rejected"
        _finish(loop, state, status, "rolled_back" if state.champion else "failed")
    else:
        return
    runs.change_state(loop, state.pipeline, rollout="")
    evaluation.next_waiting(loop, folder)


def _promote(loop: Loop, folder: PipelineFolder, state: RolloutState) -> None:
    version = evaluation.read_version(loop, state.pipeline, state.challenger)
    measured = version.evaluation.challenger if version.evaluation else {}
    metrics = {m: measured[m] for m in sorted(measured, key=lambda m: m != folder.pipeline.gate.metric)}
    changes: dict[str, object] = {"champion": state.challenger, "metrics": metrics}
    if state.champion:
        changes["previous"] = state.champion
        former = evaluation.read_version(loop, state.pipeline, state.champion)
        evaluation.change_version(loop, former, status="rolled_back" if state.cause == "rollback" else "retired")
    runs.change_state(loop, state.pipeline, **changes)
    loop.ports.registry.set_alias(state.pipeline, "champion", state.challenger)
    evaluation.change_version(loop, version, status="champion")
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


def _finish(loop: Loop, state: RolloutState, version_status: str, run_status: str) -> None:
    version = evaluation.read_version(loop, state.pipeline, state.challenger)
    evaluation.change_version(loop, version, status=version_status)
    if state.run:
        runs.end(loop, runs.read(loop, state.pipeline, state.run), run_status, state.reason)
    loop.ports.events.publish(
        "RolloutStopped",
        f"{state.pipeline}:{state.challenger}",
        {"pipeline": state.pipeline, "version": state.challenger, "phase": state.phase, "reason": state.reason},
        id=state.id,
    )
