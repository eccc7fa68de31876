"""Landed files into Spark: every row, the place that it came from, one type per column, and what is wrong.

The same as what DuckDB reads on a laptop (the docstrings of shared.adapters.local.landed_files hold here,
too): the same rows and types or the same faults. What only one engine can read is a fault, never a
different value.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from shared.domain.pipelines import Check, Landing
from shared.errors import Rejected
from shared.features.column_types import SNIFFED
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
from shared.ports.lake import check_path
from shared.spark.columns import SPARK_TYPES, cleaned, fits, raw_of, shown, typed, widest
from shared.spark.expressions import quoted, string
from shared.spark.lake import SparkLake
from shared.spark.sql_pool import NoTable, rows_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PLACE = ("landfall_file", "landfall_block", "landfall_line")
"""Where a row came from; in this order it tells which of two rows landed later."""
BATCH = "landfall_batch"


@dataclass
class _Source:
    """One readable file. ``columns`` maps its columns to raw types; ``partition`` are values in its path."""

    path: str
    in_batch: bool
    columns: dict[str, str]
    delimiter: str = ""
    schema: str = ""
    partition: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rule:
    name: str
    column: str
    condition: str
    sentence: str


class SparkLanding:
    """Reads files of one pipeline: the frames ``raw`` and, with types, ``rows``, both with :data:`PLACE`."""

    def __init__(self, spark: SparkSession, lake: SparkLake, landing: Landing) -> None:
        self._spark = spark
        self._lake = lake
        self._landing = landing
        self._sources: list[_Source] = []
        self._parts: set[str] = set()
        self._raw: dict[str, str] = {}
        self.raw: DataFrame = spark.range(0).toDF("landfall_line")
        self.rows: DataFrame = self.raw

    def load(self, earlier: Sequence[tuple[str, str, int]], batch: Sequence[tuple[str, str, int]]) -> Landed:
        """Read (path, etag, size) in landing order. A path that comes again counts where it comes last.

        Faults are of the batch's files alone: raises :class:`~shared.errors.Rejected` when an earlier file,
        accepted before, cannot be read now.
        """
        landed = Landed()
        wanted = {
            path: (etag, size, in_batch)
            for files, in_batch in ((earlier, False), (batch, True))
            for path, etag, size in files
        }
        last = {path: n for n, path in enumerate(path for path, _, _ in [*earlier, *batch])}
        for path in sorted(wanted, key=lambda p: last[p]):
            etag, size, in_batch = wanted[path]
            found = self._lake.stat(path)
            if found is None or (found.etag != etag if found.etag else found.size != size):
                landed.complete = False
            if found is not None:
                self._sources += self._open(path, etag, found.size, in_batch, landed.faults)
            elif not in_batch:
                print(f"{path}, which landed before, is gone: its rows are left out")
            else:
                what = f"{path} is not in the lake any more. Land it again."
                landed.faults.append(fault("missing_file", what, rows=[_at(path)]))
        self._check_columns(landed.faults)
        if not landed.faults:
            self._check_texts(landed.faults)
        if landed.faults or not self._sources:
            return landed
        self._fill(landed)
        if not landed.faults:
            landed.types = self._decide_types()
            picked = [f"{typed(n, self._raw[n], t.removesuffix('?'))} AS {quoted(n)}" for n, t in landed.types.items()]
            self.rows = self.raw.selectExpr(*PLACE, BATCH, *picked).persist()
            self._check_types(landed)
        return landed

    def check(self, checks: Sequence[Check], key: str, landed: Landed) -> None:
        """Add to ``landed.faults`` what in the batch breaks ``checks``, holds no finite number or has no key."""
        if landed.batch_rows == 0:
            return
        rules: list[_Rule] = []
        for name, declared in landed.types.items():
            column = quoted(name)
            if declared.removesuffix("?") == "double":
                infinite = f"(isnan({column}) OR abs({column}) = double('inf'))"
                rules.append(_Rule("finite", name, infinite, "is NaN or infinite"))
            if name == key and declared.endswith("?"):
                rules.append(_Rule("key", name, f"{column} IS NULL", "is null, but it is the key"))
        for check in checks:
            column = quoted(check.column)
            if check.column not in landed.types:
                what = f"a check names {check.column}, which did not land. Correct landing.checks."
                landed.faults.append(fault("check", what, column=check.column))
                continue
            kind = landed.types[check.column].removesuffix("?")
            if check.between is not None:
                low, high = check.between
                if kind in ("int", "double"):
                    condition = f"CAST({column} AS DOUBLE) NOT BETWEEN double('{low!r}') AND double('{high!r}')"
                    rules.append(_Rule("between", check.column, condition, f"is outside {low:g} to {high:g}"))
                else:
                    what = f"a check bounds {check.column}, which is {kind} and no number."
                    landed.faults.append(fault("between", what, column=check.column, count=landed.batch_rows))
            if check.allowed is not None:
                values = ", ".join(string(str(value)) for value in check.allowed)
                condition = f"{shown(column, kind)} NOT IN ({values})"
                rules.append(_Rule("allowed", check.column, condition, f"is none of {', '.join(check.allowed)}"))
            if check.max_null_share is not None:
                self._check_nulls(check.column, check.max_null_share, landed)
            if check.unique:
                self._check_unique(check.column, landed)
        self._apply(rules, landed, self.rows, {name: t.removesuffix("?") for name, t in landed.types.items()})

    # Opening files

    def _open(self, path: str, etag: str, size: int, in_batch: bool, faults: list[dict[str, Any]]) -> list[_Source]:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException

        if size == 0:
            if in_batch:
                faults.append(fault("empty_file", f"{path} is empty. Land a file with rows.", rows=[_at(path)]))
            return []
        broken = (csv.Error, EOFError, UnicodeDecodeError, zlib.error, json.JSONDecodeError, Unreadable, NoTable)
        try:
            return list(self._opened(path, etag, in_batch))
        except (PySparkException, Py4JJavaError, *broken) as error:
            faults.append(self._unreadable(path, _short(error), in_batch, getattr(error, "cure", "")))
            return []

    def _unreadable(self, path: str, why: str, in_batch: bool, cure: str = "") -> dict[str, Any]:
        what = f"{path} cannot be read as {self._landing.format}: {why}"
        if not in_batch:
            raise Rejected(f"{what}. It was accepted before: put back what had landed, or remove the file")
        return fault("unreadable", f"{what}. {cure or WHOLE}", rows=[_at(path)])

    def _opened(self, path: str, etag: str, in_batch: bool) -> Iterator[_Source]:
        match self._landing.format:
            case "csv":
                yield self._csv_source(path, in_batch)
            case "jsonl":
                # Which keys there are is asked of all files at once.
                yield _Source(path, in_batch, {})
            case "parquet":
                yield self._parquet_source(path, in_batch)
            case "sql-pool":
                for part in rows_of(self._spark, self._lake, path, etag):
                    yield self._parquet_source(part, in_batch)
            case "delta":
                for part in self._delta_parts(path):
                    # The same part may come as itself and by its commit: it is read where it comes first.
                    if part in self._parts:
                        continue
                    self._parts.add(part)
                    if self._lake.stat(part) or in_batch:
                        yield self._parquet_source(part, in_batch, _partition(part, self._table(path)))
                    else:
                        print(f"{part}, which landed before, is gone: its rows are left out")

    def _csv_source(self, path: str, in_batch: bool) -> _Source:
        line = self._lake.first_line(path).decode("utf-8-sig")
        headers = [next(csv.reader([line], delimiter=delimiter), []) for delimiter in ",;\t|"]
        header = max(headers, key=len)
        refuse_twins(header)
        return _Source(path, in_batch, dict.fromkeys(header, "STRING"), delimiter=",;\t|"[headers.index(header)])

    def _parquet_source(self, path: str, in_batch: bool, partition: dict[str, str | None] | None = None) -> _Source:
        if self._lake.stat(path) is None:
            raise Unreadable(f"its part file {path} is not there")
        schema = self._spark.read.parquet(self._lake.uri(path)).schema
        given = partition or {}
        columns = {f.name: raw_of(f.dataType.typeName()) for f in schema.fields if f.name not in given}
        return _Source(path, in_batch, columns | dict.fromkeys(given, "STRING"), "", schema.simpleString(), given)

    @staticmethod
    def _table(path: str) -> str:
        return path.rsplit("/", 2)[0] if path.rsplit("/", 2)[1:2] == ["_delta_log"] else ""

    def _delta_parts(self, path: str) -> list[str]:
        """The lake paths of the part files that an entry of a Delta batch stands for."""
        table = self._table(path)
        if not table:
            return [path] if path.endswith(".parquet") else []
        if not path.endswith(".json"):
            return []
        parts = []
        for line in self._lake.read(path).decode().splitlines():
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

    # What is wrong with whole files

    def _check_texts(self, faults: list[dict[str, Any]]) -> None:
        """Look at csv and json lines as text: is it UTF-8, is every quote closed, is every line an object?"""
        if self._landing.format not in ("csv", "jsonl") or not self._sources:
            return
        valid = "is_valid_utf8(value)" if self._spark.version >= "4" else _VALID_UTF8
        measures = {
            "broken": f"count_if(NOT {valid})",
            "quotes": "sum(length(value) - length(replace(value, '\"', '')))",
            "lines": "count_if(value <> '')",
        }
        if self._landing.format == "jsonl":
            blank = r"value RLIKE '^\\s*\\z'"
            measures |= {
                "malformed": f"count_if(NOT {blank} AND try_parse_json(value) IS NULL)"
                if self._spark.version >= "4"
                else f"count_if(NOT {blank} AND get_json_object(value, '$') IS NULL)",
                "others": f"count_if(NOT {blank} AND NOT value RLIKE '^\\\\s*[{{]')",
                "keys": "collect_set(array_join(json_object_keys(value), '\\u0000'))",
            }
        text = self._placed(self._spark.read.text([self._lake.uri(s.path) for s in self._sources]))
        found = text.groupBy("landfall_file").agg(*_named(measures)).collect()
        by_file = {row["landfall_file"]: row for row in found}
        for number, source in enumerate(self._sources):
            row = by_file.get(number)
            if row is None:
                continue
            why = ""
            if row["broken"]:
                why = f"{row['broken']} lines are not utf-8"
            elif self._landing.format == "csv" and row["quotes"] % 2:
                why = "it has an unterminated quote"
            elif self._landing.format == "jsonl" and row["malformed"]:
                why = f"Malformed JSON in {row['malformed']} lines"
            elif self._landing.format == "jsonl" and row["others"]:
                why = f"{row['others']} lines are JSON, but no objects"
            if why:
                faults.append(self._unreadable(source.path, why, source.in_batch))
            elif self._landing.format == "jsonl":
                keys = [key for keys in sorted(row["keys"]) for key in keys.split("\0")]
                columns = list(dict.fromkeys(keys)) or list(self._landing.columns)
                try:
                    refuse_twins(columns)
                except Unreadable as error:
                    faults.append(self._unreadable(source.path, str(error), source.in_batch, error.cure))
                    continue
                source.columns = dict.fromkeys(columns, "STRING")
        if self._landing.format == "jsonl" and not faults:
            self._check_columns(faults)

    def _check_columns(self, faults: list[dict[str, Any]]) -> None:
        declared = self._landing.columns
        expected = list(declared) or (list(self._sources[0].columns) if self._sources else [])
        for source in self._sources:
            # What json lines hold is not known yet when files are opened.
            if not source.in_batch or not source.columns:
                continue
            faults += column_faults(source.path, source.columns, expected, self._landing)

    # Rows

    def _fill(self, landed: Landed) -> None:
        """Read the rows of all sources into :attr:`raw` and count them, file by file."""
        self._raw = self._common_columns()
        self._refuse_doubtful()
        frames = [self._frame(group) for group in self._groups()]
        whole = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)
        missing = [f"CAST(NULL AS {raw}) AS {quoted(n)}" for n, raw in self._raw.items() if n not in whole.columns]
        self.raw = whole.selectExpr("*", *missing).persist()
        counted = self.raw.groupBy("landfall_file").agg(
            *_named({"rows": "count(*)", "bad": "count(landfall_bad)", "example": "first(landfall_bad, true)"})
        )
        try:
            by_file = {row["landfall_file"]: row for row in counted.collect()}
        except Exception as error:  # noqa: BLE001 - it is raised again when no file is to blame
            self._blame(error, landed)
            return
        if None in by_file:
            raise RuntimeError("rows came from a file whose address is spelled in an unknown way")
        for number, source in enumerate(self._sources):
            row = by_file.get(number)
            if row is not None and row["bad"]:
                landed.faults.append(self._unreadable(source.path, _misshapen(source, row), source.in_batch))
                continue
            count = row["rows"] if row is not None else 0
            landed.rows += count
            landed.batch_rows += count if source.in_batch else 0
            if source.in_batch and not count:
                what = f"{source.path} has no rows. Land a file with rows."
                landed.faults.append(fault("empty_file", what, rows=[_at(source.path)]))

    def _blame(self, error: Exception, landed: Landed) -> None:
        """Find the files that cannot be read, one by one, after all of them together could not."""
        for group in self._groups():
            for source in group:
                try:
                    self._frame([source]).write.format("noop").mode("overwrite").save()
                except Exception as alone:  # noqa: BLE001 - whatever stops this file alone is its fault
                    landed.faults.append(self._unreadable(source.path, _short(alone), source.in_batch))
        if not landed.faults:
            raise error

    def _groups(self) -> list[list[_Source]]:
        """Sources that Spark can read at once, because they look alike."""
        groups: dict[Any, list[_Source]] = {}
        for source in self._sources:
            look = (tuple(source.columns.items()), source.delimiter, source.schema, tuple(source.partition.items()))
            groups.setdefault("" if self._landing.format == "jsonl" else look, []).append(source)
        return list(groups.values())

    def _frame(self, group: list[_Source]) -> DataFrame:
        """The rows of sources of one look: PLACE, BATCH, landfall_bad and the raw columns."""
        paths, first = [self._lake.uri(source.path) for source in group], group[0]
        bad = "CAST(NULL AS STRING)"
        match self._landing.format:
            case "csv":
                frame, bad = self._read_csv(paths, first)
            case "jsonl":
                names = dict.fromkeys(name for source in group for name in source.columns)
                schema = ", ".join(f"{quoted(name)} STRING" for name in names)
                lines = self._placed(self._spark.read.text(paths)).where(r"NOT value RLIKE '^\\s*\\z'")
                parsed = lines.selectExpr(*PLACE, f"from_json(value, {string(schema)}) AS landfall_json")
                frame = parsed.selectExpr(*PLACE, *(f"landfall_json.{quoted(n)} AS {quoted(n)}" for n in names))
                first = _Source("", False, dict.fromkeys(names, "STRING"))
            case _:
                frame = self._placed(self._spark.read.parquet(*paths))
        given = {name: string(v) if v is not None else "CAST(NULL AS STRING)" for name, v in first.partition.items()}
        picked = [
            f"CAST({given.get(name) or quoted(name)} AS {self._raw[self._known(name)]}) AS {quoted(self._known(name))}"
            for name in first.columns
        ]
        batch = ", ".join(str(n) for n, source in enumerate(self._sources) if source.in_batch) or "-1"
        return frame.selectExpr(*PLACE, f"landfall_file IN ({batch}) AS {BATCH}", f"{bad} AS landfall_bad", *picked)

    def _read_csv(self, paths: list[str], source: _Source) -> tuple[DataFrame, str]:
        names = [f"landfall_c{n}" for n in range(len(source.columns))]
        read = self._spark.read.options(
            header=True, sep=source.delimiter, quote='"', escape='"', multiLine=True, mode="PERMISSIVE",
            columnNameOfCorruptRecord="landfall_whole", unescapedQuoteHandling="RAISE_ERROR", maxCharsPerColumn=-1,
        )  # fmt: skip
        frame = read.schema(", ".join(f"{name} STRING" for name in [*names, "landfall_whole"])).csv(paths)
        placed = self._placed(frame)
        # DuckDB takes the blanks before a quote for no part of the value; Spark takes all for text.
        odd = " OR ".join(f"{name} RLIKE '^ +\"'" for name in names)
        bad = f"CASE WHEN landfall_whole IS NOT NULL THEN landfall_whole WHEN {odd} THEN 'a blank before a quote' END"
        values = [f"nullif({c}, '') AS {quoted(n)}" for c, n in zip(names, source.columns, strict=True)]
        marked = placed.selectExpr(*PLACE, f"{bad} AS landfall_bad", *values)
        return marked, "landfall_bad"

    def _placed(self, frame: DataFrame) -> DataFrame:
        """``frame``, read from files, with PLACE."""
        from pyspark.sql.functions import broadcast

        numbers = [(spelt, n) for n, source in enumerate(self._sources) for spelt in self._lake.spellings(source.path)]
        files = self._spark.createDataFrame(list(dict(numbers).items()), "landfall_path STRING, landfall_file INT")
        named = frame.selectExpr(
            "_metadata.file_path AS landfall_path",
            "input_file_block_start() AS landfall_block",
            "monotonically_increasing_id() AS landfall_line",
            *(quoted(name) for name in frame.columns),
        )
        return named.join(broadcast(files), "landfall_path", "left").drop("landfall_path")

    def _common_columns(self) -> dict[str, str]:
        """Column names as first met (declared ones first) and a raw type that holds every file's values."""
        names = {name.lower(): name for name in self._landing.columns}
        found: dict[str, set[str]] = {}
        for source in self._sources:
            for name, raw in source.columns.items():
                found.setdefault(names.setdefault(name.lower(), name), set()).add(raw)
        return {name: widest(found.get(name, {"STRING"})) for name in names.values()}

    def _known(self, name: str) -> str:
        return next(known for known in self._raw if known.lower() == name.lower())

    def _refuse_doubtful(self) -> None:
        """Numbers become other texts in Spark: refuse them where text is wanted."""
        for name, raw in self._raw.items():
            found = {source.columns[n] for source in self._sources for n in source.columns if n.lower() == name.lower()}
            wanted = self._landing.columns.get(name, "").removesuffix("?")
            if "DOUBLE" in found and (raw == "STRING" or wanted == "string"):
                raise Rejected(
                    f"{name} holds fractions in some files and is wanted as text, which the engines write differently."
                    f" Declare {name} as double in landing.columns, or land it as text"
                )

    # Types

    def _decide_types(self) -> dict[str, str]:
        declared = self._landing.columns
        sniffed = self._sniff([n for n, raw in self._raw.items() if n not in declared and raw == "STRING"])
        return {
            name: declared.get(name) or f"{sniffed.get(name) or SPARK_TYPES[raw]}?" for name, raw in self._raw.items()
        }

    def _sniff(self, names: list[str]) -> dict[str, str]:
        """The narrowest type that fits every value of each text column, from earlier files where there are some."""
        if not names:
            return {}
        measures = {}
        for i, name in enumerate(names):
            value = cleaned(quoted(name))
            measures[f"n{i}"] = f"count({value})"
            for kind, (sure, maybe) in fits(value).items():
                measures[f"{kind}{i}"] = f"bool_and(CASE WHEN {value} IS NOT NULL THEN {sure} END)"
                measures[f"{kind}{i}_maybe"] = f"bool_and(CASE WHEN {value} IS NOT NULL THEN {maybe} END)"
        by_side = {row[BATCH]: row for row in self.raw.groupBy(BATCH).agg(*_named(measures)).collect()}
        kinds = {}
        for i, name in enumerate(names):
            sides = []
            for side in (False, True):
                row = by_side.get(side)
                sides.append(_narrowest(name, i, row) if row is not None and row[f"n{i}"] else "")
            kinds[name] = widened(*sides)
        return kinds

    def _check_types(self, landed: Landed) -> None:
        rules: list[_Rule] = []
        for name, declared in landed.types.items():
            kind, column, raw = declared.removesuffix("?"), quoted(name), self._raw[name]
            value = cleaned(column) if raw == "STRING" and kind != "string" else column
            if SPARK_TYPES[raw] != kind or raw == "DECIMAL(38,0)":
                misfit = f"({value} IS NOT NULL AND {typed(name, raw, kind)} IS NULL)"
                rules.append(_Rule("type", name, misfit, f"is no {kind}"))
            if not declared.endswith("?"):
                rules.append(_Rule("null", name, f"{value} IS NULL", "is null, which the column does not allow"))
        if rules and landed.batch_rows < landed.rows:
            old = self._counts(rules, self.raw.where(f"NOT {BATCH}"))
            for rule, count in zip(rules, old, strict=True):
                if count:
                    raise Rejected(
                        f"{rule.column} {rule.sentence} in {count:,} rows that were accepted before: landing.columns"
                        f" has become stricter. Declare {rule.column} so that they fit, or remove those files"
                    )
        self._apply(rules, landed, self.raw, {name: SPARK_TYPES[raw] for name, raw in self._raw.items()})

    # Rules

    def _check_nulls(self, name: str, allowed: float, landed: Landed) -> None:
        rule = _Rule("max_null_share", name, f"{quoted(name)} IS NULL", "")
        (count,) = self._counts([rule], self.rows.where(BATCH))
        if count > allowed * landed.batch_rows:
            rows = self._sample(rule, self.rows, "string")
            share = f"{count:,} of {landed.batch_rows:,} rows ({count / landed.batch_rows:.1%})"
            what = f"{name} is null in {share}; {allowed:.1%} is allowed."
            landed.faults.append(fault("max_null_share", what, column=name, count=count, rows=rows))

    def _check_unique(self, name: str, landed: Landed) -> None:
        column = quoted(name)
        batch = self.rows.where(f"{BATCH} AND {column} IS NOT NULL")
        count = batch.selectExpr(f"count({column}) - count(DISTINCT {column}) AS n").collect()[0]["n"]
        if count:
            twice = batch.selectExpr("*", f"count(*) OVER (PARTITION BY {column}) AS landfall_times")
            kind = landed.types[name].removesuffix("?")
            rows = self._sample(_Rule("unique", name, "landfall_times > 1", ""), twice, kind)
            what = f"{name} must be unique, but {count:,} of {landed.batch_rows:,} rows repeat a value."
            landed.faults.append(fault("unique", what, column=name, count=count, rows=rows))

    def _apply(self, rules: list[_Rule], landed: Landed, frame: DataFrame, kinds: Mapping[str, str]) -> None:
        """Count in one pass how many rows of the batch break each rule."""
        if not rules or landed.batch_rows == 0:
            return
        for rule, count in zip(rules, self._counts(rules, frame.where(BATCH)), strict=True):
            if count:
                what = f"{rule.column} {rule.sentence} in {count:,} of {landed.batch_rows:,} rows."
                rows = self._sample(rule, frame, kinds[rule.column])
                landed.faults.append(fault(rule.name, what, column=rule.column, count=count, rows=rows))

    def _counts(self, rules: Sequence[_Rule], frame: DataFrame) -> list[int]:
        measures = [f"count_if({rule.condition}) AS n{i}" for i, rule in enumerate(rules)]
        return [int(count) for count in frame.selectExpr(*measures).collect()[0]]

    def _sample(self, rule: _Rule, frame: DataFrame, kind: str) -> list[dict[str, Any]]:
        """A few rows of the batch that break a rule: file, number from 1, value."""
        order = ", ".join(PLACE)
        numbered = (
            self.raw.where(BATCH)
            .selectExpr(*PLACE, f"row_number() OVER (PARTITION BY landfall_file ORDER BY {order}) AS landfall_number")
            .join(frame.where(f"{BATCH} AND {rule.condition}"), list(PLACE))
            .orderBy("landfall_file", "landfall_number")
            .limit(SAMPLE_ROWS)
            .selectExpr("landfall_file", "landfall_number", f"{shown(quoted(rule.column), kind)} AS landfall_value")
        )
        return [
            {"file": self._sources[f].path, "row": n, "value": value} for f, n, value in map(tuple, numbered.collect())
        ]


_VALID_UTF8 = "(encode(decode(CAST(value AS BINARY), 'UTF-8'), 'UTF-8') = CAST(value AS BINARY))"


def _at(path: str, row: int | None = None) -> dict[str, Any]:
    return {"file": path, "row": row, "value": None}


def _short(error: Exception) -> str:
    """The sentence of an error that says what happened; of Java's, that of its first cause."""
    cause = getattr(error, "java_exception", None)
    while cause is not None and cause.getCause() is not None:
        cause = cause.getCause()
    said = str(error) if cause is None else str(cause.getMessage())
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")[:300]


def _named(measures: Mapping[str, str]) -> list[Any]:
    from pyspark.sql.functions import expr

    return [expr(text).alias(name) for name, text in measures.items()]


def _misshapen(source: _Source, row: Any) -> str:
    example = str(row["example"]).splitlines()[0][:100]
    found = len(next(csv.reader([example], delimiter=source.delimiter), []))
    return (
        f"{row['bad']} rows do not fit its header, such as {example!r} (Columns: {len(source.columns)} Found: {found})"
    )


def _partition(part: str, table: str) -> dict[str, str | None]:
    """The column values in the path of a part file, as Hive writes them."""
    folders = part.removeprefix(f"{table}/").split("/")[:-1]
    given = dict(folder.split("=", 1) for folder in folders if "=" in folder)
    return {
        unquote(name): None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
        for name, value in given.items()
    }


def _narrowest(name: str, number: int, row: Any) -> str:
    for kind in SNIFFED:
        if row[f"{kind}{number}"]:
            return kind
        if row[f"{kind}{number}_maybe"]:
            raise Rejected(
                f"{name} has values that only DuckDB may read as a {kind}, so its type is in doubt."
                f" Declare {name} in landing.columns"
            )
    return "string"
