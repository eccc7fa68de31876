"""Messages that failed at every attempt: kept once, put back once, on every backend."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from shared import dead_letters, reactions
from shared.decisions import NOWHERE
from shared.domain.ledger import Claim, Decision
from shared.domain.signals import ModelRegistered
from shared.errors import Missing, Rejected
from shared.loop import Loop
from shared.ports import Ports
from tests.contracts.backends import Backend
from tests.moving_clock import MovingClock

SIGNAL = ModelRegistered(model="churn", version="3")
MESSAGE = SIGNAL.to_message()


class NoPipelines:
    def names(self) -> list[str]:
        return []


@pytest.fixture
def loop(backend: Backend, clock: MovingClock) -> Loop:
    """The ledger and the queue of a backend, and nothing else."""
    nothing = cast(Any, None)
    ports = Ports(
        lake=nothing, queue=backend.queue(), ledger=backend.ledger(), features=nothing, training=nothing,
        registry=nothing, endpoints=nothing, batch=nothing, events=nothing, clock=clock,
    )  # fmt: skip
    return Loop(nothing, cast(Any, NoPipelines()), ports, nothing)


def failed(loop: Loop, error: str) -> None:
    """The last attempt of the signal has ended with ``error``."""
    now = loop.ports.clock.now()
    loop.ports.ledger.insert(
        Claim(
            signal=SIGNAL.claim_key, message=MESSAGE, status="released", owner="o", lease_until=now, first_seen=now,
            reason=error,
        )
    )  # fmt: skip


def test_a_message_that_was_given_up_is_kept_with_the_error_of_its_last_attempt(loop: Loop, clock: MovingClock) -> None:
    failed(loop, "churn:3 is not in the registry")
    at = clock.now()
    reactions.poisoned(MESSAGE, loop, "m1")
    (letter,) = dead_letters.waiting(loop)
    assert (letter.id, letter.message, letter.at) == ("m1", MESSAGE, at)
    assert letter.error == "churn:3 is not in the registry"
    (decision,) = loop.ports.ledger.list(Decision, NOWHERE)
    assert decision.outcome == "failed" and "churn:3 is not in the registry" in decision.reason


def test_a_message_whose_handling_always_ended_the_app_says_so(loop: Loop) -> None:
    reactions.poisoned(MESSAGE, loop, "m1")
    assert [letter.error for letter in dead_letters.waiting(loop)] == [
        "the app ended each time while the message was being handled"
    ]


def test_given_up_twice_it_is_one_dead_letter_and_one_decision(loop: Loop, clock: MovingClock) -> None:
    reactions.poisoned(MESSAGE, loop, "m1")
    clock.advance(timedelta(minutes=1))
    reactions.poisoned(MESSAGE, loop, "m1")
    assert len(dead_letters.waiting(loop)) == len(list(loop.ports.ledger.list(Decision, NOWHERE))) == 1


def test_a_letter_is_put_back_once_and_waits_no_more(backend: Backend, loop: Loop) -> None:
    reactions.poisoned(MESSAGE, loop, "m1")
    assert dead_letters.replay(loop, "m1")
    assert not dead_letters.replay(loop, "m1")
    reactions.poisoned(MESSAGE, loop, "m1")
    assert dead_letters.waiting(loop) == []
    assert (backend.taken(), backend.taken()) == ([MESSAGE], [])


def test_letters_wait_in_the_order_in_which_they_were_given_up(loop: Loop, clock: MovingClock) -> None:
    for id in ("b", "c", "a"):
        reactions.poisoned(MESSAGE, loop, id)
        clock.advance(timedelta(seconds=1))
    assert [letter.id for letter in dead_letters.waiting(loop)] == ["b", "c", "a"]


def test_what_is_no_letter_or_no_signal_cannot_be_put_back(backend: Backend, loop: Loop) -> None:
    with pytest.raises(Missing, match="no dead letter m9"):
        dead_letters.replay(loop, "m9")
    reactions.poisoned("no signal", loop, "m1")
    with pytest.raises(Rejected):
        dead_letters.replay(loop, "m1")
    assert len(dead_letters.waiting(loop)) == 1
    assert backend.taken() == []


def test_a_letter_that_is_no_signal_does_not_hold_up_those_behind_it(
    backend: Backend, loop: Loop, clock: MovingClock
) -> None:
    for id, message in (("m1", "no signal"), ("m2", MESSAGE)):
        reactions.poisoned(message, loop, id)
        clock.advance(timedelta(seconds=1))
    done, refused = dead_letters.replay_all(loop)
    assert (done, list(refused)) == (["m2"], ["m1"])
    assert backend.taken() == [MESSAGE]
