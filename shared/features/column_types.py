"""The six column types in DuckDB: what a file's types and texts become, and which values do not fit."""

from __future__ import annotations

SQL_TYPES = {
    "string": "VARCHAR",
    "int": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
SNIFFED = ("int", "double", "boolean", "date", "timestamp")
"""Types that are looked for in text, the narrowest first."""

NULL_TEXTS = ("", "NA", "N/A", "NULL", "null", "None")
"""Texts that mean null in a column that holds no text."""


def type_of(sql_type: str) -> str | None:
    """The column type (string, int …) of a DuckDB type, None for lists, structs, blobs and the like."""
    name = sql_type.partition("(")[0]
    if sql_type.endswith("]"):
        return None
    if name in ("VARCHAR", "ENUM", "UUID"):
        return "string"
    if name in ("FLOAT", "DOUBLE", "DECIMAL"):
        return "double"
    if name.endswith("INT") or name == "INTEGER" or name == "UINTEGER":
        return "int"
    if name.startswith("TIMESTAMP"):
        return "timestamp"
    return {"BOOLEAN": "boolean", "DATE": "date"}.get(name)


def quote(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """``value`` as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def stored_type(sql_type: str) -> str:
    """``sql_type`` as landed_raw stores it: nested values, UUIDs and the like as text."""
    if type_of(sql_type) == "timestamp":
        return "TIMESTAMP WITH TIME ZONE" if "ZONE" in sql_type else "TIMESTAMP"
    kind = type_of(sql_type)
    if kind == "double":
        return "DOUBLE"
    if kind == "int":
        return "HUGEINT" if sql_type in ("HUGEINT", "UHUGEINT", "UBIGINT") else "BIGINT"
    return SQL_TYPES[kind or "string"]


def widest(sql_types: set[str]) -> str:
    """A stored type that holds the values of all ``sql_types``."""
    if len(sql_types) == 1:
        return next(iter(sql_types))
    for family in (("BIGINT", "HUGEINT", "DOUBLE"), ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")):
        if sql_types <= set(family):
            return max(sql_types, key=family.index)
    return "VARCHAR"


def cleaned(value: str) -> str:
    """A text without blanks around it, null where it means null."""
    return f"(CASE WHEN trim({value}) NOT IN {NULL_TEXTS!r} THEN trim({value}) END)"


def _to_date(value: str) -> str:
    shape = "'[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}'"
    return f"(CASE WHEN regexp_full_match({value}, {shape}) THEN TRY_CAST({value} AS DATE) END)"


def fit_tests(value: str) -> str:
    """Five aggregates that say whether all texts ``value`` read as each type of :data:`SNIFFED`, in that order.

    Numbers with leading zeros are text: they are codes, which a number would not give back.
    """
    number = f"regexp_matches({value}, '[0-9]') AND NOT regexp_matches({value}, '^[+-]?0[0-9]')"
    tests = (
        f"bool_and(regexp_full_match({value}, '[+-]?(0|[1-9][0-9]{{0,17}})'))",
        f"bool_and({number} AND TRY_CAST({value} AS DOUBLE) IS NOT NULL)",
        f"bool_and(lower({value}) IN ('true', 'false'))",
        f"bool_and({_to_date(value)} IS NOT NULL)",
        f"bool_and(regexp_matches({value}, '^[0-9]{{4}}-') AND TRY_CAST({value} AS TIMESTAMPTZ) IS NOT NULL)",
    )
    # Not every test of a null is null: those of a cast are false.
    return ", ".join(f"{test} FILTER (WHERE {value} IS NOT NULL)" for test in tests)


def typed(name: str, raw: str, kind: str) -> str:
    """The expression that turns column ``name`` of type ``raw`` into ``kind``, null where a value does not fit."""
    column, wanted = quote(name), SQL_TYPES[kind]
    if raw == wanted:
        return column
    if raw == "VARCHAR":
        value = cleaned(column)
        if kind == "int":
            # Nearly every text is as the number would be written, which is far quicker to see than a pattern.
            plain = f"TRY_CAST({column} AS BIGINT)"
            return (
                f"(CASE WHEN CAST({plain} AS VARCHAR) = {column} THEN {plain}"
                f" WHEN regexp_full_match({value}, '[+-]?[0-9]+([.]0*)?') THEN TRY_CAST({value} AS BIGINT) END)"
            )
        if kind == "double":
            return f"coalesce(TRY_CAST({column} AS DOUBLE), TRY_CAST({value} AS DOUBLE))"
        if kind == "date":
            return _to_date(value)
        if kind == "timestamp":
            # An offset counts; a time without one is in UTC.
            return f"CAST(TRY_CAST({value} AS TIMESTAMPTZ) AS TIMESTAMP)"
        return f"TRY_CAST({value} AS {wanted})"
    if kind == "int" and raw == "DOUBLE":
        return f"(CASE WHEN trunc({column}) = {column} THEN TRY_CAST({column} AS BIGINT) END)"
    if kind == "date" and raw.startswith("TIMESTAMP"):
        return f"(CASE WHEN date_trunc('day', {column}) = {column} THEN CAST({column} AS DATE) END)"
    if kind == "boolean":
        return f"(CASE WHEN {column} IN (0, 1) THEN CAST({column} AS BOOLEAN) END)"
    return f"TRY_CAST({column} AS {wanted})"
