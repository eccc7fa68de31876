"""Raw rows through a row-wise features.sql in this process, as scoring needs them: the same on every backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidRequest, Rejected
from shared.features.column_types import NULL_TEXTS, SQL_TYPES, quote, typed
from shared.features.features_sql import DIALECT, NOT_ROW_WISE, analyse, parse

if TYPE_CHECKING:
    import duckdb

MAX_FAULTS = 100
ROW = "landfall_row"


class RawRows:
    """One DuckDB in memory and its parsed statements, opened on first use. Several threads may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._con: duckdb.DuckDBPyConnection | None = None
        self._statement = lru_cache(maxsize=64)(self._prepare)

    def run(self, sql: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Run a row-wise ``sql`` on raw rows, in their order.

        A value may be of its column's type or text that reads as it, just as when it lands; one that a row leaves
        out is null.
        Raises :class:`~shared.errors.InvalidRequest` with up to 100 faults (row from 0, column, value,
        expected, problem) for values that do not fit, and for rows that the query's WHERE leaves out:
        no model was trained on such rows. Raises :class:`~shared.errors.Rejected` when ``sql`` is not
        row-wise.
        """
        import duckdb

        if not rows:
            return []
        given = tuple(columns.items())
        with self._lock:
            lists = _read(given, rows, self._read_texts)
            statement, con = self._statement(sql, given), self._open()
            try:
                con.execute(statement, [list(range(len(rows))), *lists])
                names = [str(column[0]) for column in con.description or ()]
                found = con.fetchall()
            except duckdb.Error as error:
                raise InvalidRequest(f"features.sql cannot take these rows: {error}") from error
        results: list[dict[str, Any] | None] = [None] * len(rows)
        for *values, row in found:
            results[row] = {name: value for name, value in zip(names, values, strict=False) if name != ROW}
        left_out = [row for row, result in enumerate(results) if result is None]
        if left_out:
            condition = parse(sql).args["where"].this.sql(dialect=DIALECT)
            problem = f"features.sql keeps only rows where {condition}, so no model was trained on such a row"
            faults: list[dict[str, object]] = [{"row": row, "problem": problem} for row in left_out[:MAX_FAULTS]]
            raise InvalidRequest(f"row {left_out[0]}: {problem}", faults)
        return [result for result in results if result is not None]

    def _open(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        if self._con is None:
            self._con = duckdb.connect(config={"threads": 1})
            for setting in (
                "TimeZone = 'UTC'",
                "error_on_division_by_zero = false",
                "ieee_floating_point_ops = false",
                "enable_external_access = false",
            ):
                self._con.execute(f"SET {setting}")
            # What it would save on a few rows is less than what it takes.
            self._con.execute("PRAGMA disable_optimizer")
        return self._con

    def _read_texts(self, kind: str, values: list[str]) -> list[Any]:
        """Texts as the column type ``kind``, by the expression that landed ones are read with; None: it is none."""
        query = f"SELECT {typed('value', 'VARCHAR', kind)} FROM (SELECT unnest($1::VARCHAR[]) AS value)"
        return [row[0] for row in self._open().execute(query, [values]).fetchall()]

    def _prepare(self, sql: str, columns: tuple[tuple[str, str], ...]) -> duckdb.Statement:
        import duckdb
        from sqlglot import exp

        facts = analyse(sql)
        if not facts.row_wise:
            why = "; ".join(str(found) for found in facts.faults) or NOT_ROW_WISE
            raise Rejected(f"features.sql cannot score raw rows: {why}. Send prepared features instead")
        query = parse(sql)
        query.set("distinct", None)
        given = {name.lower() for name, _ in columns}
        for star in query.find_all(exp.Star):
            # DuckDB refuses to leave out what is not there, such as the label of a raw row.
            star.set("except_", [column for column in star.args.get("except_") or [] if column.name.lower() in given])
        query.append("expressions", exp.column(ROW))
        inputs = [(ROW, "BIGINT"), *((name, SQL_TYPES[kind.removesuffix("?")]) for name, kind in columns)]
        values = ", ".join(f"unnest(${i}::{kind}[]) AS {quote(name)}" for i, (name, kind) in enumerate(inputs, 1))
        con = self._open()
        statement = con.extract_statements(f"WITH landed AS (SELECT {values}) {query.sql(dialect=DIALECT)}")[0]
        try:
            con.execute(statement, [[] for _ in inputs]).fetchall()
        except duckdb.Error as error:
            raise InvalidRequest(f"features.sql does not run on {', '.join(n for n, _ in columns)}: {error}") from error
        return statement


def _read(
    columns: tuple[tuple[str, str], ...],
    rows: Sequence[Mapping[str, Any]],
    read_texts: Callable[[str, list[str]], list[Any]],
) -> list[list[Any]]:
    """The rows' values by column, each of its column's type."""
    faults: list[dict[str, object]] = []
    known = {name for name, _ in columns}
    lists = []
    for name, declared in columns:
        kind = declared.removesuffix("?")
        reader, values = _READERS[kind], []
        texts = [row[name] for row in rows if isinstance(row.get(name), str)] if kind != "string" else []
        read = zip(texts, read_texts(kind, texts) if texts else (), strict=True)
        understood = {text: value for text, value in read if value is not None}
        for number, row in enumerate(rows):
            value = row.get(name)
            if isinstance(value, str) and kind != "string":
                # A text that is none of the type stays one, which no reader takes.
                value = None if value.strip(" ") in NULL_TEXTS else understood.get(value, value)
            try:
                values.append(None if value is None else reader(value))
            except (ValueError, TypeError, KeyError, OverflowError):
                problem = f"{value!r:.100} is no {kind}"
                faults.append(
                    {"row": number, "column": name, "value": f"{value!s:.100}", "expected": kind, "problem": problem}
                )
        lists.append(values)
    for number, row in enumerate(rows):
        for name in row.keys() - known:
            faults.append({"row": number, "column": name, "problem": "there is no such landed column"})
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InvalidRequest(
            f"row {first['row']}, column {first['column']}: {first['problem']}{more}", faults[:MAX_FAULTS]
        )
    return lists


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | date):
        return str(value)
    raise TypeError


def _int(value: Any) -> int:
    if isinstance(value, str | bool):
        raise TypeError
    number = int(value)
    if number != value or not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _double(value: Any) -> float:
    if isinstance(value, str | bool):
        raise TypeError
    number = float(value)
    if number - number != 0:
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError


def _date(value: Any) -> date:
    moment = _timestamp(value)
    if moment.time() != time.min:
        raise ValueError
    return moment.date()


def _timestamp(value: Any) -> datetime:
    """Naive, in UTC; an offset counts."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if not isinstance(value, datetime):
        raise TypeError
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


_READERS: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "int": _int,
    "double": _double,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
}
