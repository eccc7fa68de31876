"""The rollout as a state machine: what is seen and the policy in, the next state and what to do out.

    deploying → smoking → shifting ⇄ baking → promoting → promoted → done
        └──────────┴→ failing → failed   └→ rolling_back → rolled_back

The first step may be one without traffic: the challenger gets copies of requests, and its answers are judged.

Every move can be made twice: a crash between doing and saving leads to the same doing again. From
promoting, rolling_back and failing on nobody else changes the state, so what follows from the
outcome may be done before it is saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from shared.domain.durations import in_words
from shared.domain.ledger import RolloutState
from shared.domain.pipelines import RollbackWhen, Rollout

ENDED = frozenset({"done", "failed", "rolled_back"})
POLL = timedelta(seconds=15)
"""How long to wait before a look at something that a service is still doing."""
RETRY = timedelta(minutes=5)
"""How long to wait before asking again for what was refused and must be."""
MIRRORING = -1
"""The step before the first: the champion has all traffic, the challenger gets copies."""
PATIENCE = timedelta(hours=2)
"""How long a deployment may take from the rollout's start to a smoke test; then the rollout has failed."""


def deployment_name(version: str) -> str:
    """The deployment that serves a model version: v7 for version 7. A version never changes, so neither does it."""
    return f"v{version}"


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the prediction log says of one deployment since a moment.

    ``p95_ms`` is the 95th percentile of the answers' milliseconds; ``prediction_psi`` compares its
    predictions with those on its held-out rows (None: no more than chance gives for so many rows).
    """

    requests: int = 0
    errors: int = 0
    p95_ms: float = 0.0
    prediction_psi: float | None = None

    def complaint(self, limits: RollbackWhen) -> str:
        """The first limit that is broken, in words with its numbers; empty when all hold or too little was asked."""
        if self.requests < limits.min_requests:
            return ""
        rate = self.errors / self.requests
        if rate > limits.error_rate:
            return f"{self.errors} of {self.requests} requests failed ({rate:.1%}, limit {limits.error_rate:.1%})"
        if self.p95_ms > limits.p95_ms:
            return f"p95 latency {self.p95_ms:.0f} ms over {self.requests} requests (limit {limits.p95_ms:.0f} ms)"
        if self.prediction_psi is not None and self.prediction_psi > limits.prediction_psi:
            return f"predictions shifted, PSI {self.prediction_psi:.3f} (limit {limits.prediction_psi:.3f})"
        return ""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The world at one look.

    ``deployments`` maps names to states, ``traffic`` and ``mirror`` are what was read back, ``smoke`` is None when no
    smoke test was made, empty when it passed, else why it failed; ``health`` is the challenger's.
    """

    deployments: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    smoke: str | None = None
    health: Health = field(default_factory=Health)


@dataclass(frozen=True)
class Action:
    """Something to do on the endpoint: deploy ``version`` as a deployment, remove one, or shift traffic and copies."""

    do: Literal["deploy", "remove", "shift"]
    deployment: str = ""
    version: str = ""
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Move:
    """Do ``actions``, save ``state``, come back after ``again`` (None: nothing more to do).

    ``note`` is a sentence for the audit, empty when only time has passed.
    """

    state: RolloutState
    actions: tuple[Action, ...] = ()
    again: timedelta | None = POLL
    note: str = ""


def next_move(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    """The one next move of a rollout. Pure: the same arguments give the same move."""
    return _MOVES[state.phase](state, seen, policy, now)


def wanted_traffic(state: RolloutState) -> dict[str, int]:
    """The split of the present step: the challenger's share, the rest for the champion."""
    if state.step == MIRRORING:
        return {deployment_name(state.champion): 100}
    share = state.steps[state.step] if state.champion not in ("", state.challenger) else 100
    split = {deployment_name(state.challenger): share}
    if share < 100:
        split[deployment_name(state.champion)] = 100 - share
    return split


def wanted_mirror(state: RolloutState) -> dict[str, int]:
    """Who gets copies in the present step, of how many percent of the requests."""
    return {deployment_name(state.challenger): state.mirror} if state.step == MIRRORING else {}


def roll_back(state: RolloutState, reason: str) -> RolloutState:
    """The same rollout on its way back; one that has no champion to go back to stays as it is."""
    if state.phase not in ("deploying", "smoking", "shifting", "baking") or not state.champion:
        return state
    return replace(state, phase="rolling_back", reason=reason, step_since=None, asked=0)


def waits(state: RolloutState, reason: str, now: datetime) -> Move:
    """What follows when the endpoint cannot make a move now: look again, but not for longer than PATIENCE allows."""
    if state.phase in ("deploying", "smoking") and now - state.started_at > PATIENCE:
        return _fail(state, f"still not possible after {in_words(PATIENCE)}: {reason}")
    return Move(state=state, note=reason)


def refused(state: RolloutState, reason: str) -> Move:
    """What follows when the endpoint will not make a move: give the challenger up; or go on trying, to go back."""
    if state.phase in ("deploying", "smoking") or (state.phase in ("shifting", "baking") and not state.champion):
        return _fail(state, reason)
    if state.phase in ("shifting", "baking"):
        return _back(state, reason)
    return Move(state=state, again=RETRY, note=reason)


def _deploying(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    name = deployment_name(state.challenger)
    match seen.deployments.get(name):
        case None:
            return _deploy(state, state.challenger)
        case "ready":
            return Move(state=replace(state, phase="smoking"), again=timedelta(0), note=f"deployment {name} is ready")
        case "failed":
            return _fail(state, f"deployment {name} failed")
        case other if now - state.started_at > PATIENCE:
            return _fail(state, f"deployment {name} is still {other} after {in_words(PATIENCE)}")
        case _:
            return Move(state=state, again=_poll(state, now))


def _smoking(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    name = deployment_name(state.challenger)
    if _broken(seen, name):
        return _fail(state, f"deployment {name} is {seen.deployments.get(name, 'gone')}")
    if seen.smoke is None:
        if now - state.started_at > PATIENCE:
            return _fail(state, f"no smoke test of deployment {name} within {in_words(PATIENCE)}")
        return Move(state=state, again=_poll(state, now))
    if seen.smoke:
        return _fail(state, f"smoke test failed: {seen.smoke}")
    first = MIRRORING if state.mirror else 0
    return Move(
        state=replace(state, phase="shifting", step=first, step_since=now), again=timedelta(0), note="smoke test passed"
    )


def _shifting(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    name, wanted, mirror = deployment_name(state.challenger), wanted_traffic(state), wanted_mirror(state)
    if _broken(seen, name):
        reason = f"deployment {name} is {seen.deployments.get(name, 'gone')}"
        return _back(state, reason) if state.champion else _fail(state, reason)
    if (seen.traffic, seen.mirror) != (wanted, mirror):
        return _shift(state, seen, wanted, mirror, now)
    return Move(
        state=replace(state, phase="baking", step_since=now, next_at=now + state.bake, asked=0),
        again=state.bake,
        note=f"traffic is {_words(wanted, mirror)}",
    )


def _baking(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    name = deployment_name(state.challenger)
    complaint = seen.health.complaint(policy.rollback_when)
    if _broken(seen, name):
        complaint = f"deployment {name} is {seen.deployments.get(name, 'gone')}"
    if complaint and state.champion:
        return _back(state, complaint)
    until = state.next_at or now
    if until > now + state.bake:
        return _set_right(state, now + state.bake, now)
    if now < until:
        return Move(state=state, again=min(until - now, POLL))
    wanted, mirror = wanted_traffic(state), wanted_mirror(state)
    if (seen.traffic, seen.mirror) != (wanted, mirror):
        note = f"traffic is {_words(seen.traffic, seen.mirror)} in place of {_words(wanted, mirror)}"
        return Move(state=replace(state, phase="shifting"), again=timedelta(0), note=note)
    if state.champion and state.step + 1 < len(state.steps):
        return Move(state=replace(state, phase="shifting", step=state.step + 1), again=timedelta(0))
    # A first version stays even when it is unhealthy: nothing else could serve, and the next one must have its turn.
    note = f"unhealthy, but there is no champion to go back to: {complaint}" if complaint else ""
    return Move(state=replace(state, phase="promoting"), again=timedelta(0), note=note)


def _promoting(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    return Move(
        state=replace(state, phase="promoted", next_at=now + policy.keep_previous),
        again=policy.keep_previous,
        note=f"version {state.challenger} is the champion",
    )


def _promoted(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    until = state.next_at or now
    if until > now + policy.keep_previous:
        return _set_right(state, now + policy.keep_previous, now)
    if now < until:
        return Move(state=state, again=until - now)
    previous = deployment_name(state.champion) if state.champion else ""
    if previous in seen.deployments and not seen.traffic.get(previous):
        return Move(
            state=replace(state, phase="done"),
            actions=(Action("remove", previous),),
            again=None,
            note=f"removed deployment {previous}: it is no longer kept",
        )
    return Move(state=replace(state, phase="done"), again=None)


def _rolling_back(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    wanted = {deployment_name(state.champion): 100}
    # Traffic that was asked for before may come into force late, so what is seen counts only after asking again.
    if seen.traffic != wanted or seen.mirror or state.step_since is None:
        return _shift(state, seen, wanted, {}, now)
    return Move(
        state=replace(state, phase="rolled_back"),
        actions=_remove_challenger(state, seen),
        again=None,
        note=f"all traffic is back on {deployment_name(state.champion)}: {state.reason}",
    )


def _failing(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    return Move(
        state=replace(state, phase="failed"),
        # Where traffic was asked for, it may still come into force.
        actions=_remove_challenger(state, seen) if state.step_since is None else (),
        again=None,
        note=f"version {state.challenger} was not rolled out: {state.reason}",
    )


def _ended(state: RolloutState, seen: Seen, policy: Rollout, now: datetime) -> Move:
    return Move(state=state, again=None)


def _set_right(state: RolloutState, until: datetime, now: datetime) -> Move:
    """Times that were set by a clock that was ahead: the wait begins again, by the clock as it is now."""
    return Move(state=replace(state, step_since=now, next_at=until), again=min(until - now, POLL))


def _deploy(state: RolloutState, version: str) -> Move:
    name = deployment_name(version)
    action = Action("deploy", name, version)
    return Move(state=state, actions=(action,), again=timedelta(seconds=1), note=f"creating deployment {name}")


def _shift(state: RolloutState, seen: Seen, wanted: dict[str, int], mirror: dict[str, int], now: datetime) -> Move:
    """Ask for a split, and again, ever more seldom, while it is not in force; a champion's deployment that somebody
    has removed is created again first."""
    champion = deployment_name(state.champion)
    if champion in wanted and champion not in seen.deployments:
        return _deploy(state, state.champion)
    if any(seen.deployments.get(name) != "ready" for name in (*wanted, *mirror)):
        return Move(state=state)
    return Move(
        state=replace(state, step_since=now, asked=state.asked + 1),
        actions=(Action("shift", traffic=wanted, mirror=mirror),),
        again=min(timedelta(seconds=2 ** min(state.asked, 10)), POLL),
    )


def _broken(seen: Seen, deployment: str) -> bool:
    return seen.deployments.get(deployment) not in ("ready", "creating", "updating")


def _poll(state: RolloutState, now: datetime) -> timedelta:
    """A quarter of the time that it took so far: soon for what is quick, seldom for what is slow."""
    return min(max((now - state.started_at) / 4, timedelta(seconds=0.5)), POLL)


def _fail(state: RolloutState, reason: str) -> Move:
    return Move(state=replace(state, phase="failing", reason=reason), again=timedelta(0), note=reason)


def _back(state: RolloutState, reason: str) -> Move:
    return Move(state=roll_back(state, reason), again=timedelta(0), note=f"rolling back: {reason}")


def _remove_challenger(state: RolloutState, seen: Seen) -> tuple[Action, ...]:
    name = deployment_name(state.challenger)
    used = seen.traffic.get(name) or seen.mirror.get(name)
    removable = name in seen.deployments and not used and state.challenger != state.champion
    return (Action("remove", name),) if removable else ()


def _words(traffic: dict[str, int], mirror: dict[str, int]) -> str:
    shares = [f"{name} {share} %" for name, share in traffic.items()]
    return ", ".join([*(shares or ["nowhere"]), *(f"copies of {share} % to {name}" for name, share in mirror.items())])


_MOVES = {
    "deploying": _deploying,
    "smoking": _smoking,
    "shifting": _shifting,
    "baking": _baking,
    "promoting": _promoting,
    "promoted": _promoted,
    "rolling_back": _rolling_back,
    "failing": _failing,
    "done": _ended,
    "failed": _ended,
    "rolled_back": _ended,
}
