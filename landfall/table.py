"""What is in a table that somebody wants a model of: read exactly as a landing would read it."""

from __future__ import annotations

import gzip
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.domain.pipelines import Landing
from shared.errors import ConfigurationError, Fault, LandfallError

if TYPE_CHECKING:
    import duckdb

_OF_TEXTS = ("plain", "pointed", "comma", "only_pointed", "only_comma", "unclear", "spaced", "dated")
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip

_NUMBER = r"[-+]?[$€£]?\s?(0|[1-9][0-9]*|[1-9][0-9]{{0,2}}({thousands}[0-9]{{3}})+)({decimal}[0-9]+)?\s?[%€]?"
WITH_POINT = _NUMBER.format(thousands=",", decimal="\\.")
"""Numbers as people write them whose decimals follow a point: $1,234.50 or 12 %."""
WITH_COMMA = _NUMBER.format(thousands="\\.", decimal=",")
"""The same with a comma: 1.234,50 € or 0,956. 1,234 is of both kinds, and means another number in each."""

DATED = "[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{2}|[0-9]{4})( .*)?"
"""14.03.2024 or 3/14/24: which number is the month, nothing tells."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the rows that have a label.

    ``kind`` is string, int, double, boolean, date or timestamp. ``present`` rows have a value, of
    which ``distinct`` differ; ``nulls`` are counted over all rows, those without a label too. ``low`` and ``high`` are
    the bounds of numbers; ``infinite`` counts NaN and infinities. Of a text ``plain`` values read as
    finite numbers, ``pointed`` ones as numbers with thousands commas, currency or percent signs, ``comma``
    ones as such numbers with a decimal comma; ``only_pointed`` and ``only_comma`` count those that are
    one and not the other, ``unclear`` those that are both and not whole. ``spaced`` have a space in them,
    ``dated`` look like dates that are not ISO 8601.
    ``counter`` is True when the values are consecutive whole numbers.
    """

    name: str
    kind: str
    nulls: int
    present: int
    distinct: int
    low: float | None = None
    high: float | None = None
    infinite: int = 0
    plain: int = 0
    pointed: int = 0
    comma: int = 0
    only_pointed: int = 0
    only_comma: int = 0
    unclear: int = 0
    spaced: int = 0
    dated: int = 0
    counter: bool = False
    timed: bool = False

    @property
    def decimals(self) -> str:
        """How a text writes its numbers: point, comma, either (nothing tells which), mixed; empty when it holds few."""
        enough = 0.9 * self.present
        if self.only_comma and self.only_pointed:
            return "mixed" if self.comma + self.only_pointed >= enough else ""
        if self.only_comma:
            return "comma" if self.comma >= enough else ""
        if self.plain >= enough or self.pointed < enough:
            return ""
        return "either" if self.unclear and not self.only_pointed else "point"


class Table:
    """A file in DuckDB: the table ``landed``, and once a label is chosen the view ``usable``."""

    def __init__(self, data: Path) -> None:
        """Raises :class:`~shared.errors.ConfigurationError` when the file is not there or cannot be read."""
        import duckdb

        from shared.adapters.local.lake import FolderLake
        from shared.adapters.local.landed_files import LandedFiles

        suffix = (Path(data.stem) if data.suffix == ".gz" else data).suffix.lower()
        if not data.is_file():
            raise ConfigurationError([Fault(str(data), "there is no such file", "Name a csv, parquet or jsonl file.")])
        if suffix not in FORMATS:
            what = f"{suffix or 'a name without an ending'} is no known format"
            raise ConfigurationError([Fault(str(data), what, f"Name a file that ends with {', '.join(FORMATS)}.")])
        self.format = FORMATS[suffix]
        self.connection: duckdb.DuckDBPyConnection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        place = data.resolve()
        lake = FolderLake(place.parent, "landfall", "lake")
        landing = Landing(path="landing", format=self.format)  # type: ignore[arg-type]
        try:
            info = lake.stat(place.name)
            landed = LandedFiles(self.connection, lake, landing).load([], [(place.name, info.etag if info else "")])
        except (LandfallError, duckdb.Error) as error:
            raise ConfigurationError([Fault(str(data), f"cannot be read: {error}", "Mend the file.")]) from error
        if landed.faults:
            broken = _encoding(data) if self.format != "parquet" else None
            raise ConfigurationError(
                [broken] if broken else [_as_fault(data, str(found["text"])) for found in landed.faults]
            )
        self.types = {name: kind.removesuffix("?") for name, kind in landed.types.items()}
        self.rows = landed.rows
        self.connection.execute("CREATE VIEW landed AS SELECT * EXCLUDE (landfall_row) FROM landed_rows")

    def row(self, query: str) -> tuple[Any, ...]:
        """The first row of a query."""
        found = self.connection.execute(query).fetchone()
        assert found is not None
        return found

    def choose_label(self, label: str) -> int:
        """Make the view ``usable`` of the rows that have a label; returns how many they are."""
        self.connection.execute(f"CREATE VIEW usable AS SELECT * FROM landed WHERE {quoted(label)} IS NOT NULL")
        return int(self.row("SELECT count(*) FROM usable")[0])

    def column(self, name: str) -> Column:
        """Measure a column on the usable rows."""
        column, kind = quoted(name), self.types[name]
        measures = [f"count({column})", f"count(DISTINCT {column})"]
        if kind in ("int", "double"):
            finite = f"{column}" if kind == "int" else f"CASE WHEN isfinite({column}) THEN {column} END"
            measures += [f"min({finite})::DOUBLE", f"max({finite})::DOUBLE"]
            measures.append("0" if kind == "int" else f"count(*) FILTER (NOT isfinite({column}))")
        if kind == "string":
            number = f"try_cast({column} AS DOUBLE)"
            pointed, comma = (f"regexp_full_match(trim({column}), '{form}')" for form in (WITH_POINT, WITH_COMMA))
            tests = (
                f"isfinite({number}) AND NOT regexp_matches({column}, '^[-+]?0[0-9]')",
                pointed,
                comma,
                f"{pointed} AND NOT {comma}",
                f"{comma} AND NOT {pointed}",
                f"{pointed} AND {comma} AND regexp_matches({column}, '[.,]')",
                f"contains({column}, ' ')",
                f"regexp_full_match(trim({column}), '{DATED}')",
            )
            measures += [f"count(*) FILTER ({test})" for test in tests]
        if kind == "timestamp":
            measures.append(f"count(*) FILTER ({column} <> date_trunc('day', {column})) > 0")
        present, distinct, *more = self.row(f"SELECT {', '.join(measures)} FROM usable")
        (null,) = self.row(f"SELECT count(*) - count({column}) FROM landed")
        found = Column(name=name, kind=kind, nulls=null, present=present, distinct=distinct)
        if kind in ("int", "double"):
            low, high, infinite = more
            counter = kind == "int" and distinct == present > 1 and high - low == distinct - 1
            return replace(found, low=low, high=high, infinite=infinite, counter=counter)
        if kind == "string":
            return replace(found, **dict(zip(_OF_TEXTS, more, strict=True)))
        return replace(found, timed=more[0]) if kind == "timestamp" else found

    def values(self, name: str, limit: int) -> list[tuple[Any, str, int]]:
        """The most frequent values of a column with their text and count, most frequent first."""
        column = quoted(name)
        query = (
            f"SELECT {column}, CAST({column} AS VARCHAR), count(*) FROM usable WHERE {column} IS NOT NULL GROUP BY ALL"
        )
        return self.connection.execute(f"{query} ORDER BY 3 DESC, 2 LIMIT {limit}").fetchall()

    def repeated(self, names: Sequence[str]) -> int:
        """How many usable rows are copies of another one in the columns ``names``."""
        columns = ", ".join(map(quoted, names))
        return int(
            self.row(f"SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT {columns} FROM usable)) FROM usable")[0]
        )

    def told_by(self, expression: str, label: str, *, classes: bool, categories: bool) -> float:
        """How much of the label the one feature ``expression`` tells, from 0 to 1.

        For classes the share of rows that have the most frequent label of their value (of numbers: of
        their quantile); for numbers the share of the label's variance between the values, or the
        squared correlation. Measured on up to 100,000 rows.
        """
        sampled = "USING SAMPLE reservoir(100000 ROWS) REPEATABLE (0)"
        source = f"WITH s AS (SELECT {expression} AS x, {quoted(label)} AS y FROM usable {sampled})"
        bins = "greatest(2, least(50, (SELECT count(*) // 20 FROM s)))"
        groups = "x" if categories else f"ntile({bins}) OVER (ORDER BY x)"
        if classes:
            query = (
                f"{source}, g AS (SELECT {groups} AS b, y FROM s),"
                " c AS (SELECT b, y, count(*) AS n FROM g GROUP BY ALL), m AS (SELECT max(n) AS top FROM c GROUP BY b)"
                " SELECT sum(top) / (SELECT count(*) FROM s) FROM m"
            )
        elif categories:
            query = (
                f"{source}, m AS (SELECT avg(y) AS mean, count(*) AS n FROM s GROUP BY x)"
                " SELECT sum(n * (mean - (SELECT avg(y) FROM s)) ** 2)"
                " / (SELECT nullif(var_pop(y) * count(*), 0) FROM s) FROM m"
            )
        else:
            query = f"{source} SELECT CASE WHEN stddev_pop(x) > 0 AND stddev_pop(y) > 0 THEN corr(x, y) ** 2 END FROM s"
        found = self.row(query)[0]
        return float(found) if found is not None else 0.0


def quoted(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _encoding(data: Path) -> Fault | None:
    """The first place of a text file that is no UTF-8, and how to convert it; None when all of it is."""
    opened = gzip.open if data.suffix == ".gz" else open
    offset = 0
    try:
        with opened(data, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    at, byte = offset + error.start, line[error.start]
                    what = f"line {number:,} is no UTF-8: byte 0x{byte:02x} at offset {at:,}"
                    if data.suffix == ".gz":
                        return Fault(str(data), what, "Unpack it, and convert it with iconv -f latin1 -t utf8.")
                    new = shlex.quote(f"{data.stem}-utf8{data.suffix}")
                    convert = f"iconv -f latin1 -t utf8 {shlex.quote(str(data))} > {new}"
                    return Fault(str(data), what, f"If it is Latin-1, as older spreadsheets write: {convert}")
                offset += len(line)
    except (OSError, EOFError):
        return None
    return None


def _as_fault(data: Path, text: str) -> Fault:
    """A landing's sentence of what is wrong, of which the last tells the cure."""
    what, _, cure = text.rpartition(". ")
    return Fault(str(data), what, cure.replace("Land ", "Give "))
