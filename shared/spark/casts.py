"""Casts, where the engines differ most: rounding, and what text reads as."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.features.features_sql import DIALECT
from shared.spark.expressions import (
    CURES,
    ISO_LITERAL,
    SPARK_TYPES,
    TIME,
    Translator,
    Unproven,
    Value,
    as_double,
    fails,
    only,
    proven,
    string,
)

if TYPE_CHECKING:
    from sqlglot import exp

_PLAIN_DOUBLE = r"^\\s*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\\s*$"
_PLAIN_INT = r"^\\s*[+-]?([0-9]{1,19}([.][0-9]{0,18})?|[.][0-9]{1,18})\\s*$"
_OTHER_DOUBLE = r"(?i)^\\s*([+-]{0,2}(inf|infinity|nan)|[+-]{0,2}[0-9.]+_[0-9._e+-]*|[+]-[0-9.][0-9._e+-]*)\\s*$"
_OTHER_INT = (
    r"(?i)^\\s*[+-]{0,2}(0[xb][0-9a-f_]+|[0-9.]+_[0-9._e+-]*|[0-9]*[.]?[0-9]*e[0-9.+-]*|[0-9]{20,}[0-9.]*"
    r"|[0-9]*[.][0-9]{19,})\\s*$"
)
"""What DuckDB may read as a number although it is not of the plain form."""
_PLAIN_DATE = rf"^\\s*[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}([ T]{TIME})?\\s*$"
_PLAIN_TIMESTAMP = rf"^[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}([ T]{TIME})?$"
_INTS = {"TINYINT": "TINYINT", "SMALLINT": "SMALLINT", "INT": "INT", "BIGINT": "BIGINT"}
_KINDS = {
    "TEXT": "string", "VARCHAR": "string", "CHAR": "string", "DOUBLE": "double", "BOOLEAN": "boolean",
    "DATE": "date", "TIMESTAMP": "timestamp", "TIMESTAMPNTZ": "timestamp", **dict.fromkeys(_INTS, "int"),
}  # fmt: skip


@proven("Cast", "TryCast")
def _cast(to: Translator, node: exp.Cast) -> Value:
    only(node, "this", "to")
    sql_type = node.args["to"].this.name
    kind = _KINDS.get(sql_type)
    if kind is None or node.args["to"].expressions:
        raise Unproven(node, f"casts to {node.args['to'].sql(dialect=DIALECT)}", CURES["Cast"])
    value, trying = to.translate(node.this), type(node).__name__ == "TryCast"
    cast = _CASTS.get((value.kind, kind))
    if value.kind == "null":
        return Value(f"CAST(NULL AS {SPARK_TYPES[kind]})", kind)
    if value.kind == kind and kind != "int":
        return value
    if value.kind == "string" and value.literal is not None and kind in ("date", "timestamp"):
        return _moment_literal(node, value.literal, kind)
    if cast is None:
        raise Unproven(
            node, f"casts a {value.kind} to {kind}, which the engines do differently", _cast_instead(value.kind)
        )
    text = cast(value, "try_cast" if trying else "cast")
    if kind == "int" and sql_type != "BIGINT":
        text = f"CAST({'try_cast' if trying else 'cast'}({text} AS {_INTS[sql_type]}) AS BIGINT)"
    return Value(text, kind)


def _cast_instead(kind: str) -> str:
    if kind in ("double", "decimal"):
        return "Round it to BIGINT first, or leave it a number."
    return "Use CASE WHEN …, or declare the column's type in landing.columns."


def _moment_literal(node: exp.Expr, text: str, kind: str) -> Value:
    if not ISO_LITERAL.fullmatch(text):
        raise Unproven(node, f"reads {text!r} as a {kind}", "Write it as 2024-01-31 or 2024-01-31 10:00:00.")
    text = text[:10] if kind == "date" else text.replace("T", " ")
    return Value(f"{kind.upper()} {string(text)}", kind)


def _from_text(shape: str, other: str, reading: str, target: str) -> Callable[[Value, str], str]:
    """A cast of text: ``shape`` both engines read alike, what is of ``other`` only one of them may read."""

    def cast(value: Value, function: str) -> str:
        x = value.text
        strange = f"WHEN {x} RLIKE '{other}' THEN {fails(f'a text that only DuckDB may read as a {target}')} "
        if function == "cast":
            strange = f"WHEN {x} IS NOT NULL THEN {fails(f'a text that is no plain {target}')} "
        return f"CASE WHEN {x} RLIKE '{shape}' THEN {reading.format(x=x, cast=function)} {strange}END"

    return cast


_CASTS: dict[tuple[str, str], Callable[[Value, str], str]] = {
    ("int", "int"): lambda v, cast: v.text,
    ("boolean", "int"): lambda v, cast: f"CAST({v.text} AS BIGINT)",
    # DuckDB rounds to the nearest, halves to even; Spark's own cast truncates.
    ("double", "int"): lambda v, cast: f"{cast}(rint({v.text}) AS BIGINT)",
    ("string", "int"): _from_text(
        _PLAIN_INT, _OTHER_INT, "{cast}(round(CAST(trim({x}) AS DECIMAL(38, 18))) AS BIGINT)", "whole number"
    ),
    ("int", "double"): lambda v, cast: as_double(v),
    ("decimal", "double"): lambda v, cast: as_double(v),
    ("boolean", "double"): lambda v, cast: f"CAST({v.text} AS DOUBLE)",
    ("string", "double"): _from_text(_PLAIN_DOUBLE, _OTHER_DOUBLE, "{cast}({x} AS DOUBLE)", "number"),
    ("int", "string"): lambda v, cast: f"CAST({v.text} AS STRING)",
    ("boolean", "string"): lambda v, cast: f"CAST({v.text} AS STRING)",
    ("date", "string"): lambda v, cast: f"CAST({v.text} AS STRING)",
    ("timestamp", "string"): lambda v, cast: f"CAST({v.text} AS STRING)",
    ("int", "boolean"): lambda v, cast: f"({v.text} <> 0L)",
    ("string", "date"): _from_text(_PLAIN_DATE, "[0-9]", "{cast}({x} AS DATE)", "date"),
    ("timestamp", "date"): lambda v, cast: f"CAST({v.text} AS DATE)",
    ("string", "timestamp"): _from_text(_PLAIN_TIMESTAMP, "[0-9]", "{cast}({x} AS TIMESTAMP)", "timestamp"),
    ("date", "timestamp"): lambda v, cast: f"CAST({v.text} AS TIMESTAMP)",
}
