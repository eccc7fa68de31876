"""Schedules: six-field NCRONTAB in UTC, as timers of Azure Functions and ``retraining.schedule`` have it.

The fields are {second} {minute} {hour} {day} {month} {weekday}. Sunday is 0; months and weekdays may be named
(JAN or January, SUN or Sunday). A time must match every field, also where both day and weekday are given,
unlike in cron (https://github.com/atifaziz/NCrontab).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cronsim import CronSim, CronSimError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = ("second", "minute", "hour", "day", "month", "weekday")
_NAMES = re.compile(
    r"\b(?:(SUN|MON|FRI)DAY|(TUE)SDAY|(WED)NESDAY|(THU)RSDAY|(SAT)URDAY|(JAN)UARY|(FEB)RUARY|(MAR)CH|(APR)IL|(JUN)E|"
    r"(JUL)Y|(AUG)UST|(SEP)TEMBER|(OCT)OBER|(NOV|DEC)EMBER)\b"
)
_FORM = re.compile(r"(\*|[A-Z0-9]+)(-[A-Z0-9]+)?(/[0-9]+)?(,(\*|[A-Z0-9]+)(-[A-Z0-9]+)?(/[0-9]+)?)*")
_CRON_ONLY = re.compile(r"\b(L|LW|[0-9]+L)\b")


def validate(expression: str) -> str:
    """What is wrong with ``expression``, in words; empty when it is a schedule that comes round."""
    try:
        next_slot(expression, datetime(2024, 1, 1, tzinfo=UTC))
    except ValueError as error:
        return str(error)
    return ""


def next_slot(expression: str, after: datetime) -> datetime:
    """The first time of the schedule later than ``after``, in UTC. Raises ValueError for no schedule."""
    try:
        return next(_times(expression, after))
    except StopIteration:
        raise ValueError(f"{expression!r} never comes round") from None


def slots_between(expression: str, since: datetime, until: datetime) -> list[datetime]:
    """The times of the schedule with ``since`` < time <= ``until``, in order. Raises ValueError for no schedule."""
    return list(takewhile(lambda slot: slot <= until, _times(expression, since)))


def _times(expression: str, after: datetime) -> Iterator[datetime]:
    fields = _NAMES.sub(lambda name: name[name.lastindex or 0], expression.upper()).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{expression!r} has {len(fields)} fields; six are wanted: {{second}} {{minute}} {{hour}} {{day}} "
            "{month} {weekday}, for example 0 0 2 * * SUN"
        )
    for name, field in zip(_FIELDS, fields, strict=True):
        if not _FORM.fullmatch(field) or _CRON_ONLY.search(field):
            raise ValueError(f"{expression!r}: {field!r} is no {name}; write a value, *, a-b, a,b or */n")
    if re.search(r"(?<!/)\b7\b", fields[-1]):
        raise ValueError(f"{expression!r}: {fields[-1]!r} is no weekday; Sunday is 0 or SUN")
    try:
        times = CronSim(" ".join(fields), after.astimezone(UTC))
    except CronSimError as error:
        raise ValueError(f"{expression!r}: {str(error)[0].lower()}{str(error)[1:]}") from error
    times.day_and = True
    return times


def slot_start(now: datetime, every: timedelta) -> datetime:
    """The last whole multiple of ``every`` since 1970-01-01 UTC that is not after ``now``, in UTC."""
    return now.astimezone(UTC) - (now - _EPOCH) % every


def last_tick(schedule_status: Mapping[str, str]) -> datetime | None:
    """When a timer ran before, from the status that the Functions host hands to it; None when it never did."""
    try:
        tick = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", schedule_status["Last"]))
    except (KeyError, ValueError, TypeError):
        return None
    tick = tick if tick.tzinfo else tick.replace(tzinfo=UTC)
    return None if tick.year == 1 else tick
