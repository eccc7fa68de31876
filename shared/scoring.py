"""Scoring by hand: a request in one of four forms, checked against the model's signature, answered and logged."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from functools import partial
from itertools import chain
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from shared import features_sql
from shared.catalog import PipelineFolder
from shared.domain.categories import positive_class
from shared.domain.ledger import Version
from shared.domain.records import from_record
from shared.domain.signature import SignatureColumn
from shared.errors import InvalidRequest, Missing, Refused, Rejected, Transient
from shared.loop import Loop
from shared.number_array import NumberArray
from shared.number_rows import NumberRequest
from shared.ports.endpoint_service import Answer, Route
from shared.ports.feature_engine import Manifest
from shared.ports.model_registry import ModelRegistry

MAX_ROWS = 10_000
MAX_FAULTS = 100
FORMS = ("data", "dataframe_records", "dataframe_split", "inputs")
KEYS = "keys"
"""Beside the rows: the key of each, where they have no column of it."""


class TooManyRows(InvalidRequest):
    """More rows than one request may have; a batch scoring job takes any number."""


def score(loop: Loop, name: str, payload: Any, *, deployment: str | None = None, request_id: str) -> dict[str, Any]:
    """Answer ``payload``, parsed JSON or a NumberRequest, with the model of pipeline ``name``, and log both.

    The rows are under one of the keys ``data`` (lists of values in the order of the signature),
    ``dataframe_records`` (objects), ``dataframe_split`` ({"columns": […], "data": [[…]]}) or
    ``inputs`` (objects, lists, or one object of columns). Named columns are the model's own in any
    order, or the landed ones, which then go through a row-wise features.sql; the key and the label
    may be among them and do not reach the model. ``deployment`` chooses one whatever its traffic.

    The log notes the key of each row, so that labels that land later tell how good its answer was: the
    column features.key among named columns, or for rows of any form a list ``keys`` beside them.

    The result has predictions (one per row), probabilities (a list per row in the order of classes;
    both None for regression), classes, model {name, version}, deployment and request_id.

    Raises InvalidRequest with up to 100 faults (row from 0, column, value, expected, problem),
    Missing for an unknown pipeline or deployment, Refused when nothing can serve yet, Transient when
    the deployment does not answer.
    """
    folder = loop.catalog.lately(name)
    route, mirror = _route(loop, folder, deployment)
    columns, rows = _rows(loop, folder, _version(loop, route), payload)
    keys = _keys(payload, folder.pipeline.features.key, len(rows))
    answer = _ask(loop, folder, route, columns, rows, request_id, keys=keys)
    if mirror is not None and random.random() * 100 < mirror.mirror:
        loop.mirror.send(partial(_ask_again, loop, folder, mirror, payload, request_id), len(rows))
    return {
        "predictions": answer.predictions,
        "probabilities": answer.probabilities,
        "classes": answer.classes,
        "model": {"name": route.model, "version": route.version},
        "deployment": answer.deployment,
        "request_id": request_id,
    }


def _ask(
    loop: Loop,
    folder: PipelineFolder,
    route: Route,
    columns: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    request_id: str,
    *,
    keys: list[Any] | None = None,
    mirrored: bool = False,
) -> Answer:
    """The answer of a deployment; it is logged, also that there was none."""
    at = loop.ports.clock.now()

    def log(answer: Answer | None, error: str | None) -> None:
        loop.predictions.record(
            folder.pipeline.name,
            request_id=request_id,
            deployment=route.deployment,
            version=route.version,
            at=at,
            milliseconds=answer.milliseconds if answer else 0.0,
            columns=columns,
            rows=rows,
            predictions=answer.predictions if answer else (),
            probability=_positive(answer, folder.pipeline.gate.positive) if answer else None,
            error=error,
            mirrored=mirrored,
            keys=keys,
        )

    try:
        answer = loop.ports.endpoints.score(folder.pipeline.endpoint, columns, rows, deployment=route.deployment)
    except Missing as error:
        raise Transient(f"deployment {route.deployment} was removed a moment ago; ask again") from error
    except Exception as error:
        log(None, f"{type(error).__name__}: {error}")
        raise
    log(answer, None)
    return answer


def _ask_again(loop: Loop, folder: PipelineFolder, route: Route, payload: Any, request_id: str) -> None:
    """Ask the deployment that gets copies what another one has answered; the answer is only logged.

    Input that it would refuse counts as an error of its own: callers send what the other one takes.
    """
    try:
        columns, rows = _rows(loop, folder, _version(loop, route), payload)
    except Rejected as error:
        loop.predictions.record(
            folder.pipeline.name,
            request_id=request_id,
            deployment=route.deployment,
            version=route.version,
            at=loop.ports.clock.now(),
            milliseconds=0.0,
            columns=(),
            rows=(),
            predictions=(),
            probability=None,
            error=f"{type(error).__name__}: {error}",
            mirrored=True,
        )
        return
    _ask(loop, folder, route, columns, rows, request_id, mirrored=True)


def _positive(answer: Answer, positive: str | None) -> Sequence[float] | None:
    """One probability per row: of the positive class, of the likeliest where there is none; None for regression."""
    if answer.probabilities is None or answer.classes is None:
        return None
    index = positive_class(answer.classes, positive)
    if isinstance(answer.probabilities, NumberArray):
        return answer.probabilities.largest() if index is None else answer.probabilities.column(index)
    return [max(row) if index is None else row[index] for row in answer.probabilities]


def _route(loop: Loop, folder: PipelineFolder, deployment: str | None) -> tuple[Route, Route | None]:
    """The deployment that shall answer, and one that gets copies, unless a deployment was asked for by its name.

    It is chosen here so that the input is checked against its own signature.
    """
    name, endpoint = folder.pipeline.name, folder.pipeline.endpoint
    routes = loop.ports.endpoints.routes(endpoint)
    if deployment is None:
        live = [route for route in routes if route.share]
        if not live:
            raise Refused(f"pipeline {name} has no live model yet: the first version that passes the gate will answer")
        chosen = live[0] if len(live) == 1 else random.choices(live, weights=[route.share for route in live])[0]
        return chosen, None if len(routes) == 1 else next((route for route in routes if route.mirror), None)
    for route in routes:
        if route.deployment == deployment:
            return route, None
    present = loop.ports.endpoints.deployments(endpoint)
    if deployment not in present:
        there = f"it has {', '.join(sorted(present))}" if present else "it has none"
        raise Missing(f"endpoint {endpoint} has no deployment {deployment}: {there}")
    found = present[deployment]
    if found.state == "failed":
        raise Refused(f"deployment {deployment} of endpoint {endpoint} failed: {found.reason}")
    raise Transient(f"deployment {deployment} of endpoint {endpoint} is {found.state}; ask again later")


@dataclass
class _Raw:
    """How raw rows become the model's: ``reads`` of the landed ``columns`` through ``sql``; ``refusal``: why not.

    A type with ``?`` behind it allows nulls, so that its column may be left out.
    """

    columns: dict[str, str]
    reads: frozenset[str] = frozenset()
    sql: str = ""
    refusal: str = ""


@dataclass
class _Version:
    """What a model version takes. It never changes, so it is found out once.

    ``alike`` is any of its columns if all have the same type and may, or may not, be null. ``numbers``: all of them
    are doubles.
    """

    route: Route
    signature: tuple[SignatureColumn, ...]
    names: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    alike: SignatureColumn | None = None
    numbers: bool = False
    raw: _Raw | None = None

    def __post_init__(self) -> None:
        self.names = tuple(column.name for column in self.signature)
        self.required = frozenset(column.name for column in self.signature if column.required)
        if len({(column.type, column.required) for column in self.signature}) == 1:
            self.alike = self.signature[0]
        self.numbers = {column.type for column in self.signature} == {"double"}


_versions: WeakKeyDictionary[ModelRegistry, dict[tuple[str, str], _Version]] = WeakKeyDictionary()


def _version(loop: Loop, route: Route) -> _Version:
    known = _versions.setdefault(loop.ports.registry, {})
    key = (route.model, route.version)
    if key not in known:
        # The ledger answers at once, the registry after seconds of imports in a process that has just begun.
        entry = loop.ports.ledger.read(Version, *key)
        signature = entry.signature if entry else None
        if signature is None:
            registered = loop.ports.registry.get(*key)
            if registered is None:
                raise Missing(f"version {route.version} of model {route.model} is deployed but not in the registry")
            signature = registered.signature
        known[key] = _Version(route, signature)
    return known[key]


def _raw(loop: Loop, folder: PipelineFolder, version: _Version) -> _Raw | None:
    """What the features of this version were made from; None when no run of the loop made it."""
    if version.raw is None:
        pipeline = folder.pipeline
        entry = loop.ports.ledger.read(Version, pipeline.name, version.route.version)
        if entry is None or not entry.features:
            return None
        path = f"{entry.features}/manifest.json"
        try:
            manifest = from_record(Manifest, json.loads(loop.ports.lake.read(path)))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise Rejected(
                f"{path} is no manifest ({error!r}), so landed rows cannot be prepared; send prepared features:"
                f" {', '.join(version.names)}"
            ) from error
        key, label = pipeline.features.key, pipeline.features.label
        try:
            sql = features_sql.scoring_sql(manifest.sql or folder.sql, label, key)
        except Rejected as error:
            version.raw = _Raw(manifest.landed_columns, refusal=str(error))
        else:
            reads = features_sql.analyse(sql).reads
            read = (
                {name.lower() for name in reads}
                if reads
                else {n.lower() for n in manifest.landed_columns} - {key.lower(), label.lower()}
            )
            version.raw = _Raw(
                manifest.landed_columns, frozenset(n for n in manifest.landed_columns if n.lower() in read), sql
            )
    return version.raw


class _Faults:
    """What is wrong with a request: the first faults in full, and how many there are."""

    def __init__(self) -> None:
        self.first: list[dict[str, object]] = []
        self.total = 0

    def add(self, **fault: object) -> None:
        self.total += 1
        if len(self.first) < MAX_FAULTS:
            if "value" in fault:
                fault["value"] = _shown(fault["value"])
            self.first.append(fault)

    def check(self) -> None:
        """Raise InvalidRequest when there is any."""
        if self.total:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise InvalidRequest with what was added."""
        first = self.first[0]
        place = ", ".join(f"{key} {first[key]}" for key in ("row", "column") if key in first)
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        raise InvalidRequest(f"{place}: {first['problem']}{more}", self.first)


def _shown(value: object) -> object:
    """``value`` as a fault names it: JSON, and never long."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else f"an integer of {value.bit_length()} bits"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


@dataclass(frozen=True)
class _Table:
    """The rows of a request; ``names`` is None when its columns have only positions. ``column`` gives one by either;
    ``rows`` are lists of values, where the request had them so."""

    size: int
    names: tuple[str, ...] | None
    column: Callable[[Any], Sequence[Any]] = field(repr=False)
    rows: list[Any] | None = field(default=None, repr=False)


def _rows(
    loop: Loop, folder: PipelineFolder, version: _Version, payload: Any
) -> tuple[tuple[str, ...], Sequence[Sequence[Any]]]:
    """The columns and rows that the model takes, valid by its signature."""
    if isinstance(payload, NumberRequest):
        named = payload.columns in (None, version.names)
        if version.numbers and named and payload.width == len(version.names) and len(payload.rows) <= MAX_ROWS:
            return version.names, payload.rows
        payload = payload.payload
    table = _table(payload, version)
    if table.names is None:
        alike = version.alike
        if alike and table.rows and _fits(alike.type, alike.required, list(chain.from_iterable(table.rows))):
            return version.names, table.rows
        columns = [table.column(i) for i in range(len(version.names))]
        return version.names, _valid(version.signature, columns, table.rows)
    if not version.signature:
        free = tuple(SignatureColumn(name, "any", required=False) for name in table.names)
        return table.names, _valid(free, [table.column(name) for name in table.names])
    given = frozenset(table.names)
    extra = {folder.pipeline.features.key, folder.pipeline.features.label}
    if version.required <= given <= frozenset(version.names):
        return version.names, _valid(version.signature, _columns(table, version))
    raw = _raw(loop, folder, version)
    landed = frozenset(raw.columns) if raw else frozenset()
    # A landed row with all its columns is one, even where features.sql keeps every name.
    whole_row = landed - {folder.pipeline.features.label} <= given <= landed | extra
    if version.required <= given <= frozenset(version.names) | extra and not (raw and whole_row):
        return version.names, _valid(version.signature, _columns(table, version))
    if raw and given <= landed | extra:
        return version.names, _valid(version.signature, _prepared(loop, table, version, raw))
    _refuse_columns(table.names, version, raw, extra)


def _refuse_columns(names: Sequence[str], version: _Version, raw: _Raw | None, extra: set[str]) -> NoReturn:
    """Say what is wrong with columns that are neither the model's nor the landed ones, by what they are nearer to."""
    landed = raw.columns if raw and not raw.refusal else {}
    nearer_landed = sum(name in landed for name in names) > sum(name in version.names for name in names)
    known = list(landed if nearer_landed else version.names)
    faults = _Faults()
    for name in names:
        if name in extra or name in known:
            continue
        near = get_close_matches(name, known, n=1)
        cure = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        other = name in landed or name in version.names
        problem = (
            "send the model's columns or the landed ones, not some of both" if other else "there is no such column"
        )
        faults.add(column=_shown(name), problem=problem if other else f"{problem}; {cure}")
    for column in () if nearer_landed else version.signature:
        if column.required and column.name not in names:
            faults.add(column=column.name, expected=column.type, problem="the column is missing")
    faults.refuse()


def _keys(payload: Any, column: str, size: int) -> list[Any] | None:
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


def _columns(table: _Table, version: _Version) -> list[Sequence[Any]]:
    names = frozenset(table.names or ())
    return [table.column(name) if name in names else [None] * table.size for name in version.names]


def _prepared(loop: Loop, table: _Table, version: _Version, raw: _Raw) -> list[Sequence[Any]]:
    """Raw rows through features.sql."""
    if raw.refusal:
        raise InvalidRequest(f"{raw.refusal}: {', '.join(version.names)}")
    faults = _Faults()
    given = frozenset(table.names or ())
    for name in raw.columns:
        if name in raw.reads and name not in given and not raw.columns[name].endswith("?"):
            faults.add(column=name, expected=raw.columns[name], problem="the landed column is missing")
    faults.check()
    names = [name for name in table.names or () if name in raw.reads]
    values = [table.column(name) for name in names]
    for name, column in zip(names, values, strict=True):
        for row, value in enumerate(column):
            if type(value) is str and not _encodable([value]):
                faults.add(row=row, column=name, value=value, problem=_HALF)
    faults.check()
    rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    types = {name: kind for name, kind in raw.columns.items() if name in raw.reads}
    prepared = loop.ports.features.prepare_rows(raw.sql, types, rows)
    missing = [name for name in version.names if name not in prepared[0]]
    if missing:
        raise InvalidRequest(
            f"features.sql does not give {', '.join(missing)} any more, which version {version.route.version} was"
            f" trained with; send prepared features: {', '.join(version.names)}"
        )
    return [[row[name] for row in prepared] for name in version.names]


def _table(payload: Any, version: _Version) -> _Table:
    """Read the one form that the request has."""
    if not isinstance(payload, dict):
        raise InvalidRequest(f"the request must be a JSON object with one of {', '.join(FORMS)}")
    present = [form for form in FORMS if form in payload]
    unknown = [key for key in payload if key not in FORMS and key != KEYS]
    if unknown:
        near = get_close_matches(str(unknown[0]), FORMS, n=1)
        cure = f"did you mean {near[0]}?" if near else f"it takes one of {', '.join(FORMS)}"
        faults: list[dict[str, object]] = [{"field": _shown(key), "problem": "unknown"} for key in unknown[:MAX_FAULTS]]
        raise InvalidRequest(f"the request has an unknown key {_shown(unknown[0])}; {cure}", faults)
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
    if not version.signature:
        raise InvalidRequest(
            f"the model has no signature, so {form} without names cannot be read; send dataframe_split"
        )
    return _list_table(value, None, len(version.names))


def _check_size(form: str, rows: Sequence[Any]) -> None:
    if not rows:
        raise InvalidRequest(f"{form} has no rows", [{"field": form, "problem": "empty"}])
    if len(rows) > MAX_ROWS:
        raise TooManyRows(
            f"{form} has {len(rows)} rows; one request takes up to {MAX_ROWS}. Put them into the lake as a file and"
            " ask for batch scoring"
        )


def _list_table(rows: list[Any], names: tuple[str, ...] | None, width: int) -> _Table:
    faults = _Faults()
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

        return _Table(len(rows), None, column, rows)
    return _Table(len(rows), names, dict(zip(names, zip(*rows, strict=True), strict=True)).__getitem__)


def _record_table(form: str, rows: list[Any]) -> _Table:
    faults = _Faults()
    for i, row in enumerate(rows):
        if type(row) is not dict:
            faults.add(row=i, value=row, problem="must be an object of columns and values")
    faults.check()
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    if not names:
        raise InvalidRequest(f"the rows of {form} have no columns", [{"field": form, "problem": "empty"}])
    return _Table(len(rows), tuple(names), lambda name: [row.get(name) for row in rows])


def _split_table(value: Any) -> _Table:
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
            f"{form}.columns names {_shown(twice)} twice", [{"column": _shown(twice), "problem": "twice"}]
        )
    if not isinstance(rows, list):
        raise InvalidRequest(
            f"{form}.data must be a list of rows", [{"field": f"{form}.data", "problem": "not a list"}]
        )
    _check_size(form, rows)
    return _list_table(rows, tuple(names), len(names))


def _column_table(columns: dict[str, Any]) -> _Table:
    faults = _Faults()
    for name, values in columns.items():
        if not isinstance(values, list):
            faults.add(column=_shown(name), value=values, problem="must be a list with a value per row")
    faults.check()
    if not columns:
        raise InvalidRequest("inputs has no columns", [{"field": "inputs", "problem": "empty"}])
    sizes = {name: len(values) for name, values in columns.items()}
    size = next(iter(sizes.values()))
    for name, other in sizes.items():
        if other != size:
            faults.add(column=_shown(name), problem=f"has {other} values, the first column has {size}")
    faults.check()
    _check_size("inputs", next(iter(columns.values())))
    return _Table(size, tuple(columns), columns.__getitem__)


def _valid(
    signature: Iterable[SignatureColumn], columns: Sequence[Sequence[Any]], rows: list[Any] | None = None
) -> list[Any]:
    """Rows of the columns after every value was checked; they are ``rows`` when no value had to be converted.

    Columns of one type are looked at as one, and only if that does not let them pass each for itself.
    """
    alike: dict[tuple[str, bool], list[Any]] = {}
    for column, values in zip(signature, columns, strict=True):
        alike.setdefault((column.type, column.required), []).extend(values)
    if all(_fits(type_, required, values) for (type_, required), values in alike.items()):
        return list(zip(*columns, strict=True)) if rows is None else rows
    faults = _Faults()
    checked = [_check(column, values, faults) for column, values in zip(signature, columns, strict=True)]
    faults.first.sort(key=lambda fault: str(fault.get("row", "")).zfill(6))
    faults.check()
    return list(zip(*checked, strict=True))


def _check(column: SignatureColumn, values: Sequence[Any], faults: _Faults) -> Sequence[Any]:
    """The values as the model takes them, one by one where something has to be converted or named."""
    if _fits(column.type, column.required, values):
        return values
    read = _READ[column.type]
    checked: list[Any] = []
    for i, value in enumerate(values):
        if value is None:
            if column.required:
                faults.add(row=i, column=column.name, value=None, expected=column.type, problem="a value is required")
            checked.append(None)
            continue
        try:
            checked.append(read(value))
        except ValueError as error:
            faults.add(row=i, column=column.name, value=value, expected=column.type, problem=str(error))
    return checked


def _fits(type_: str, required: bool, values: Sequence[Any]) -> bool:
    """True when all values are what the model takes: told by the set of their types and one look at all of them."""
    whole = _WHOLE.get(type_)
    if whole is None:
        return False
    kinds = set(map(type, values))
    if not required:
        kinds.discard(type(None))
    return kinds <= whole[0] and whole[1](values)


def _finite(values: Sequence[Any]) -> bool:
    try:
        # One that is not makes the sum so, too.
        return math.isfinite(sum(values))
    except (OverflowError, TypeError):
        return False


def _within(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    return not present or (min(present) >= -(2**63) and max(present) < 2**63)


def _encodable(values: Sequence[Any]) -> bool:
    text = "".join(value for value in values if value is not None)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_WHOLE: dict[str, tuple[set[type], Callable[[Sequence[Any]], bool]]] = {
    "string": ({str}, _encodable),
    "int": ({int}, _within),
    "double": ({int, float}, _finite),
    "boolean": ({bool}, lambda values: True),
}


_HALF = "holds half of a surrogate pair, which is no character"


def _read_string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(_HALF) from error
    return value


def _read_double(value: Any) -> float:
    if type(value) not in (int, float, Decimal):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("is beyond the range of a double") from error
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _read_int(value: Any) -> int:
    if type(value) not in (int, float, Decimal):
        raise ValueError("must be a whole number")
    if type(value) is not int and (not math.isfinite(value) or value != int(value)):
        raise ValueError("must be a whole number")
    if not -(2**63) <= value < 2**63:
        raise ValueError("is beyond the range of a 64-bit integer")
    return int(value)


def _read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _read_date(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if type(value) is str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            pass
    raise ValueError("must be a date as YYYY-MM-DD")


def _read_timestamp(value: Any) -> str:
    """Timestamps are without a zone in the features; one that has a zone is turned into UTC."""
    moment = value if isinstance(value, datetime) else None
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if moment is None:
        raise ValueError("must be a time as in 2024-05-31T12:30:00 (UTC, or with an offset)")
    try:
        return (moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment).isoformat()
    except OverflowError as error:
        raise ValueError("is beyond the calendar") from error


def _read_any(value: Any) -> Any:
    if type(value) in (int, float):
        _read_double(value)
        return value
    if type(value) is bool:
        return value
    return _read_string(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "string": _read_string,
    "int": _read_int,
    "double": _read_double,
    "boolean": _read_boolean,
    "date": _read_date,
    "timestamp": _read_timestamp,
    "any": _read_any,
}
