"""Asking why."""

from __future__ import annotations

import pytest

from shared import history
from shared.domain.signals import FreezeRequested
from shared.errors import Missing
from tests.reactions.world import World


def test_a_pipelines_name_tells_everything_that_was_decided_in_it(world: World) -> None:
    world.to_champion()
    world.queue.send(FreezeRequested(pipeline="churn", request="r1", by="ada", reason="audit week", frozen=True))
    world.drain()
    told = history.why(world.loop, "churn")
    assert [decision["at"] for decision in told] == sorted(decision["at"] for decision in told)
    words = " ".join(f"{decision['what']} {decision['reason']}" for decision in told)
    for said in ("joined batch b000001", "promote version 1", "version 1 is the champion", "frozen"):
        assert said in words


def test_a_signal_is_found_by_the_key_that_its_request_was_answered_with(world: World) -> None:
    signal = FreezeRequested(pipeline="churn", request="r1", by="ada", reason="audit week", frozen=True)
    world.queue.send(signal)
    world.drain()
    (decision,) = history.why(world.loop, signal.claim_key)
    assert (decision["what"], decision["by"]) == ("freeze", "ada")
    assert decision["reason"].endswith("(ada: audit week)")
    with pytest.raises(Missing, match="nothing was ever decided"):
        history.why(world.loop, "FreezeRequested:churn/r2")


def test_a_file_is_found_by_the_name_it_had_before_its_digest(world: World) -> None:
    world.land("landing/churn/part-0123abcd.csv")
    world.drain()
    assert history.why(world.loop, "data/part.csv") == history.why(world.loop, "landing/churn/part-0123abcd.csv")
    with pytest.raises(Missing, match=r"Did you mean landing/churn/part-0123abcd\.csv\?"):
        history.why(world.loop, "parts.csv")
