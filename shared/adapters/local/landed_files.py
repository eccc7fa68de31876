"""Landed files into DuckDB: every row, the place that it came from, one type per column, and what is wrong.

All rows go to the table ``landed_raw`` in landing order, so that a row's number in the table
(``rowid``) tells its file and its row in it, and which of two rows is newer.
"""

from __future__ import annotations

import bisect
import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from shared.adapters.local.known_rows import Anew, Known
from shared.domain.pipelines import Check, Landing
from shared.errors import Rejected
from shared.features.column_types import (
    SNIFFED,
    SQL_TYPES,
    cleaned,
    fit_tests,
    quote,
    stored_type,
    text,
    type_of,
    typed,
    widest,
)
from shared.features.landed_rows import (
    SAMPLE_ROWS,
    WHOLE,
    Landed,
    Unreadable,
    column_faults,
    fault,
    refuse_twins,
    widened,
)
from shared.ports.lake import Lake, check_path

if TYPE_CHECKING:
    import duckdb


@dataclass
class _Source:
    """One readable file: ``query`` gives its rows; ``columns`` their DuckDB types."""

    path: str
    query: str
    columns: dict[str, str]
    in_batch: bool


class LandedFiles:
    """Reads files of one pipeline into ``connection``: ``landed_raw``, and ``landed_rows`` with the right types.

    Text files (csv, json lines) must be UTF-8; a csv has a header, and a comma, semicolon, tab or bar
    between its values. An empty value is null, and in columns that hold no text ``NA``, ``N/A``,
    ``NULL``, ``null`` and ``None`` are, too. Where landing.columns declares no types they are found
    out from every value, of the earlier files first: the batch must fit them, and only widens int to
    double and date to timestamp.

    An entry of a Delta batch is a commit (``_delta_log/<number>.json``) or a part file. It stands for
    the rows of the part files that the commit added; removed and overwritten rows are not taken back,
    since ``keep: latest`` lets the newer row of a key win. Checkpoints bring no rows.

    ``known`` stands for the earlier rows, where they need not be read: then a batch alone is loaded, with the types
    and faults that it has behind them.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, landing: Landing, known: Known | None = None
    ) -> None:
        self._con = connection
        self._lake = lake
        self._landing = landing
        self._before = known or Known(rows=0, expected=(), stored={}, types={})
        self._expected = tuple(landing.columns) or self._before.expected
        self._starts: list[int] = []
        self._paths: list[str] = []
        self._parts: set[str] = set()
        self._batch_start = 0
        self._raw: dict[str, str] = {}
        self._fits: dict[str, list[str] | None] = {}

    def load(self, earlier: Sequence[tuple[str, str]], batch: Sequence[tuple[str, str]]) -> Landed:
        """Read (path, etag) pairs in landing order. A path that comes again counts where it comes last.

        Earlier files that are gone are left out and printed. Faults are of the batch's files alone: raises
        :class:`~shared.errors.Rejected` when an earlier file, accepted before, cannot be read now, and
        :class:`Anew` when the batch changes columns or types of rows that are known.
        """
        landed = Landed()
        sources: list[_Source] = []
        wanted = {
            path: (etag, in_batch) for files, in_batch in ((earlier, False), (batch, True)) for path, etag in files
        }
        last = {path: n for n, path in enumerate([*(p for p, _ in earlier), *(p for p, _ in batch)])}
        for path in sorted(wanted, key=lambda p: last[p]):
            etag, in_batch = wanted[path]
            info = self._lake.stat(path)
            if info is None or info.etag != etag:
                landed.complete = False
            if info is not None:
                sources += self._open(path, in_batch, landed.faults)
            elif not in_batch:
                print(f"{path}, which landed before, is gone: its rows are left out")
            else:
                landed.faults.append(
                    fault("missing_file", f"{path} is not in the lake any more. Land it again.", rows=[_at(path)])
                )
        self._check_columns(sources, landed.faults)
        if landed.faults:
            return landed
        self._fill(sources, landed)
        if not landed.faults:
            landed.types, expressions = self._decide_types()
            _refuse_other(self._before.types, landed.types)
            # Texts are converted once; columns that are as they should be cost nothing.
            as_they_are = all(SQL_TYPES[t.removesuffix("?")] == self._raw[n] for n, t in landed.types.items())
            kind = "VIEW" if as_they_are else "TABLE"
            self._con.execute(
                f"CREATE {kind} landed_rows AS SELECT rowid AS landfall_row, {', '.join(expressions)} FROM landed_raw"
            )
            self._check_types(landed)
        return landed

    def known(self, landed: Landed) -> Known:
        """What :meth:`load` found, with what was known before."""
        rows = self._before.rows + landed.rows
        return Known(rows=rows, expected=self._expected, stored=self._raw, types=landed.types, fits=self._fits)

    def check(self, checks: Sequence[Check], key: str, landed: Landed) -> None:
        """Add to ``landed.faults`` what in the batch breaks ``checks``, holds no finite number or has no key.

        A key that comes twice in the batch breaks a ``unique`` check, also when the whole row is the
        same. Without that check the row that comes last wins, or features.sql decides (keep: all).
        """
        if landed.batch_rows == 0:
            return
        rules: list[tuple[str, str, str, str]] = []
        for name, declared in landed.types.items():
            column = quote(name)
            if declared.removesuffix("?") == "double":
                rules.append(("finite", name, f"NOT isfinite({column})", "is NaN or infinite"))
            if name == key and declared.endswith("?"):
                rules.append(("key", name, f"{column} IS NULL", "is null, but it is the key"))
        for check in checks:
            column = quote(check.column)
            if check.column not in landed.types:
                what = f"a check names {check.column}, which did not land. Correct landing.checks."
                landed.faults.append(fault("check", what, column=check.column))
                continue
            if check.between is not None:
                low, high = check.between
                kind = landed.types[check.column].removesuffix("?")
                if kind in ("int", "double"):
                    condition = f"{column} NOT BETWEEN CAST('{low!r}' AS DOUBLE) AND CAST('{high!r}' AS DOUBLE)"
                    rules.append(("between", check.column, condition, f"is outside {low:g} to {high:g}"))
                else:
                    what = f"a check bounds {check.column}, which is {kind} and no number."
                    landed.faults.append(fault("between", what, column=check.column, count=landed.batch_rows))
            if check.allowed is not None:
                values = ", ".join(text(str(value)) for value in check.allowed)
                condition = f"CAST({column} AS VARCHAR) NOT IN ({values})"
                rules.append(("allowed", check.column, condition, f"is none of {', '.join(check.allowed)}"))
            if check.max_null_share is not None:
                self._check_nulls(check.column, check.max_null_share, landed)
            if check.unique:
                self._check_unique(check.column, landed)
        self._apply(rules, landed, "landed_rows", "landfall_row")

    def _open(self, path: str, in_batch: bool, faults: list[dict[str, Any]]) -> list[_Source]:
        import duckdb

        broken = (csv.Error, EOFError, UnicodeDecodeError, gzip.BadGzipFile, json.JSONDecodeError, Unreadable)
        try:
            return list(self._sources(path, in_batch, faults))
        except duckdb.OutOfMemoryException:
            raise
        except (duckdb.Error, *broken) as error:
            faults.append(self._unreadable(path, error, in_batch))
            return []

    def _unreadable(self, path: str, error: Exception, in_batch: bool) -> dict[str, Any]:
        what = f"{path} cannot be read as {self._landing.format}: {_first_lines(str(error))}"
        if not in_batch:
            raise Rejected(f"{what}. It was accepted before: put back what had landed, or remove the file") from error
        cure = error.cure if isinstance(error, Unreadable) else WHOLE
        return fault("unreadable", f"{what}. {cure}", rows=[_at(path)])

    def _sources(self, path: str, in_batch: bool, faults: list[dict[str, Any]]) -> Iterator[_Source]:
        local = Path(self._lake.uri(path))
        if local.stat().st_size == 0:
            if in_batch:
                faults.append(fault("empty_file", f"{path} is empty. Land a file with rows.", rows=[_at(path)]))
            return
        match self._landing.format:
            case "csv":
                yield _csv_source(path, local, in_batch)
            case "jsonl":
                yield self._json_source(path, local, in_batch)
            case "parquet":
                yield self._parquet_source(path, local, in_batch)
            case "sql-pool":
                raise Rejected(
                    "landing.format sql-pool is read by Spark on Azure alone: a laptop has no SQL pool. To try the"
                    " pipeline here, land rows of the table as files and write their format"
                )
            case "delta":
                for part in _delta_parts(path, local):
                    # The same part may come as itself and by its commit: it is read where it comes first.
                    if part in self._parts:
                        continue
                    self._parts.add(part)
                    if self._lake.stat(part) or in_batch:
                        yield self._parquet_source(part, Path(self._lake.uri(part)), in_batch, hive=True)
                    else:
                        print(f"{part}, which landed before, is gone: its rows are left out")

    def _parquet_source(self, path: str, local: Path, in_batch: bool, *, hive: bool = False) -> _Source:
        options = "hive_partitioning = true, hive_types_autocast = false" if hive else "hive_partitioning = false"
        query = f"SELECT * FROM read_parquet({text(literal_path(local))}, {options})"
        return _Source(path, query, self._describe(query), in_batch)

    def _json_source(self, path: str, local: Path, in_batch: bool) -> _Source:
        objects = f"read_ndjson_objects({text(literal_path(local))})"
        wrong = self._con.execute(f"SELECT count(*) FROM {objects} WHERE json_type(json) <> 'OBJECT'").fetchone()
        if wrong and wrong[0]:
            raise Unreadable(f"{wrong[0]} lines are JSON, but no objects")
        listed = f"SELECT unnest(json_keys(json)) AS k, generate_subscripts(json_keys(json), 1) AS p FROM {objects}"
        found = self._con.execute(f"SELECT k, min(p) FROM ({listed}) GROUP BY k ORDER BY 2, 1").fetchall()
        keys = [row[0] for row in found]
        refuse_twins(keys)
        if not keys:
            keys = list(self._landing.columns)
        picked = ", ".join(f"json_extract_string(json, {text(_json_path(k))}) AS {quote(k)}" for k in keys)
        return _Source(path, f"SELECT {picked} FROM {objects}", dict.fromkeys(keys, "VARCHAR"), in_batch)

    def _describe(self, query: str) -> dict[str, str]:
        return {row[0]: row[1] for row in self._con.execute(f"DESCRIBE {query}").fetchall()}

    def _check_columns(self, sources: list[_Source], faults: list[dict[str, Any]]) -> None:
        if not self._expected and sources:
            self._expected = tuple(sources[0].columns)
        for source in sources:
            if not source.in_batch:
                continue
            faults += column_faults(source.path, source.columns, self._expected, self._landing)

    def _fill(self, sources: list[_Source], landed: Landed) -> None:
        """Put the rows of all sources into landed_raw, each file's rows behind those of the file before."""
        import duckdb

        columns = self._common_columns(sources)
        _refuse_other(self._before.stored, columns)
        self._con.execute(f"CREATE TABLE landed_raw ({', '.join(f'{quote(n)} {t}' for n, t in columns.items())})")
        self._raw = columns
        total = 0
        batch_start = None
        for source in sources:
            picked = ", ".join(self._as_raw(name, columns) for name in source.columns)
            query = f"INSERT INTO landed_raw BY NAME SELECT {picked} FROM ({source.query})"
            try:
                inserted = self._con.execute(query).fetchone()
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error as error:
                if "No space left" in str(error):
                    raise
                landed.faults.append(self._unreadable(source.path, error, source.in_batch))
                continue
            count = int(inserted[0]) if inserted else 0
            if source.in_batch and batch_start is None:
                batch_start = total
            if source.in_batch and count == 0:
                landed.faults.append(
                    fault("empty_file", f"{source.path} has no rows. Land a file with rows.", rows=[_at(source.path)])
                )
            self._paths.append(source.path)
            self._starts.append(total)
            total += count
        self._batch_start = total if batch_start is None else batch_start
        landed.rows, landed.batch_rows = total, total - self._batch_start

    def _common_columns(self, sources: list[_Source]) -> dict[str, str]:
        """Column names as first met (declared ones first) and a DuckDB type that holds every file's values."""
        names = {name.lower(): name for name in self._before.stored or self._landing.columns}
        found = {name: {kind} for name, kind in self._before.stored.items()}
        for source in sources:
            for name, sql_type in source.columns.items():
                found.setdefault(names.setdefault(name.lower(), name), set()).add(stored_type(sql_type))
        return {name: widest(found.get(name, {"VARCHAR"})) for name in names.values()}

    def _as_raw(self, name: str, columns: Mapping[str, str]) -> str:
        raw = next(known for known in columns if known.lower() == name.lower())
        return f"CAST({quote(name)} AS {columns[raw]}) AS {quote(raw)}"

    def _decide_types(self) -> tuple[dict[str, str], list[str]]:
        declared = self._landing.columns
        open_columns = [name for name in self._raw if name not in declared]
        sniffed = self._sniff([name for name in open_columns if self._raw[name] == "VARCHAR"])
        types: dict[str, str] = {}
        for name, raw in self._raw.items():
            types[name] = declared.get(name) or f"{sniffed.get(name) or type_of(raw) or 'string'}?"
        return types, [f"{typed(n, self._raw[n], t.removesuffix('?'))} AS {quote(n)}" for n, t in types.items()]

    def _sniff(self, names: list[str]) -> dict[str, str]:
        """The narrowest type that fits every value of each text column, from earlier files where there are some."""
        if not names:
            return {}
        tests = ", ".join(f"count(v{i}), {fit_tests(f'v{i}')}" for i in range(len(names)))
        values = ", ".join(f"{cleaned(quote(name))} AS v{i}" for i, name in enumerate(names))
        width = 1 + len(SNIFFED)
        sides: list[dict[str, list[str] | None]] = []
        for condition in (f"rowid < {self._batch_start}", f"rowid >= {self._batch_start}"):
            row = self._one(f"SELECT {tests} FROM (SELECT {values} FROM landed_raw WHERE {condition})")
            sides.append({})
            for i, name in enumerate(names):
                count, *fit = row[width * i : width * (i + 1)]
                fitting = [kind for kind, yes in zip(SNIFFED, fit, strict=True) if yes]
                sides[-1][name] = fitting if count else None
        earlier, batch = sides
        before = {name: _both(self._before.fits.get(name), earlier[name]) for name in names}
        self._fits = {name: _both(before[name], batch[name]) for name in names}
        return {name: widened(_narrowest(before[name]), _narrowest(batch[name])) for name in names}

    def _check_types(self, landed: Landed) -> None:
        rules: list[tuple[str, str, str, str]] = []
        for name, declared in landed.types.items():
            kind, column, raw = declared.removesuffix("?"), quote(name), self._raw[name]
            value = cleaned(column) if raw == "VARCHAR" and kind != "string" else column
            if SQL_TYPES[kind] != raw:
                misfit = f"{value} IS NOT NULL AND {typed(name, raw, kind)} IS NULL"
                rules.append(("type", name, misfit, f"is no {kind}"))
            if not declared.endswith("?"):
                rules.append(("null", name, f"{value} IS NULL", "is null, which the column does not allow"))
        if self._batch_start and rules:
            counters = ", ".join(f"count_if({condition})" for _, _, condition, _ in rules)
            counts = self._one(f"SELECT {counters} FROM landed_raw WHERE rowid < {self._batch_start}")
            for (_, name, _, sentence), count in zip(rules, counts, strict=True):
                if count:
                    raise Rejected(
                        f"{name} {sentence} in {count:,} rows that were accepted before: landing.columns has become"
                        f" stricter. Declare {name} so that they fit, or remove the files that hold them"
                    )
        self._apply(rules, landed, "landed_raw", "rowid")

    def _check_nulls(self, name: str, allowed: float, landed: Landed) -> None:
        condition = f"{quote(name)} IS NULL"
        (count,) = self._one(
            f"SELECT count(*) FROM landed_rows WHERE landfall_row >= {self._batch_start} AND {condition}"
        )
        if count > allowed * landed.batch_rows:
            rows = self._sample(name, condition, "landed_rows", "landfall_row")
            share = f"{count:,} of {landed.batch_rows:,} rows ({count / landed.batch_rows:.1%})"
            what = f"{name} is null in {share}; {allowed:.1%} is allowed."
            landed.faults.append(fault("max_null_share", what, column=name, count=count, rows=rows))

    def _check_unique(self, name: str, landed: Landed) -> None:
        column = quote(name)
        batch = f"FROM landed_rows WHERE landfall_row >= {self._batch_start} AND {column} IS NOT NULL"
        (count,) = self._one(f"SELECT count({column}) - count(DISTINCT {column}) {batch}")
        if count:
            again = f"SELECT {column} {batch} GROUP BY 1 HAVING count(*) > 1 ORDER BY min(landfall_row)"
            rows = self._sample(name, f"{column} IN ({again} LIMIT {SAMPLE_ROWS})", "landed_rows", "landfall_row")
            what = f"{name} must be unique, but {count:,} of {landed.batch_rows:,} rows repeat a value."
            landed.faults.append(fault("unique", what, column=name, count=count, rows=rows))

    def _apply(self, rules: list[tuple[str, str, str, str]], landed: Landed, table: str, number: str) -> None:
        """Count in one pass how many rows of the batch break each (rule, column, condition, sentence)."""
        if not rules or landed.batch_rows == 0:
            return
        counters = ", ".join(f"count_if({condition})" for _, _, condition, _ in rules)
        counts = self._one(f"SELECT {counters} FROM {table} WHERE {number} >= {self._batch_start}")
        for (rule, name, condition, sentence), count in zip(rules, counts, strict=True):
            if count:
                what = f"{name} {sentence} in {count:,} of {landed.batch_rows:,} rows."
                rows = self._sample(name, condition, table, number)
                landed.faults.append(fault(rule, what, column=name, count=count, rows=rows))

    def _sample(self, name: str, condition: str, table: str, number: str) -> list[dict[str, Any]]:
        where = f"{number} >= {self._batch_start} AND ({condition})"
        query = (
            f"SELECT {number}, CAST({quote(name)} AS VARCHAR) FROM {table} WHERE {where} ORDER BY 1 LIMIT {SAMPLE_ROWS}"
        )
        return [{**self._place(row), "value": value} for row, value in self._con.execute(query).fetchall()]

    def _place(self, row: int) -> dict[str, Any]:
        """The file and the row in it, from 1, of a row of landed_raw."""
        index = bisect.bisect_right(self._starts, row) - 1
        return _at(self._paths[index], row - self._starts[index] + 1)

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self._con.execute(query).fetchone()
        assert row is not None
        return row


def _both(some: list[str] | None, more: list[str] | None) -> list[str] | None:
    """The types that two sets of values fit, each as in :attr:`Known.fits`."""
    if some is None or more is None:
        return more if some is None else some
    return [kind for kind in some if kind in more]


def _narrowest(fits: list[str] | None) -> str:
    return "" if fits is None else next(iter(fits), "string")


def _refuse_other(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise Anew when there are types ``before`` and those of ``now`` are others, or of more columns."""
    for name, kind in now.items() if before else ():
        if name not in before:
            raise Anew(f"the batch brings a new column {name}")
        if kind != before[name]:
            raise Anew(f"{name} was {before[name].removesuffix('?')} and becomes {kind.removesuffix('?')}")


def _at(path: str, row: int | None = None) -> dict[str, Any]:
    return {"file": path, "row": row, "value": None}


def _first_lines(message: str) -> str:
    """What DuckDB says happened and where, without its advice and settings."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    stop = next((n for n, line in enumerate(lines) if line.startswith(("Possible", "LINE ", "*"))), len(lines))
    return " ".join(lines[:stop] or lines[:1]).rstrip(".")[:300]


def literal_path(local: Path) -> str:
    """A path that DuckDB takes as it is, although it reads ``*``, ``?`` and ``[`` as patterns."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(local))


def _json_path(name: str) -> str:
    return '$."' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _csv_source(path: str, local: Path, in_batch: bool) -> _Source:
    opened = gzip.open if local.suffix == ".gz" else open
    with opened(local, "rt", encoding="utf-8-sig", newline="") as file:
        line = file.readline(1_000_000)
    headers = [next(csv.reader([line], delimiter=delimiter), []) for delimiter in ",;\t|"]
    header = max(headers, key=len)
    delimiter = ",;\t|"[headers.index(header)]
    refuse_twins(header)
    columns = ", ".join(f"{text(name)}: 'VARCHAR'" for name in header)
    query = (
        f"SELECT * FROM read_csv({text(literal_path(local))}, auto_detect = false, header = true, strict_mode = true,"
        f" delim = {text(delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}})"
    )
    return _Source(path, query, dict.fromkeys(header, "VARCHAR"), in_batch)


def _delta_parts(path: str, local: Path) -> list[str]:
    """The lake paths of the part files that an entry of a Delta batch stands for."""
    if local.parent.name != "_delta_log":
        return [path] if local.suffix == ".parquet" else []
    if local.suffix != ".json":
        return []
    table = path.rsplit("/", 2)[0]
    parts = []
    for line in local.read_text(encoding="utf-8").splitlines():
        try:
            added = (json.loads(line) if line.strip() else {}).get("add", {})
            if not added or not added.get("dataChange", True):
                continue
            part = f"{table}/{unquote(added['path'])}"
            check_path(part)
        except Rejected as error:
            raise Unreadable(f"a part file lies outside of the table: {error}") from error
        except (AttributeError, KeyError, TypeError) as error:
            raise Unreadable(f"it is no commit of a Delta table: {line[:100]}") from error
        if added.get("deletionVector"):
            raise Unreadable("it marks rows as deleted in a deletion vector; write the table without them")
        parts.append(part)
    return parts
