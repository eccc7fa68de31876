"""Six-field schedules in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.schedule import last_tick, next_slot, slot_start, slots_between, validate

MONDAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 0 2 * * SUN", datetime(2026, 1, 11, 2)),
        ("0 0 2 * * 0", datetime(2026, 1, 11, 2)),
        ("0 0 2 * * sunday", datetime(2026, 1, 11, 2)),
        ("0 */5 * * * *", datetime(2026, 1, 5, 9, 5)),
        ("30 0 9 * * *", datetime(2026, 1, 5, 9, 0, 30)),
        ("*/20 * * * * *", datetime(2026, 1, 5, 9, 0, 20)),
        ("0 0 9-17/4 * * MON-FRI", datetime(2026, 1, 5, 13)),
        ("0 0 0 1 May,Sep *", datetime(2026, 5, 1)),
        ("0 0 0 29 FEBRUARY *", datetime(2028, 2, 29)),
        # Day and weekday must both match: the first Friday the 13th, not the first Friday.
        ("0 0 0 13 * FRI", datetime(2026, 2, 13)),
    ],
)
def test_the_first_time_after_a_monday_morning(expression: str, first: datetime) -> None:
    assert validate(expression) == ""
    assert next_slot(expression, MONDAY) == first.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("* * * * *", "has 5 fields; six are wanted"),
        ("", "has 0 fields"),
        ("0 0 25 * * *", "bad hour"),
        ("0 60 * * * *", "bad minute"),
        ("0 0 2 * * SUNNY", "bad day-of-week"),
        ("0 0 2 * * 7", "Sunday is 0 or SUN"),
        ("0 0 2 * * 1-7", "Sunday is 0 or SUN"),
        ("0 0 2 L * *", "'L' is no day"),
        ("0 0 2 * * 5#2", "'5#2' is no weekday"),
        ("0 0 2 * * 5L", "'5L' is no weekday"),
        ("0 */0 * * * *", "bad minute"),
        ("0 0 2 30 2 *", "bad day-of-month"),
        ("0 0 2 30 2 MON", "never comes round"),
        ("@daily", "has 1 fields"),
    ],
)
def test_what_is_no_schedule_is_named(expression: str, fault: str) -> None:
    assert fault in validate(expression)
    with pytest.raises(ValueError, match=re.escape(fault)):
        next_slot(expression, MONDAY)


def test_times_after_since_up_to_and_with_until() -> None:
    found = slots_between("0 0 * * * *", MONDAY, MONDAY + timedelta(hours=2))
    assert found == [MONDAY + timedelta(hours=1), MONDAY + timedelta(hours=2)]
    assert slots_between("0 0 * * * *", MONDAY, MONDAY) == []


def test_times_are_utc_wherever_the_question_comes_from() -> None:
    tokyo = MONDAY.astimezone(timezone(timedelta(hours=9)))
    assert next_slot("0 0 12 * * *", tokyo) == MONDAY.replace(hour=12)


@given(
    expression=st.sampled_from(["0 0 2 * * SUN", "0 */7 * * * *", "15 30 4 1-5 * *"]),
    since=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    cuts=st.lists(st.integers(0, 3 * 86400), max_size=5),
)
def test_ticks_that_follow_each_other_lose_no_time_and_repeat_none(
    expression: str, since: datetime, cuts: list[int]
) -> None:
    ends = [since + timedelta(seconds=cut) for cut in [*sorted(cuts), 3 * 86400]]
    parts = [slots_between(expression, begin, end) for begin, end in zip([since, *ends], ends, strict=False)]
    assert [*chain(*parts)] == slots_between(expression, since, ends[-1])


@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    minutes=st.integers(1, 3000),
)
def test_slots_are_whole_multiples_since_1970_and_hold_now(now: datetime, minutes: int) -> None:
    every = timedelta(minutes=minutes)
    slot = slot_start(now, every)
    assert slot <= now < slot + every
    assert (slot - datetime(1970, 1, 1, tzinfo=UTC)) % every == timedelta(0)


@pytest.mark.parametrize(
    ("status", "tick"),
    [
        ({"Last": "2026-01-05T09:00:00.1234567+00:00"}, MONDAY.replace(microsecond=123456)),
        ({"Last": "2026-01-05T09:00:00"}, MONDAY),
        ({"Last": "2026-01-05T09:00:00Z"}, MONDAY),
        ({"Last": "0001-01-01T00:00:00"}, None),
        ({"Last": None}, None),
        ({"Last": "soon"}, None),
        ({}, None),
    ],
)
def test_the_last_tick_of_a_timer(status: dict[str, str], tick: datetime | None) -> None:
    assert last_tick(status) == tick
