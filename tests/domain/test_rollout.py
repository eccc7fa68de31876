"""The rollout machine against an endpoint that is late, fails and forgets, with crashes in between."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.ledger import RolloutState
from shared.domain.pipelines import RollbackWhen, Rollout
from shared.domain.rollout import (
    ENDED,
    PATIENCE,
    Action,
    Health,
    Move,
    Seen,
    deployment_name,
    next_move,
    roll_back,
    wanted_traffic,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
POLICY = Rollout()
GOOD = Health(requests=100)
BAD = Health(requests=100, errors=50)


def rollout(phase: str = "deploying", *, champion: str = "1", **changes: object) -> RolloutState:
    fields = {
        "pipeline": "churn",
        "id": "r1",
        "endpoint": "churn",
        "challenger": "2",
        "champion": champion,
        "phase": phase,
        "started_at": NOON,
        "steps": POLICY.steps,
        "bake": POLICY.bake,
    }
    return RolloutState(**{**fields, **changes})  # type: ignore[arg-type]


def move(state: RolloutState, now: datetime = NOON, **seen: object) -> Move:
    return next_move(state, Seen(**seen), POLICY, now)  # type: ignore[arg-type]


READY = {"v1": "ready", "v2": "ready"}


# the machine against a hostile world


class Busy(Exception):
    """The endpoint is updating and refuses other operations for now."""


@dataclass
class Endpoint:
    """An endpoint whose deployments and traffic come into force some looks after they were asked for."""

    deployments: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    pending: tuple[dict[str, int], dict[str, int]] | None = None

    def do(self, action: Action) -> None:
        match action.do:
            case "deploy":
                assert action.deployment == deployment_name(action.version)
                self.deployments.setdefault(action.deployment, "creating")
            case "shift":
                assert sum(action.traffic.values()) == 100
                assert all(share > 0 for share in action.traffic.values())
                if self.pending is not None:
                    raise Busy
                assert all(self.deployments.get(name) == "ready" for name in (*action.traffic, *action.mirror))
                assert not action.traffic.keys() & action.mirror.keys(), "both traffic and copies"
                self.pending = action.traffic, action.mirror
            case "remove":
                assert not self.traffic.get(action.deployment), "a deployment with traffic is removed"
                assert not self.mirror.get(action.deployment), "a deployment that gets copies is removed"
                for split in self.pending or ():
                    assert not split.get(action.deployment), "a deployment that gets requests is removed"
                del self.deployments[action.deployment]

    def come_into_force(self) -> None:
        if self.pending is not None:
            (self.traffic, self.mirror), self.pending = self.pending, None


def run_rollout(random: Random, *, champion: str, steps: tuple[int, ...], mirror: int, hostile_looks: int) -> None:
    def now_and_then(times: int) -> bool:
        return random.randrange(times) == 0

    mirror = mirror if champion else 0
    state = rollout(champion=champion, steps=steps, mirror=mirror, bake=timedelta(minutes=random.choice([0, 10])))
    endpoint = Endpoint({"v1": "ready"}, {"v1": 100}) if champion else Endpoint()
    if now_and_then(2):
        endpoint.deployments["v2"] = "ready"
        if not champion and now_and_then(2):
            endpoint.traffic = {"v2": 100}
    before = dict(endpoint.traffic)
    now, smoke_passed, share, mirrored = NOON, False, 0, False

    for look in range(hostile_looks + 300):
        hostile = look < hostile_looks
        now += timedelta(minutes=random.randint(0, 30) if hostile else 30)
        for name, present in list(endpoint.deployments.items()):
            if present == "creating":
                outcomes = ["creating", "ready", "failed"] if hostile and name == "v2" else ["ready"]
                endpoint.deployments[name] = random.choice(outcomes)
        if not hostile or now_and_then(2):
            endpoint.come_into_force()
        if hostile:
            if now_and_then(12) and "v2" in endpoint.deployments:
                endpoint.deployments["v2"] = "failed"
            if now_and_then(8) and not endpoint.traffic.get("v1") and not endpoint.pending:
                endpoint.deployments.pop("v1", None)
            if now_and_then(8) and endpoint.deployments.get("v1") == "ready" and state.phase == "baking":
                endpoint.traffic, endpoint.mirror = {"v1": 100}, {}
            if now_and_then(12):
                state = roll_back(state, "a person asked for it")

        smoke = None
        if state.phase == "smoking":
            smoke = random.choice([None, "", "", "wrong answer"]) if hostile else ""
            smoke_passed = smoke == ""
        traffic = dict(endpoint.traffic)
        # A read that hides traffic which the challenger had before is for the endpoint itself to refuse.
        if hostile and "v2" not in before and now_and_then(6):
            traffic = random.choice([{}, {"v1": 50, "v0": 50}, {"v0": 100}])
        health = random.choice([Health(), GOOD, GOOD, BAD]) if hostile else GOOD
        copies = {} if hostile and not endpoint.mirror.get("v2") and now_and_then(6) else dict(endpoint.mirror)
        mirrored |= copies == {"v2": mirror}
        seen = Seen(deployments=dict(endpoint.deployments), traffic=traffic, mirror=copies, smoke=smoke, health=health)
        made = next_move(state, seen, replace(POLICY, steps=steps), now)
        assert made == next_move(state, seen, replace(POLICY, steps=steps), now)

        try:
            for action in made.actions:
                endpoint.do(action)
        except Busy:
            continue
        for action in made.actions:
            if action.do == "shift":
                asked = action.traffic.get("v2", 0)
                assert not (asked or action.mirror) or smoke_passed, "requests before a passed smoke test"
                assert not asked or not mirror or mirrored, "traffic before copies"
                assert not action.mirror or (asked, share) == (0, 0), "copies after traffic"
                if state.phase != "rolling_back":
                    assert asked >= share, "the share of the challenger fell without a rollback"
                    share = asked
        if hostile and now_and_then(5):
            continue  # a crash between doing and saving: the same look comes again
        state = made.state
        if state.phase in ENDED:
            assert made.again is None
            break
        assert made.again is not None and made.again >= timedelta(0)
    else:
        raise AssertionError(f"the rollout does not end, it is {state.phase}")

    endpoint.come_into_force()
    assert endpoint.mirror == {}
    if state.phase == "done":
        assert endpoint.traffic == {"v2": 100}
    elif champion:
        assert endpoint.traffic == {"v1": 100} and endpoint.deployments["v1"] == "ready"
    else:
        assert state.phase == "failed"
        assert endpoint.traffic in (before, {"v2": 100})
    assert all(name in endpoint.deployments for name in endpoint.traffic)
    assert next_move(state, Seen(), POLICY, now) == Move(state=state, again=None)


@settings(max_examples=1500, deadline=None)
@given(
    st.randoms(use_true_random=True),
    st.sampled_from(["", "1"]),
    st.sampled_from([(100,), (10, 50, 100), (1, 2, 3, 100)]),
    st.sampled_from([0, 20]),
    st.integers(0, 40),
)
def test_whatever_happens_the_rollout_ends_with_one_version_serving(
    random: Random, champion: str, steps: tuple[int, ...], mirror: int, hostile_looks: int
) -> None:
    run_rollout(random, champion=champion, steps=steps, mirror=mirror, hostile_looks=hostile_looks)


@given(st.integers(0, 2), st.sampled_from(["", "1", "2"]))
def test_wanted_traffic_sums_to_a_hundred(step: int, champion: str) -> None:
    wanted = wanted_traffic(rollout("shifting", champion=champion, step=step))
    assert sum(wanted.values()) == 100 and min(wanted.values()) > 0


# single moves


def test_an_undisturbed_rollout_takes_all_steps_and_then_removes_the_champion() -> None:
    state, now, traffic, deployments, asked = rollout(), NOON, {"v1": 100}, {"v1": "ready"}, []
    for _ in range(60):
        made = move(state, now, deployments=deployments, traffic=traffic, smoke="", health=GOOD)
        for action in made.actions:
            asked.append((action.do, action.deployment or action.traffic, (now - NOON).total_seconds() // 60))
            if action.do == "deploy":
                deployments = {**deployments, "v2": "ready"}
            if action.do == "shift":
                traffic = action.traffic
        state = made.state
        if made.again is None:
            break
        now += made.again
    assert state.phase == "done"
    # minutes: three bakes of ten, and the previous version is kept warm for a day
    assert asked == [
        ("deploy", "v2", 0),
        ("shift", {"v2": 10, "v1": 90}, 0),
        ("shift", {"v2": 50, "v1": 50}, 10),
        ("shift", {"v2": 100}, 20),
        ("remove", "v1", 30 + 24 * 60),
    ]


def test_copies_come_before_traffic_for_as_long_as_a_step() -> None:
    asked = move(rollout("smoking", mirror=20), deployments=READY, traffic={"v1": 100}, smoke="").state
    (shift,) = move(asked, deployments=READY, traffic={"v1": 100}).actions
    assert (shift.traffic, shift.mirror) == ({"v1": 100}, {"v2": 20})
    there = {"deployments": READY, "traffic": {"v1": 100}, "mirror": {"v2": 20}}
    baking = move(asked, **there)
    assert baking.note == "traffic is v1 100 %, copies of 20 % to v2"
    assert move(baking.state, NOON + POLICY.bake / 2, **there).state == baking.state
    first = move(baking.state, NOON + POLICY.bake, **there).state
    (shift,) = move(first, NOON + POLICY.bake, **there).actions
    assert (shift.traffic, shift.mirror) == ({"v2": 10, "v1": 90}, {})


def test_a_challenger_that_fails_on_copies_never_gets_traffic() -> None:
    there = {"deployments": READY, "traffic": {"v1": 100}, "mirror": {"v2": 20}}
    state = rollout("baking", mirror=20, step=-1, step_since=NOON, next_at=NOON + POLICY.bake)
    back = move(state, **there, health=BAD).state
    assert (back.phase, back.reason) == ("rolling_back", "50 of 100 requests failed (50.0%, limit 1.0%)")
    ended = move(back, **there)
    (shift,) = ended.actions
    assert (shift.traffic, shift.mirror) == ({"v1": 100}, {})
    (remove,) = move(ended.state, deployments=READY, traffic={"v1": 100}).actions
    assert remove == Action("remove", "v2")


def test_a_first_version_gets_all_traffic_at_once() -> None:
    assert move(rollout("shifting", champion=""), deployments=READY).actions == (Action("shift", traffic={"v2": 100}),)


def test_a_failed_deployment_is_removed_and_the_rollout_has_failed() -> None:
    made = move(rollout(), deployments={"v1": "ready", "v2": "failed"}, traffic={"v1": 100})
    assert made.state.phase == "failing" and "deployment v2 failed" in made.note
    ended = move(made.state, deployments={"v1": "ready", "v2": "failed"}, traffic={"v1": 100})
    assert ended.state.phase == "failed" and ended.actions == (Action("remove", "v2"),)


def test_a_deployment_that_never_becomes_ready_is_given_up() -> None:
    seen = {"deployments": {"v1": "ready", "v2": "creating"}}
    assert move(rollout(), NOON + PATIENCE, **seen).state.phase == "deploying"
    late = move(rollout(), NOON + PATIENCE + timedelta(seconds=1), **seen)
    assert late.state.phase == "failing" and "still creating after 2 h" in late.note


def test_a_failed_smoke_test_gets_no_traffic() -> None:
    made = move(rollout("smoking"), deployments=READY, traffic={"v1": 100}, smoke="row 1 is answered 0")
    assert made.state.phase == "failing" and not made.actions
    assert "smoke test failed: row 1 is answered 0" in made.note


def test_a_deployment_that_vanishes_before_its_smoke_test_has_failed() -> None:
    assert move(rollout("smoking"), deployments={"v1": "ready"}).state.phase == "failing"


def test_an_updating_deployment_is_waited_for() -> None:
    made = move(rollout("shifting"), deployments={"v1": "ready", "v2": "updating"}, traffic={"v1": 100})
    assert made.state.phase == "shifting" and not made.actions


def test_a_challenger_that_fails_while_traffic_moves_is_rolled_back() -> None:
    made = move(rollout("shifting", step=1), deployments={"v1": "ready", "v2": "failed"}, traffic={"v2": 10, "v1": 90})
    assert made.state.phase == "rolling_back" and "deployment v2 is failed" in made.note


def test_a_first_version_that_fails_before_its_traffic_ends_the_rollout() -> None:
    made = move(rollout("shifting", champion="", step_since=NOON), deployments={"v2": "failed"})
    assert made.state.phase == "failing"
    assert move(made.state, deployments={"v2": "failed"}).actions == ()


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health(requests=1000, errors=11), "11 of 1000 requests failed (1.1%, limit 1.0%)"),
        (Health(requests=20, p95_ms=1500), "p95 latency 1500 ms over 20 requests (limit 1000 ms)"),
        (Health(requests=20, prediction_psi=0.3), "predictions shifted, PSI 0.300 (limit 0.250)"),
    ],
)
def test_an_unhealthy_challenger_is_rolled_back_with_the_limit_in_words(health: Health, words: str) -> None:
    state = rollout("baking", next_at=NOON + timedelta(minutes=10))
    made = move(state, deployments=READY, traffic={"v2": 10, "v1": 90}, health=health)
    assert made.state.phase == "rolling_back" and words in made.note


@pytest.mark.parametrize(
    "health",
    [
        Health(),
        Health(requests=19, errors=19),
        Health(requests=1000, errors=10, p95_ms=1000, prediction_psi=0.25),
        Health(requests=1000, prediction_psi=None),
    ],
)
def test_limits_that_hold_or_too_few_requests_are_no_complaint(health: Health) -> None:
    assert health.complaint(RollbackWhen()) == ""


def test_the_next_step_waits_for_the_bake() -> None:
    state = rollout("baking", next_at=NOON + timedelta(minutes=10))
    seen = {"deployments": READY, "traffic": {"v2": 10, "v1": 90}, "health": GOOD}
    assert move(state, NOON + timedelta(minutes=9), **seen).state == state
    after = move(state, NOON + timedelta(minutes=10), **seen).state
    assert (after.phase, after.step) == ("shifting", 1)


def test_a_bake_without_its_traffic_does_not_count() -> None:
    state = rollout("baking", step=2, next_at=NOON)
    made = move(state, deployments=READY, traffic={"v1": 100}, health=GOOD)
    assert (made.state.phase, made.state.step) == ("shifting", 2)
    assert made.note == "traffic is v1 100 % in place of v2 100 %"


def test_an_unhealthy_first_version_stays_so_that_the_next_has_its_turn() -> None:
    made = move(rollout("baking", champion="", next_at=NOON), deployments=READY, traffic={"v2": 100}, health=BAD)
    assert made.state.phase == "promoting" and "no champion to go back to: 50 of 100" in made.note


def test_the_way_back_asks_for_traffic_before_it_believes_what_it_sees() -> None:
    back = roll_back(rollout("shifting", step_since=NOON), "asked for")
    first = move(back, deployments=READY, traffic={"v1": 100})
    assert first.actions == (Action("shift", traffic={"v1": 100}),)
    second = move(first.state, deployments=READY, traffic={"v1": 100})
    assert second.state.phase == "rolled_back" and second.actions == (Action("remove", "v2"),)
    assert second.note == "all traffic is back on v1: asked for"


def test_a_champion_that_was_removed_is_deployed_again_for_the_way_back() -> None:
    back = roll_back(rollout("baking", step=2), "asked for")
    made = move(back, deployments={"v2": "ready"}, traffic={"v2": 100})
    assert made.actions == (Action("deploy", "v1", "1"),)
    assert move(back, deployments={"v2": "ready", "v1": "creating"}, traffic={"v2": 100}).actions == ()


@pytest.mark.parametrize("phase", ["promoting", "promoted", "failing", *sorted(ENDED)])
def test_a_decided_rollout_does_not_turn_back(phase: str) -> None:
    state = rollout(phase)
    assert roll_back(state, "too late") is state


def test_a_first_version_has_nothing_to_go_back_to() -> None:
    state = rollout("baking", champion="")
    assert roll_back(state, "asked for") is state


def test_the_previous_deployment_stays_while_it_has_traffic() -> None:
    state = rollout("promoted", next_at=NOON)
    made = move(state, deployments=READY, traffic={"v1": 100})
    assert made.state.phase == "done" and made.actions == ()


def test_going_back_to_the_same_version_removes_nothing() -> None:
    state = replace(roll_back(rollout("baking", champion="2"), "asked for"), step_since=NOON)
    made = move(state, deployments={"v2": "ready"}, traffic={"v2": 100})
    assert made.state.phase == "rolled_back" and made.actions == ()
