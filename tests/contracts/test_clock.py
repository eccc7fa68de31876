"""The Clock port."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from shared.adapters import system_clock as system
from shared.adapters.system_clock import SystemClock
from shared.ports.clock import Clock
from tests.moving_clock import MovingClock


@pytest.fixture(params=[SystemClock, MovingClock])
def any_clock(request: pytest.FixtureRequest) -> Clock:
    return request.param()


def test_the_time_is_aware_and_in_utc(any_clock: Clock) -> None:
    assert any_clock.now().tzinfo is UTC


def test_the_time_never_goes_back(any_clock: Clock) -> None:
    times = [any_clock.now() for _ in range(2000)]
    assert times == sorted(times)


def test_the_system_clock_shows_the_present() -> None:
    before = datetime.now(UTC)
    shown = SystemClock().now()
    assert before <= shown <= datetime.now(UTC)


def test_a_system_clock_that_is_set_back_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    readings = iter([start, start - timedelta(hours=1), start + timedelta(seconds=1)])

    class Readings(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return next(readings)

    clock = SystemClock()
    monkeypatch.setattr(system, "datetime", Readings)
    assert [clock.now() for _ in range(3)] == [start, start, start + timedelta(seconds=1)]


def test_threads_that_share_a_system_clock_agree_on_what_is_later() -> None:
    clock, told, order = SystemClock(), [], threading.Lock()

    def ask() -> None:
        for _ in range(500):
            with order:
                told.append(clock.now())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == sorted(told)


def test_a_moving_clock_goes_on_by_what_the_test_says_and_refuses_to_go_back() -> None:
    clock = MovingClock()
    before = clock.now()
    clock.advance(timedelta(minutes=5))
    assert clock.now() - before == timedelta(minutes=5)
    with pytest.raises(ValueError, match="cannot advance"):
        clock.advance(timedelta(seconds=-1))
