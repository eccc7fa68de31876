"""Dates and times, which are in UTC on both engines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.spark.expressions import Translator, Unproven, Value, name_of, only, proven, shown

if TYPE_CHECKING:
    from sqlglot import exp

_PARTS = {
    "year": "year({0})", "month": "month({0})", "day": "day({0})", "quarter": "quarter({0})",
    "hour": "hour({1})", "minute": "minute({1})", "second": "second({1})",
    "dow": "(dayofweek({0}) - 1)", "dayofweek": "(dayofweek({0}) - 1)", "weekday": "(dayofweek({0}) - 1)",
    "isodow": "(weekday({0}) + 1)", "doy": "dayofyear({0})", "dayofyear": "dayofyear({0})",
    "week": "weekofyear({0})", "weekofyear": "weekofyear({0})",
}  # fmt: skip
"""Parts of a date or timestamp {0}; {1} is it as a timestamp."""
_PART_NODES = {
    "Year": "year", "Month": "month", "Day": "day", "DayOfMonth": "day", "Quarter": "quarter", "Hour": "hour",
    "Minute": "minute", "Second": "second", "DayOfWeek": "dow", "DayOfWeekIso": "isodow", "DayOfYear": "doy",
    "Week": "week", "WeekOfYear": "week",
}  # fmt: skip
_UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
_SECONDS = {"hour": 3600, "minute": 60, "second": 1}


def shifted(to: Translator, node: exp.Binary) -> Value:
    """A moment and an INTERVAL: a timestamp, also of a date."""
    from sqlglot import exp

    interval = node.expression
    unit = str(interval.args.get("unit") or "").lower().rstrip("s")
    if unit not in _UNITS or unit == "quarter" or not re.fullmatch(r"-?\d{1,6}", interval.this.name):
        raise Unproven(node, f"shifts by {shown(interval)}", "Shift by a number in it: INTERVAL 3 DAY.")
    value = to.moment(node.this)
    symbol = "+" if isinstance(node, exp.Add) else "-"
    text = f"(CAST({value.text} AS TIMESTAMP) {symbol} INTERVAL '{interval.this.name}' {unit.upper()})"
    return Value(text, "timestamp")


def moved_date(node: exp.Binary, left: Value, right: Value) -> Value:
    """A date and a number of days, or the days between two dates."""
    from sqlglot import exp

    if right.kind == "date" and isinstance(node, exp.Sub):
        return Value(f"CAST(datediff({left.text}, {right.text}) AS BIGINT)", "int")
    if right.kind == "int":
        function = "date_add" if isinstance(node, exp.Add) else "date_sub"
        return Value(f"{function}({left.text}, CAST({right.text} AS INT))", "date")
    raise Unproven(
        node, f"adds or subtracts a date and a {right.kind}", "Add days (day + 7) or an INTERVAL, or use date_diff."
    )


@proven(*_PART_NODES)
def _part(to: Translator, node: exp.Expr) -> Value:
    only(node, "this")
    return _part_of(to, node.this, _PART_NODES[type(node).__name__])


@proven("Extract", "date_part", "weekday")
def _extract(to: Translator, node: exp.Expr) -> Value:
    if name_of(node) == "weekday":
        return _part_of(to, node.expressions[0], "dow")
    if name_of(node) == "date_part":
        return _part_of(to, node.expressions[1], to.written(node.expressions[0], "a part").lower())
    return _part_of(to, node.expression, node.this.name.lower())


def _part_of(to: Translator, node: exp.Expr, part: str) -> Value:
    if part == "epoch":
        return _epoch_of(to, node)
    if part not in _PARTS:
        raise Unproven(node, f"takes the {part} of a date", f"Take one of {', '.join(_PARTS)}, epoch.")
    text = to.moment(node).text
    return Value(f"CAST({_PARTS[part].format(text, f'CAST({text} AS TIMESTAMP)')} AS BIGINT)", "int")


@proven("TimeToUnix")
def _epoch(to: Translator, node: exp.Expr) -> Value:
    only(node, "this")
    return _epoch_of(to, node.this)


def _epoch_of(to: Translator, node: exp.Expr) -> Value:
    return Value(f"(CAST(unix_micros(CAST({to.moment(node).text} AS TIMESTAMP)) AS DOUBLE) / 1e6D)", "double")


@proven("TimestampTrunc", "DateTrunc")
def _truncated(to: Translator, node: exp.Expr) -> Value:
    only(node, "this", "unit")
    unit = node.args["unit"].name.lower()
    if unit not in _UNITS:
        raise Unproven(node, f"truncates a date to its {unit}", f"Truncate to one of {', '.join(_UNITS)}.")
    text = f"CAST({to.moment(node.this).text} AS TIMESTAMP)"
    return Value(f"date_trunc('{unit.upper()}', {text})", "timestamp")


@proven("DateDiff")
def _date_diff(to: Translator, node: exp.DateDiff) -> Value:
    only(node, "this", "expression", "unit")
    unit = node.args["unit"].name.lower() if node.args.get("unit") else ""
    end, start = to.moment(node.this).text, to.moment(node.expression).text
    if unit == "day":
        # Midnights between the two; Spark's timestampdiff counts whole days.
        text = f"datediff(CAST({end} AS DATE), CAST({start} AS DATE))"
    elif unit == "month":
        text = f"((year({end}) - year({start})) * 12 + month({end}) - month({start}))"
    elif unit == "year":
        text = f"(year({end}) - year({start}))"
    elif unit in _SECONDS:
        times = [f"unix_seconds(date_trunc('{unit.upper()}', CAST({x} AS TIMESTAMP)))" for x in (end, start)]
        text = f"(({times[0]} - {times[1]}) div {_SECONDS[unit]})"
    else:
        raise Unproven(
            node,
            f"counts {unit or 'something'} between dates",
            "Count year, month, day, hour, minute or second; weeks are days // 7.",
        )
    return Value(f"CAST({text} AS BIGINT)", "int")


@proven("LastDay")
def _last_day(to: Translator, node: exp.LastDay) -> Value:
    only(node, "this")
    return Value(f"last_day(CAST({to.moment(node.this).text} AS DATE))", "date")


@proven("DateFromParts")
def _make_date(to: Translator, node: exp.DateFromParts) -> Value:
    only(node, "year", "month", "day")
    parts = [f"CAST({to.number(node.args[name], 'int').text} AS INT)" for name in ("year", "month", "day")]
    return Value(f"make_date({', '.join(parts)})", "date")
