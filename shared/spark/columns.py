"""The six column types in Spark: what a file's types and texts become, and which values do not fit.

What a text reads as is what DuckDB reads it as. Where DuckDB may read more than Spark, the text does not
fit, so that a batch is rejected rather than read differently.
"""

from __future__ import annotations

from shared.features.column_types import NULL_TEXTS
from shared.spark.texts import BLANKS

SPARK_TYPES = {
    "STRING": "string", "BIGINT": "int", "DECIMAL(38,0)": "int", "DOUBLE": "double", "BOOLEAN": "boolean",
    "DATE": "date", "TIMESTAMP": "timestamp",
}  # fmt: skip
"""Raw types, as files give them, and the column types that they are."""
_RAW = {
    "byte": "BIGINT", "short": "BIGINT", "integer": "BIGINT", "long": "BIGINT", "float": "DOUBLE", "double": "DOUBLE",
    "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP", "timestamp_ntz": "TIMESTAMP",
}  # fmt: skip
_DOUBLE = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\\z"
_SPECIAL = r"(?i)^[+-]?(inf|infinity|nan)\\z"
_DATE = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}\\z"
_TIMESTAMP = (
    r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"([ T]([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z| UTC|[+-][0-9]{2}(:?[0-9]{2})?)?)?\\z"
)


def raw_of(type_name: str) -> str:
    """The raw type of a column of Parquet, by the name of its Spark type."""
    if type_name.startswith("decimal"):
        return "DECIMAL(38,0)" if type_name.endswith(",0)") else "DOUBLE"
    return _RAW.get(type_name, "STRING")


def widest(raws: set[str]) -> str:
    """A raw type that holds the values of all ``raws``."""
    if len(raws) == 1:
        return next(iter(raws))
    for family in (("BIGINT", "DECIMAL(38,0)", "DOUBLE"), ("DATE", "TIMESTAMP")):
        if raws <= set(family):
            return max(raws, key=family.index)
    return "STRING"


def cleaned(value: str) -> str:
    """A text without blanks around it, null where it means null."""
    trimmed = f"trim(BOTH '{BLANKS}' FROM {value})"
    return f"(CASE WHEN {trimmed} NOT IN {NULL_TEXTS!r} THEN {trimmed} END)"


def fits(value: str) -> dict[str, tuple[str, str]]:
    """For each of :data:`SNIFFED` two conditions on a text: it reads so, and DuckDB may read it so.

    Numbers with leading zeros are text: they are codes, which a number would not give back.
    """
    number = f"({value} RLIKE '[0-9]' AND NOT {value} RLIKE '^[+-]?0[0-9]')"
    year = f"{value} RLIKE '^[0-9]{{4}}-'"
    dated = f"{value} RLIKE '^[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}[ T(]'"
    other = rf"({value} RLIKE '(?i)^[+-]{{0,2}}[0-9._]+(e[+-]?[0-9]+)?\\z')"
    found = {
        "int": f"{value} RLIKE '^[+-]?(0|[1-9][0-9]{{0,17}})\\\\z'",
        "double": f"({number} AND {value} RLIKE '{_DOUBLE}')",
        "boolean": f"lower({value}) IN ('true', 'false')",
        "date": f"({_read_date(value)} IS NOT NULL)",
        "timestamp": f"({year} AND {_read_timestamp(value)} IS NOT NULL)",
    }
    maybe = {
        "double": f"({number} AND ({found['double']} OR ({value} LIKE '%\\\\_%' OR {value} LIKE '+-%') AND {other}))",
        "timestamp": f"({year} AND ({found['timestamp']} OR {dated}))",
    }
    return {kind: (sure, maybe.get(kind, sure)) for kind, sure in found.items()}


def typed(name: str, raw: str, kind: str) -> str:
    """The expression that turns column ``name`` of type ``raw`` into ``kind``, null where a value does not fit."""
    column = "`" + name.replace("`", "``") + "`"
    if raw == "STRING":
        return _from_text(column, kind)
    match raw, kind:
        case "DECIMAL(38,0)", "int":
            return f"try_cast({column} AS BIGINT)"
        case _ if SPARK_TYPES[raw] == kind:
            return column
        case "DOUBLE", "int":
            whole = f"CASE WHEN abs({column}) < 9.3e18D THEN {column} END"
            return f"(CASE WHEN {whole} = rint({whole}) THEN try_cast({whole} AS BIGINT) END)"
        case "TIMESTAMP", "date":
            return f"(CASE WHEN date_trunc('DAY', {column}) = {column} THEN CAST({column} AS DATE) END)"
        case (("BIGINT" | "DOUBLE" | "DECIMAL(38,0)"), "boolean"):
            return f"(CASE WHEN {column} IN (0, 1) THEN {column} = 1 END)"
        case (("BIGINT" | "DECIMAL(38,0)" | "BOOLEAN"), "double") | ("BOOLEAN", "int") | ("DATE", "timestamp"):
            return f"CAST({column} AS {'BIGINT' if kind == 'int' else kind.upper()})"
        case _, "string":
            return f"CAST({column} AS STRING)"
    wanted = {"int": "BIGINT"}.get(kind, kind.upper())
    return f"CAST(NULL AS {wanted})"


def shown(column: str, kind: str) -> str:
    """A value as DuckDB's text shows it."""
    if kind != "double":
        return f"CAST({column} AS STRING)"
    return (
        f"CASE WHEN isnan({column}) THEN 'nan' WHEN {column} = double('inf') THEN 'inf'"
        f" WHEN {column} = double('-inf') THEN '-inf' ELSE CAST({column} AS STRING) END"
    )


def _from_text(column: str, kind: str) -> str:
    value = cleaned(column)
    match kind:
        case "string":
            return column
        case "int":
            digits = f"regexp_extract({value}, '^[+-]?[0-9]+', 0)"
            return f"(CASE WHEN {value} RLIKE '^[+-]?[0-9]+([.]0*)?\\\\z' THEN try_cast({digits} AS BIGINT) END)"
        case "double":
            special = f"CASE WHEN lower({value}) LIKE '%nan' THEN 'NaN' ELSE {value} END"
            return (
                f"(CASE WHEN {value} RLIKE '{_DOUBLE}' THEN try_cast({value} AS DOUBLE)"
                f" WHEN {value} RLIKE '{_SPECIAL}' THEN try_cast({special} AS DOUBLE) END)"
            )
        case "boolean":
            return (
                f"(CASE WHEN lower({value}) IN ('true', 't', 'yes', 'y', '1') THEN true"
                f" WHEN lower({value}) IN ('false', 'f', 'no', 'n', '0') THEN false END)"
            )
        case "date":
            return _read_date(value)
    return _read_timestamp(value)


def _read_date(value: str) -> str:
    return f"(CASE WHEN {value} RLIKE '{_DATE}' THEN try_cast({value} AS DATE) END)"


def _read_timestamp(value: str) -> str:
    # An offset counts; a time without one is in UTC.
    return f"(CASE WHEN {value} RLIKE '{_TIMESTAMP}' THEN try_cast({value} AS TIMESTAMP) END)"
