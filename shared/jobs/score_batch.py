"""Batch scoring of files of any size: ``python -m shared.jobs.score_batch <spec.json>``.

Rows stream through DuckDB, which types them and runs features.sql, and through the model, a few
thousand at a time. The output is prepared beside the spec and moved into place when it is whole, so
the job may die anywhere and be run again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shared.domain.categories import positive_class
from shared.domain.records import from_record
from shared.domain.signature import SignatureColumn
from shared.errors import LandfallError, Rejected
from shared.features.column_types import NULL_TEXTS, SQL_TYPES, quote, text, typed
from shared.features.features_sql import DIALECT, analyse, parse, scoring_sql
from shared.models.compiled_model import CompiledModel, load
from shared.models.model_signature import signature_of
from shared.models.served_model import ServedModel
from shared.ports.feature_engine import Manifest

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_ROWS = 20_000
PROGRESS_SECONDS = 2.0
KEY, PROBLEM = "landfall_key", "landfall_problem"
"""Columns that go with a row to its output; inside the query they carry ``_in`` behind their names."""


@dataclass(frozen=True, kw_only=True)
class ScoringSpec:
    """What the process is given. ``files`` and ``output`` are local paths, ``manifest`` and ``compiled`` (the
    model's compiled form) one or empty.

    The rest is as in :class:`~shared.ports.batch_service.BatchScoringJob`.
    """

    files: tuple[str, ...]
    output: str
    model: str
    version: str
    key: str
    label: str
    positive: str | None = None
    manifest: str = ""
    compiled: str = ""


def main(arguments: list[str]) -> int:
    """Run the job of a spec file; 0 when the output is there, else 1 after a line that says why."""
    place = Path(arguments[0])
    spec = from_record(ScoringSpec, json.loads(place.read_text()))
    try:
        score(spec, place.with_name("output.parquet"))
    except LandfallError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def printed(progress: dict[str, float]) -> None:
    """Say how far the job is on standard output, a JSON object a line."""
    print(json.dumps(progress), flush=True)


def score(spec: ScoringSpec, part: Path, say: Callable[[dict[str, float]], None] = printed) -> int:
    """Score all files into ``spec.output`` and return the number of rows; ``part`` is where it is prepared.

    ``say`` is called every few seconds, and at the end, with the rows, problems and seconds so far.
    """
    import duckdb
    import pyarrow.parquet as pq

    signature = signature_of((Path(spec.model) / "MLmodel").read_text(encoding="utf-8"))
    if not signature:
        raise Rejected(f"version {spec.version} has no signature with named columns, so no file can be scored with it")
    progress = _Progress(say)
    writer: pq.ParquetWriter | None = None
    with duckdb.connect() as connection:
        _set_up(connection, part.parent)
        try:
            for table in _scored(connection, spec, signature, progress):
                writer = writer or pq.ParquetWriter(part, table.schema)
                writer.write_table(table.cast(writer.schema))
        except duckdb.Error as error:
            raise Rejected(f"the input cannot be read: {error}") from error
        finally:
            if writer is not None:
                writer.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    Path(spec.output).parent.mkdir(parents=True, exist_ok=True)
    part.replace(spec.output)
    progress.say(force=True)
    return progress.rows


def _set_up(connection: duckdb.DuckDBPyConnection, work: Path) -> None:
    for setting in (
        "memory_limit = '1GiB'",
        f"temp_directory = {text(str(work / 'spill'))}",
        "TimeZone = 'UTC'",
        "enable_progress_bar = false",
        # As in preparation, so that the same row gives the same features.
        "error_on_division_by_zero = false",
        "ieee_floating_point_ops = false",
    ):
        connection.execute(f"SET {setting}")


def _scored(
    connection: duckdb.DuckDBPyConnection,
    spec: ScoringSpec,
    signature: tuple[SignatureColumn, ...],
    progress: _Progress,
) -> Iterator[pa.Table]:
    """The output, some rows at a time. Raises Rejected when there is nothing that can be scored."""
    source, types = _source(connection, spec.files)
    rows = connection.sql(_query(spec, signature, source, types))
    key = _found(spec.key, types) or "row"
    batches = iter(rows.to_arrow_reader(BATCH_ROWS))
    first = next(batches, None)
    if first is None or not first.num_rows:
        raise Rejected("the input has no rows")
    said = first.column(PROBLEM)
    if said.null_count == 0:
        raise Rejected(f"none of the first {first.num_rows} rows can be scored: {said[0].as_py()}")
    # Loaded when there is something to score: that takes longer than to find most faults.
    model = load(Path(spec.model), Path(spec.compiled) if spec.compiled else None)
    positive = positive_class(model.classes, spec.positive) if model.classes else None
    # A compiled model works on one batch for each core; a model's own code may not be fit for that.
    workers = os.cpu_count() or 1 if isinstance(model, CompiledModel) else 1
    table = _answered(first, key, spec.version, model, positive)
    kind = table.schema.field("prediction").type
    yield _counted(table, progress)
    under_way: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(workers, "score") as pool:
        try:
            for batch in batches:
                under_way.append(pool.submit(_answered, batch, key, spec.version, model, positive, kind))
                if len(under_way) > workers:
                    yield _counted(under_way.popleft().result(), progress)
            while under_way:
                yield _counted(under_way.popleft().result(), progress)
        finally:
            for future in under_way:
                future.cancel()


def _counted(table: pa.Table, progress: _Progress) -> pa.Table:
    progress.add(table.num_rows, table.num_rows - table.column("problem").null_count)
    return table


def _answered(
    batch: pa.RecordBatch,
    key: str,
    version: str,
    model: CompiledModel | ServedModel,
    positive: int | None,
    kind: pa.DataType | None = None,
) -> pa.Table:
    """The output of a batch: predictions, of type ``kind`` if it is known, for the rows without a problem."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    size, problems = batch.num_rows, batch.column(PROBLEM)
    fine = None if problems.null_count == size else pc.is_null(problems)
    asked = (batch if fine is None else batch.filter(fine)).drop_columns([KEY, PROBLEM]).to_pandas()
    probability = np.full(size, np.nan)
    places = slice(None) if fine is None else fine.to_numpy(zero_copy_only=False)
    if len(asked):
        values, probabilities = model.answer_frame(model.typed(asked))
        if probabilities is not None:
            probability[places] = probabilities.max(axis=1) if positive is None else probabilities[:, positive]
    else:
        values = np.empty(0, dtype=object)
    if fine is None and values.dtype != object:
        predictions = pa.array(values, type=kind)
    else:
        spread = np.full(size, None, dtype=object)
        spread[places] = values.tolist()
        predictions = pa.array(spread, type=kind or pa.array(model.classes or values.tolist()).type)
    return pa.table(
        {
            key: batch.column(KEY),
            "prediction": predictions,
            "probability": pa.array(probability, mask=np.isnan(probability)),
            "version": pa.repeat(version, size),
            "problem": problems.cast(pa.string()),
        }
    )


def _source(connection: duckdb.DuckDBPyConnection, files: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """A table expression over all files, and the DuckDB type of each of its columns. Text files are all text."""
    kinds = {_format(file) for file in files}
    if len(kinds) != 1:
        raise Rejected(
            f"the input mixes {' and '.join(sorted(kinds))}: score one format at a time" if kinds else _NO_FILES
        )
    listed = f"[{', '.join(text(file) for file in files)}]"
    match kinds.pop():
        case "parquet":
            source = f"read_parquet({listed}, union_by_name = true)"
        case "csv":
            source = f"read_csv({listed}, header = true, all_varchar = true, union_by_name = true)"
        case _:
            sniffed = f"read_json({listed}, format = 'newline_delimited', union_by_name = true)"
            names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {sniffed}").fetchall()]
            columns = ", ".join(f"{text(name)}: 'VARCHAR'" for name in names)
            source = f"read_json({listed}, format = 'newline_delimited', columns = {{{columns}}})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return source, {row[0]: row[1] for row in described}


_NO_FILES = "the input has no file to score: parquet, csv or jsonl files whose names begin with a letter or digit"


def _format(file: str) -> str:
    name = file.lower().removesuffix(".gz")
    for kind, endings in {"parquet": (".parquet",), "csv": (".csv",), "jsonl": (".jsonl", ".ndjson", ".json")}.items():
        if name.endswith(endings):
            return kind
    raise Rejected(f"{Path(file).name} is neither .parquet nor .csv nor .jsonl")


def _query(spec: ScoringSpec, signature: tuple[SignatureColumn, ...], source: str, types: dict[str, str]) -> str:
    """The query that gives the model's columns in order, the key, and what is wrong with a row."""
    missing = [c.name for c in signature if c.required and not _found(c.name, types)]
    manifest = from_record(Manifest, json.loads(Path(spec.manifest).read_text())) if spec.manifest else None
    raw = {name: kind.removesuffix("?") for name, kind in manifest.landed_columns.items()} if manifest else {}
    whole_row = bool(raw) and all(_found(name, types) for name in raw if name.lower() != spec.label.lower())
    key = _found(spec.key, types)
    keyed = f"{quote(key)} AS {KEY}_in" if key else f"row_number() OVER () AS {KEY}_in"
    if not missing and not whole_row:
        inputs = [_typed(c.name, c.type, types) for c in signature]
        faults = [_misfit(c.name, c.type, types) for c in signature]
        typed_rows = f"SELECT {', '.join(inputs)}, {keyed}, {_first(faults)} AS {PROBLEM}_in FROM {source}"
        kept = f"SELECT *, {KEY}_in AS {KEY}, {PROBLEM}_in AS {PROBLEM} FROM ({typed_rows})"
        return _checked(signature, kept)
    if manifest is None:
        raise Rejected(f"the input lacks {', '.join(missing)}, which version {spec.version} needs")
    sql = scoring_sql(manifest.sql, spec.label, spec.key)
    read = analyse(sql).reads
    wanted = [n for n in raw if n.lower() in {r.lower() for r in read}] if read else list(raw)
    absent = [n for n in wanted if not _found(n, types) and not manifest.landed_columns[n].endswith("?")]
    absent = [n for n in absent if n.lower() not in (spec.label.lower(), spec.key.lower())]
    if absent:
        raise Rejected(
            f"the input has neither all columns of the model (it lacks {', '.join(missing)}) nor all landed ones"
            f" (it lacks {', '.join(absent)})"
        )
    landed = [_typed(name, raw[name], types) for name in wanted]
    faults = [_misfit(name, raw[name], types) for name in wanted]
    rows = f"SELECT {', '.join(landed)}, {keyed}, {_first(faults)} AS {PROBLEM}_in FROM {source}"
    return _checked(signature, f"WITH landed AS ({rows}) {_with_problems(sql)}")


def _with_problems(sql: str) -> str:
    """``sql`` with the key, and with rows that its WHERE leaves out kept as a problem: no row goes missing."""
    from sqlglot import exp

    query = parse(sql)
    problem: exp.Expr = exp.column(f"{PROBLEM}_in")
    where = query.args.get("where")
    if where is not None:
        said = f"features.sql keeps only rows where {where.this.sql(dialect=DIALECT)}"
        left_out = exp.Case().when(
            exp.Not(this=exp.func("COALESCE", exp.paren(where.this), exp.false())), exp.Literal.string(said)
        )
        problem = exp.func("COALESCE", problem, left_out)
        query.set("where", None)
    query.append("expressions", exp.alias_(exp.column(f"{KEY}_in"), KEY))
    query.append("expressions", exp.alias_(problem, PROBLEM))
    return query.sql(dialect=DIALECT)


def _checked(signature: tuple[SignatureColumn, ...], query: str) -> str:
    """``query`` with the signature's types, and a problem where a value that the model needs is missing."""
    columns = ", ".join(f"TRY_CAST({quote(c.name)} AS {SQL_TYPES[c.type]}) AS {quote(c.name)}" for c in signature)
    needed = [
        _Check(
            f"{quote(c.name)} IS NOT NULL",
            f"CASE WHEN {quote(c.name)} IS NULL THEN {text(c.name + ': a value is required')} END",
        )
        for c in signature
        if c.required
    ]
    return f"SELECT {columns}, {KEY}, COALESCE({PROBLEM}, {_first(needed)}) AS {PROBLEM} FROM ({query})"


def _typed(name: str, kind: str, types: dict[str, str]) -> str:
    found = _found(name, types)
    value = typed(found, types[found], kind) if found else f"CAST(NULL AS {SQL_TYPES[kind]})"
    return f"{value} AS {quote(name)}"


class _Check(NamedTuple):
    """SQL about a value: ``fine`` is true where there is surely no problem, else false; ``problem`` says which."""

    fine: str
    problem: str


def _misfit(name: str, kind: str, types: dict[str, str]) -> _Check | None:
    """What is wrong with a value that its type cannot take, and with numbers that are not finite; None: never any."""
    found = _found(name, types)
    if not found:
        return None
    column, value = quote(found), typed(found, types[found], kind)
    said = f"concat({text(name + ': ')}, left(CAST({column} AS VARCHAR), 100), {text(f' is no {kind}')})"
    if value == column:
        if kind != "double":
            return None
        return _Check(f"COALESCE(isfinite({column}), true)", f"CASE WHEN NOT isfinite({column}) THEN {said} END")
    bad = f"{value} IS NULL AND nullif(trim(CAST({column} AS VARCHAR)), '') IS NOT NULL"
    fine = f"{value} IS NOT NULL"
    if kind != "string":
        bad += f" AND trim(CAST({column} AS VARCHAR)) NOT IN {NULL_TEXTS!r}"
    if kind == "double":
        bad = f"({bad}) OR NOT isfinite({value})"
        fine = f"COALESCE(isfinite({value}), false)"
    return _Check(fine, f"CASE WHEN {bad} THEN {said} END")


def _first(checks: list[_Check] | list[_Check | None]) -> str:
    """The first problem of a row. Each value is looked at closely only in a row that is not surely fine."""
    there = [check for check in checks if check is not None]
    if not there:
        return "NULL"
    fine, problems = " AND ".join(c.fine for c in there), ", ".join(c.problem for c in there)
    return f"CASE WHEN NOT ({fine}) THEN COALESCE({problems}, NULL) END"


def _found(name: str, types: dict[str, str]) -> str | None:
    """The input's own spelling of a column, in any case."""
    if name in types:
        return name
    return next((column for column in types if column.lower() == name.lower()), None)


class _Progress:
    """Rows done, said every few seconds."""

    def __init__(self, say: Callable[[dict[str, float]], None]) -> None:
        self._tell = say
        self.rows = 0
        self.problems = 0
        self._start = self._said = time.monotonic()

    def add(self, rows: int, problems: int) -> None:
        self.rows += rows
        self.problems += problems
        self.say()

    def say(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._said >= PROGRESS_SECONDS:
            self._said = now
            self._tell({"rows": self.rows, "problems": self.problems, "seconds": round(now - self._start, 1)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
