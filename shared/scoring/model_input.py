"""What a model version takes, and a request's rows as that: its own columns, or landed ones through features.sql."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from shared.definitions.catalog import PipelineFolder
from shared.domain.ledger import Version
from shared.domain.signature import SignatureColumn
from shared.errors import InvalidRequest, Missing, Rejected
from shared.features import features_sql, manifests
from shared.loop import Loop
from shared.ports.endpoint_service import Route
from shared.ports.model_registry import ModelRegistry
from shared.scoring.faults import Faults, shown
from shared.scoring.number_rows import NumberRequest
from shared.scoring.request_forms import MAX_ROWS, Table, read_table
from shared.scoring.values import HALF, encodable, fits, valid


@dataclass
class RawInput:
    """How raw rows become the model's: ``reads`` of the landed ``columns`` through ``sql``; ``refusal``: why not.

    A type with ``?`` behind it allows nulls, so that its column may be left out.
    """

    columns: dict[str, str]
    reads: frozenset[str] = frozenset()
    sql: str = ""
    refusal: str = ""


@dataclass
class ModelInput:
    """What a model version takes. It never changes, so it is found out once."""

    route: Route
    signature: tuple[SignatureColumn, ...]
    raw: RawInput | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.signature)

    @cached_property
    def required(self) -> frozenset[str]:
        return frozenset(column.name for column in self.signature if column.required)

    @cached_property
    def alike(self) -> SignatureColumn | None:
        """Any column, if all have the same type and may, or may not, be null."""
        one = len({(column.type, column.required) for column in self.signature}) == 1
        return self.signature[0] if one else None

    @cached_property
    def numbers(self) -> bool:
        """True when all columns are doubles."""
        return {column.type for column in self.signature} == {"double"}


_known: WeakKeyDictionary[ModelRegistry, dict[tuple[str, str], ModelInput]] = WeakKeyDictionary()


def model_input(loop: Loop, route: Route) -> ModelInput:
    known = _known.setdefault(loop.ports.registry, {})
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
        known[key] = ModelInput(route, signature)
    return known[key]


def rows_of(
    loop: Loop, folder: PipelineFolder, version: ModelInput, payload: Any
) -> tuple[tuple[str, ...], Sequence[Sequence[Any]]]:
    """The columns and rows that the model takes, valid by its signature."""
    if isinstance(payload, NumberRequest):
        named = payload.columns in (None, version.names)
        if version.numbers and named and payload.width == len(version.names) and len(payload.rows) <= MAX_ROWS:
            return version.names, payload.rows
        payload = payload.payload
    table = read_table(payload, version.names)
    if table.names is None:
        alike = version.alike
        if alike and table.rows and fits(alike.type, alike.required, list(chain.from_iterable(table.rows))):
            return version.names, table.rows
        columns = [table.column(i) for i in range(len(version.names))]
        return version.names, valid(version.signature, columns, table.rows)
    if not version.signature:
        free = tuple(SignatureColumn(name, "any", required=False) for name in table.names)
        return table.names, valid(free, [table.column(name) for name in table.names])
    given = frozenset(table.names)
    extra = {folder.pipeline.features.key, folder.pipeline.features.label}
    if version.required <= given <= frozenset(version.names):
        return version.names, valid(version.signature, _columns(table, version))
    raw = _raw_input(loop, folder, version)
    landed = frozenset(raw.columns) if raw else frozenset()
    # A landed row with all its columns is one, even where features.sql keeps every name.
    whole_row = landed - {folder.pipeline.features.label} <= given <= landed | extra
    if version.required <= given <= frozenset(version.names) | extra and not (raw and whole_row):
        return version.names, valid(version.signature, _columns(table, version))
    if raw and given <= landed | extra:
        return version.names, valid(version.signature, _prepared(loop, table, version, raw))
    _refuse_columns(table.names, version, raw, extra)


def _raw_input(loop: Loop, folder: PipelineFolder, version: ModelInput) -> RawInput | None:
    """What the features of this version were made from; None when no run of the loop made it."""
    if version.raw is None:
        pipeline = folder.pipeline
        entry = loop.ports.ledger.read(Version, pipeline.name, version.route.version)
        if entry is None or not entry.features:
            return None
        try:
            manifest = manifests.read(loop.ports.lake, manifests.place(entry.features))
        except Missing:
            raise
        except Rejected as error:
            raise Rejected(
                f"landed rows cannot be prepared, send prepared features ({', '.join(version.names)}): {error}"
            ) from error
        key, label = pipeline.features.key, pipeline.features.label
        try:
            sql = features_sql.scoring_sql(manifest.sql or folder.sql, label, key)
        except Rejected as error:
            version.raw = RawInput(manifest.landed_columns, refusal=str(error))
        else:
            reads = features_sql.analyse(sql).reads
            read = (
                {name.lower() for name in reads}
                if reads
                else {n.lower() for n in manifest.landed_columns} - {key.lower(), label.lower()}
            )
            version.raw = RawInput(
                manifest.landed_columns, frozenset(n for n in manifest.landed_columns if n.lower() in read), sql
            )
    return version.raw


def _refuse_columns(names: Sequence[str], version: ModelInput, raw: RawInput | None, extra: set[str]) -> NoReturn:
    """Say what is wrong with columns that are neither the model's nor the landed ones, by what they are nearer to."""
    landed = raw.columns if raw and not raw.refusal else {}
    nearer_landed = sum(name in landed for name in names) > sum(name in version.names for name in names)
    known = list(landed if nearer_landed else version.names)
    faults = Faults()
    for name in names:
        if name in extra or name in known:
            continue
        near = get_close_matches(name, known, n=1)
        cure = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        other = name in landed or name in version.names
        problem = (
            "send the model's columns or the landed ones, not some of both" if other else "there is no such column"
        )
        faults.add(column=shown(name), problem=problem if other else f"{problem}; {cure}")
    for column in () if nearer_landed else version.signature:
        if column.required and column.name not in names:
            faults.add(column=column.name, expected=column.type, problem="the column is missing")
    faults.refuse()


def _columns(table: Table, version: ModelInput) -> list[Sequence[Any]]:
    names = frozenset(table.names or ())
    return [table.column(name) if name in names else [None] * table.size for name in version.names]


def _prepared(loop: Loop, table: Table, version: ModelInput, raw: RawInput) -> list[Sequence[Any]]:
    """Raw rows through features.sql."""
    if raw.refusal:
        raise InvalidRequest(f"{raw.refusal}: {', '.join(version.names)}")
    faults = Faults()
    given = frozenset(table.names or ())
    for name in raw.columns:
        if name in raw.reads and name not in given and not raw.columns[name].endswith("?"):
            faults.add(column=name, expected=raw.columns[name], problem="the landed column is missing")
    faults.check()
    names = [name for name in table.names or () if name in raw.reads]
    values = [table.column(name) for name in names]
    for name, column in zip(names, values, strict=True):
        for row, value in enumerate(column):
            if type(value) is str and not encodable([value]):
                faults.add(row=row, column=name, value=value, problem=HALF)
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
