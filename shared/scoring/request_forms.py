"""The forms that a request may have: rows as lists, objects or columns, and the keys beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from shared.errors import InvalidRequest
from shared.scoring.faults import MAX_FAULTS, Faults, shown
from shared.scoring.number_rows import NumberRequest

MAX_ROWS = 10_000
FORMS = ("data", "dataframe_records", "dataframe_split", "inputs")
KEYS = "keys"
"""Beside the rows: the key of each, where they have no column of it."""


class TooManyRows(InvalidRequest):
    """More rows than one request may have; a batch scoring job takes any number."""


@dataclass(frozen=True)
class Table:
    """The rows of a request; ``names`` is None when its columns have only positions. ``column`` gives one by either;
    ``rows`` are lists of values, where the request had them so."""

    size: int
    names: tuple[str, ...] | None
    column: Callable[[Any], Sequence[Any]] = field(repr=False)
    rows: list[Any] | None = field(default=None, repr=False)


def read_table(payload: Any, names: tuple[str, ...]) -> Table:
    """The rows of a request in the one form that it has; values without names are those of the columns ``names``.

    Raises InvalidRequest for what is no such request, TooManyRows for one that is too large.
    """
    if not isinstance(payload, dict):
        raise InvalidRequest(f"the request must be a JSON object with one of {', '.join(FORMS)}")
    present = [form for form in FORMS if form in payload]
    unknown = [key for key in payload if key not in FORMS and key != KEYS]
    if unknown:
        near = get_close_matches(str(unknown[0]), FORMS, n=1)
        cure = f"did you mean {near[0]}?" if near else f"it takes one of {', '.join(FORMS)}"
        faults: list[dict[str, object]] = [{"field": shown(key), "problem": "unknown"} for key in unknown[:MAX_FAULTS]]
        raise InvalidRequest(f"the request has an unknown key {shown(unknown[0])}; {cure}", faults)
    if len(present) != 1:
        what = f"has {' and '.join(present)}" if present else "is empty"
        raise InvalidRequest(f"the request {what}: it must have exactly one of {', '.join(FORMS)}")
    form = present[0]
    value = payload[form]
    if form == "dataframe_split":
        return _split_table(value)
    if form == "inputs" and isinstance(value, dict):
        return _column_table(value)
    if not isinstance(value, list):
        raise InvalidRequest(f"{form} must be a list of rows", [{"field": form, "problem": "not a list"}])
    _check_size(form, value)
    if form == "dataframe_records" or (form == "inputs" and isinstance(value[0], dict)):
        return _record_table(form, value)
    if not names:
        raise InvalidRequest(
            f"the model has no signature, so {form} without names cannot be read; send dataframe_split"
        )
    return _list_table(value, None, len(names))


def keys_of(payload: Any, column: str, size: int) -> list[Any] | None:
    """The key of each of the ``size`` rows of a valid request, None when it names none."""
    if isinstance(payload, NumberRequest):
        if payload.keys is None and column not in (payload.columns or ()):
            return None
        payload = {KEYS: payload.keys} if payload.keys is not None else payload.payload
    given = payload.get(KEYS)
    if given is None:
        return _key_column(next(payload[form] for form in FORMS if form in payload), column)
    if not isinstance(given, list) or len(given) != size:
        faults: list[dict[str, object]] = [{"field": KEYS, "problem": "not a key for each row"}]
        raise InvalidRequest(f"{KEYS} must be a list with the key of each of the {size} rows", faults)
    return given


def _key_column(table: Any, column: str) -> list[Any] | None:
    if isinstance(table, list):
        named = isinstance(table[0], dict) and any(column in row for row in table)
        return [row.get(column) for row in table] if named else None
    if table.keys() >= {"columns", "data"} and isinstance(table["data"][0], list):
        return [row[table["columns"].index(column)] for row in table["data"]] if column in table["columns"] else None
    return table.get(column)


def _check_size(form: str, rows: Sequence[Any]) -> None:
    if not rows:
        raise InvalidRequest(f"{form} has no rows", [{"field": form, "problem": "empty"}])
    if len(rows) > MAX_ROWS:
        raise TooManyRows(
            f"{form} has {len(rows)} rows; one request takes up to {MAX_ROWS}. Put them into the lake as a file and"
            " ask for batch scoring"
        )


def _list_table(rows: list[Any], names: tuple[str, ...] | None, width: int) -> Table:
    faults = Faults()
    for i, row in enumerate(rows):
        if type(row) is not list:
            faults.add(row=i, value=row, problem=f"must be a list of {width} values")
        elif len(row) != width:
            faults.add(row=i, problem=f"has {len(row)} values instead of {width}")
    faults.check()
    if names is None:
        # By columns only if they are asked for: many rows of one type are taken as they are.
        columns: list[Sequence[Any]] = []

        def column(number: int) -> Sequence[Any]:
            columns.extend(() if columns else zip(*rows, strict=True))
            return columns[number]

        return Table(len(rows), None, column, rows)
    return Table(len(rows), names, dict(zip(names, zip(*rows, strict=True), strict=True)).__getitem__)


def _record_table(form: str, rows: list[Any]) -> Table:
    faults = Faults()
    for i, row in enumerate(rows):
        if type(row) is not dict:
            faults.add(row=i, value=row, problem="must be an object of columns and values")
    faults.check()
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    if not names:
        raise InvalidRequest(f"the rows of {form} have no columns", [{"field": form, "problem": "empty"}])
    return Table(len(rows), tuple(names), lambda name: [row.get(name) for row in rows])


def _split_table(value: Any) -> Table:
    form = "dataframe_split"
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys() <= {"columns", "data", "index"}:
        raise InvalidRequest(f"{form} must be an object with columns and data (and perhaps index)")
    names, rows = value["columns"], value["data"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(
            f"{form}.columns must be a list of names", [{"field": f"{form}.columns", "problem": "no names"}]
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(
            f"{form}.columns names {shown(twice)} twice", [{"column": shown(twice), "problem": "twice"}]
        )
    if not isinstance(rows, list):
        raise InvalidRequest(
            f"{form}.data must be a list of rows", [{"field": f"{form}.data", "problem": "not a list"}]
        )
    _check_size(form, rows)
    return _list_table(rows, tuple(names), len(names))


def _column_table(columns: dict[str, Any]) -> Table:
    faults = Faults()
    for name, values in columns.items():
        if not isinstance(values, list):
            faults.add(column=shown(name), value=values, problem="must be a list with a value per row")
    faults.check()
    if not columns:
        raise InvalidRequest("inputs has no columns", [{"field": "inputs", "problem": "empty"}])
    sizes = {name: len(values) for name, values in columns.items()}
    size = next(iter(sizes.values()))
    for name, other in sizes.items():
        if other != size:
            faults.add(column=shown(name), problem=f"has {other} values, the first column has {size}")
    faults.check()
    _check_size("inputs", next(iter(columns.values())))
    return Table(size, tuple(columns), columns.__getitem__)
