"""Timers by six-field NCRONTAB in UTC, and what happens to those that were missed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import azure.functions as func
import pytest

from landfall.host import LaptopHost
from tests.functions.tiny_app import Seen, build
from tests.moving_clock import MovingClock

DAILY = "0 30 9 * * *"
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def test_a_timer_runs_at_its_times_and_not_before(run_host: Callable[..., LaptopHost], seen: Seen) -> None:
    clock = MovingClock(START)
    run_host(DAILY, clock=clock)
    clock.advance(timedelta(minutes=29, seconds=59))
    assert seen.of("timer_tick") == []
    clock.advance(timedelta(seconds=1))
    (tick,) = seen.wait("timer_tick")
    assert (tick.past_due, tick.schedule_status) == (False, {})
    clock.advance(timedelta(days=1))
    second = seen.wait("timer_tick", 2)[1]
    assert second.schedule_status["Last"] == "2026-01-05T09:30:00+00:00"


def test_a_timer_that_fails_runs_again_at_its_next_time(run_host: Callable[..., LaptopHost], seen: Seen) -> None:
    clock = MovingClock(START)
    run_host(DAILY, clock=clock)
    for day in range(2):
        clock.advance(timedelta(minutes=30) if day == 0 else timedelta(days=1))
        seen.wait("timer_broken", day + 1)
        seen.wait("timer_tick", day + 1)


def test_a_time_that_was_missed_while_no_host_ran_is_caught_up_with_once(
    run_host: Callable[..., LaptopHost], seen: Seen
) -> None:
    clock = MovingClock(START)
    first = run_host(DAILY, clock=clock)
    clock.advance(timedelta(minutes=30))
    seen.wait("timer_tick")
    first.stop()
    clock.advance(timedelta(days=3))
    run_host(DAILY, clock=clock)
    late = seen.wait("timer_tick", 2)[1]
    assert late.past_due is True
    assert late.schedule_status["Next"] == "2026-01-06T09:30:00+00:00"
    clock.advance(timedelta(days=1))
    assert seen.wait("timer_tick", 3)[2].past_due is False
    assert len(seen.of("timer_tick")) == 3


def test_a_time_that_was_noted_by_a_clock_a_year_ahead_does_not_keep_the_timer_waiting(
    run_host: Callable[..., LaptopHost], seen: Seen
) -> None:
    ahead = MovingClock(START + timedelta(days=365))
    first = run_host(DAILY, clock=ahead)
    ahead.advance(timedelta(minutes=30))
    seen.wait("timer_tick")
    first.stop()
    clock = MovingClock(START)
    run_host(DAILY, clock=clock)
    assert seen.wait("timer_tick", 2)[1].schedule_status["Next"] == "2027-01-06T09:30:00+00:00"
    clock.advance(timedelta(minutes=30))
    assert seen.wait("timer_tick", 3)[2].schedule_status["Next"] == "2026-01-05T09:30:00+00:00"


def test_a_first_start_runs_no_timer_but_those_it_is_told_to(run_host: Callable[..., LaptopHost], seen: Seen) -> None:
    run_host(DAILY, run_at_start=["timer_broken"])
    seen.wait("timer_broken")
    assert seen.of("timer_tick") == []


def test_a_schedule_that_is_none_is_refused_with_the_function_named(seen: Seen, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"function timer_(tick|broken): .* has 5 fields; six are wanted"):
        LaptopHost(build(seen, timer="* * * * *"), tmp_path, 0).start()


def test_a_binding_that_a_laptop_does_not_have_is_refused_with_the_function_named(tmp_path: Path) -> None:
    app = func.FunctionApp()

    @app.function_name("blob")
    @app.blob_trigger(arg_name="blob", path="lake/x", connection="AzureWebJobsStorage")
    def blob(blob: func.InputStream) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="function blob has a blobTrigger; a laptop has"):
        LaptopHost(app, tmp_path, 0)


def test_the_times_of_timers_survive_in_the_home(
    run_host: Callable[..., LaptopHost], tmp_path: Path, seen: Seen
) -> None:
    clock = MovingClock(START)
    host = run_host(DAILY, clock=clock)
    clock.advance(timedelta(minutes=30))
    seen.wait("timer_tick")
    host.stop()
    kept = json.loads((tmp_path / "timers.json").read_text())
    assert kept["timer_tick"]["Next"] == "2026-01-06T09:30:00+00:00"
