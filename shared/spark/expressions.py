"""Expressions of features.sql in Spark SQL: those that are proven to give what DuckDB gives, and no others.

Each rule of :data:`RULES` is one construct of DuckDB's dialect, as sqlglot's syntax tree names it, and
writes it so that Spark means the same. tests/spark runs every rule on both engines; what has no rule is
refused. Where the meaning hangs on a value that only the data have, Spark is told to fail on it rather
than to give something else.

Numbers are BIGINT (int) or DOUBLE (double) as in the landed columns; a literal with a point is an exact
decimal in both engines until it meets a double.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.features.features_sql import DIALECT

if TYPE_CHECKING:
    from sqlglot import exp

NUMBERS = ("int", "decimal", "double")
DECIMAL_DIGITS = 38
EXACT_IN_A_DOUBLE = 2**53

TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?"
ISO_LITERAL = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([ T]{TIME})?")
SPARK_TYPES = {
    "string": "STRING", "int": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "date": "DATE",
    "timestamp": "TIMESTAMP",
}  # fmt: skip
"""The column types in Spark SQL. A timestamp is a time in UTC: the session's time zone must be UTC."""

_SET_BY_SQLGLOT = {"safe", "coalesce", "big_int", "date_part_boundary", "null_if_pos_overflow", "single_replace"}

_AGGREGATE_CURE = "Use count, sum, avg, min, max, stddev, median or count_if, or a window with ORDER BY."
CURES = {
    "Cast": "Cast to VARCHAR, BIGINT, INTEGER, DOUBLE, BOOLEAN, DATE or TIMESTAMP.",
    "TimeToStr": "Take year(…), month(…), day(…) and put them together.",
    "StrToTime": "Land ISO dates (2024-01-31) and declare the column as date or timestamp in landing.columns.",
    "IgnoreNulls": _AGGREGATE_CURE,
    "ArrayAgg": _AGGREGATE_CURE, "GroupConcat": _AGGREGATE_CURE, "AnyValue": _AGGREGATE_CURE,
    "First": _AGGREGATE_CURE, "Last": _AGGREGATE_CURE, "Mode": _AGGREGATE_CURE, "ArgMax": _AGGREGATE_CURE,
    "ArgMin": _AGGREGATE_CURE, "ApproxDistinct": "Use count(DISTINCT …), which is exact.",
    "ApproxQuantile": "Use quantile_cont, which is exact.",
    "Subquery": "Put it into a CTE (WITH …) and join it.", "Exists": "Join a CTE instead.",
    "Glob": "Use LIKE.", "SimilarTo": "Use regexp_full_match.", "Columns": "Name the columns.",
    "AtTimeZone": "Declare the column as timestamp: an offset in the data counts, and times are in UTC.",
    "Array": "Features are single values: write one column for each.",
    "Struct": "Features are single values: write one column for each.",
    "Bracket": "Use substring(text, start, length).",
    "Lambda": "Write one column for each element.",
}  # fmt: skip
"""What to write instead, for constructs that are often tried."""
USUAL_CURE = "Write it with the constructs that docs/spark.md lists as proven."


@dataclass(frozen=True)
class Value:
    """An expression in Spark SQL. ``kind`` is a column type, decimal (of ``digits``: precision, scale) or null.

    ``literal`` is the text or number of a literal.
    """

    text: str
    kind: str
    digits: tuple[int, int] = (0, 0)
    literal: str | None = None


class Unproven(Exception):
    """A construct that is not proven equal: the node, what it is and what to write instead."""

    def __init__(self, node: exp.Expr, what: str, cure: str = USUAL_CURE) -> None:
        super().__init__(what)
        self.node, self.what, self.cure = node, what, cure


Resolve = Callable[["exp.Column"], Value]
"""The value of a column, raises Unproven when there is none or the name is not clear."""
Rule = Callable[["Translator", Any], Value]
RULES: dict[str, Rule] = {}
"""The proven constructs by the name of their node, for functions that sqlglot does not know by their own."""


def proven(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule under the names of its constructs."""

    def enter(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return enter


def name_of(node: exp.Expr) -> str:
    """The name under which a node's rule is entered."""
    from sqlglot import exp

    return node.name.lower() if isinstance(node, exp.Anonymous) else type(node).__name__


def quoted(name: str) -> str:
    """``name`` as an identifier of Spark SQL."""
    return "`" + name.replace("`", "``") + "`"


def string(value: str) -> str:
    """``value`` as a string literal of Spark SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Translator:
    """Translates expressions whose columns ``resolve`` knows."""

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve

    def translate(self, node: exp.Expr) -> Value:
        """``node`` in Spark SQL. Raises :class:`Unproven` for what is not proven."""
        rule = RULES.get(name_of(node))
        if rule is None:
            shown = node.sql(dialect=DIALECT)
            shown = shown if len(shown) <= 60 else shown[:57] + "…"
            raise Unproven(
                node, f"uses {shown}, not proven to mean the same in Spark", CURES.get(name_of(node), USUAL_CURE)
            )
        return rule(self, node)

    def window(self, node: exp.Window) -> str:
        """The text of a window's OVER (…)."""
        only(node, "this", "partition_by", "order", "spec", "over")
        parts = []
        if node.args.get("partition_by"):
            parts.append("PARTITION BY " + ", ".join(self.translate(e).text for e in node.args["partition_by"]))
        order = node.args.get("order")
        if order:
            parts.append("ORDER BY " + ", ".join(self._ordered(o) for o in order.expressions))
        spec = node.args.get("spec")
        if spec:
            parts.append(self._frame(spec))
        return f" OVER ({' '.join(parts)})"

    def _ordered(self, node: exp.Ordered) -> str:
        only(node, "this", "desc", "nulls_first")
        nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
        return f"{self.translate(node.this).text} {'DESC' if node.args.get('desc') else 'ASC'} NULLS {nulls}"

    def _frame(self, spec: exp.WindowSpec) -> str:
        only(spec, "kind", "start", "start_side", "end", "end_side")
        if spec.args.get("kind") != "ROWS":
            raise Unproven(spec, "has a window frame that is not of ROWS", "Write ROWS BETWEEN … AND ….")
        ends = []
        for side, otherwise in (("start", "CURRENT ROW"), ("end", "CURRENT ROW")):
            value = spec.args.get(side)
            if value is None:
                ends.append(otherwise)
                continue
            text = value if isinstance(value, str) else value.name
            if not (text in ("UNBOUNDED", "CURRENT ROW") or text.isdecimal()):
                raise Unproven(spec, "has a window frame whose ends are no numbers", "Write numbers of rows.")
            ends.append(f"{text} {spec.args.get(f'{side}_side') or ''}".strip())
        return f"ROWS BETWEEN {ends[0]} AND {ends[1]}"

    # What rules need of their arguments

    def number(self, node: exp.Expr, *kinds: str) -> Value:
        """``node`` as a number; raises Unproven when it is none of ``kinds`` (int and double by default)."""
        value = self.translate(node)
        if value.kind not in (kinds or ("int", "double")):
            raise Unproven(node, misfit(node, value, " or ".join(kinds or ("int", "double"))), cast_cure(value))
        return value

    def double(self, node: exp.Expr) -> str:
        """``node`` as a double."""
        return as_double(self.number(node, *NUMBERS))

    def of(self, node: exp.Expr, kind: str) -> str:
        """``node``, which must be of ``kind`` (or null)."""
        value = self.translate(node)
        if value.kind not in (kind, "null"):
            raise Unproven(node, misfit(node, value, kind), cast_cure(value))
        return value.text if value.kind == kind else f"CAST(NULL AS {SPARK_TYPES[kind]})"

    def moment(self, node: exp.Expr) -> Value:
        """``node``, a date or timestamp."""
        return self.number(node, "date", "timestamp")

    def words(self, node: exp.Expr) -> str:
        """``node`` as text, as || and concat make it."""
        value = self.translate(node)
        if value.kind == "null":
            return "CAST(NULL AS STRING)"
        if value.kind not in ("string", "int", "boolean", "date"):
            raise Unproven(
                node,
                f"makes text of {shown(node)}, a {value.kind}, which looks otherwise in Spark",
                "Make text of whole numbers and dates only, or round to BIGINT first.",
            )
        return value.text if value.kind == "string" else f"CAST({value.text} AS STRING)"

    def whole(self, node: exp.Expr | None, least: int, what: str) -> int:
        """The value of an integer literal of at least ``least``."""
        from sqlglot import exp

        if isinstance(node, exp.Literal) and not node.is_string and node.name.isdecimal() and int(node.name) >= least:
            return int(node.name)
        raise Unproven(
            node or exp.Null(), f"has {what} that is no whole number of at least {least}", "Write the number itself."
        )

    def written(self, node: exp.Expr | None, what: str) -> str:
        """The value of a string literal that is not empty."""
        from sqlglot import exp

        if isinstance(node, exp.Literal) and node.is_string and node.name:
            return node.name
        raise Unproven(node or exp.Null(), f"has {what} that is no text in quotes", "Write the text itself.")

    def alike(self, nodes: Sequence[exp.Expr]) -> tuple[list[str], str, tuple[int, int]]:
        """The texts of ``nodes`` brought to one type, as DuckDB does; the type; its digits when it is decimal."""
        values = [self.translate(node) for node in nodes]
        kinds = {value.kind for value in values} - {"null"}
        moments = kinds & {"date", "timestamp"}
        if moments and "string" in kinds:
            literals = [v for v in values if v.kind == "string"]
            if all(v.literal and ISO_LITERAL.fullmatch(v.literal) for v in literals):
                kinds.remove("string")
                if any(len(v.literal or "") > 10 for v in literals) and moments == {"date"}:
                    raise Unproven(nodes[0], "compares a date with a text that has a time", "Write the date alone.")
        kind = _common(kinds)
        if kind is None:
            shown = " and ".join(sorted(kinds))
            raise Unproven(
                nodes[0],
                f"brings {shown} together, which the engines convert differently",
                "Cast one side, so that both are of one type.",
            )
        digits = _widest([v for v in values if v.kind != "null"], nodes[0]) if kind == "decimal" else (0, 0)
        return [_to(value, kind) for value in values], kind, digits


def only(node: exp.Expr, *names: str) -> None:
    """Raises Unproven when ``node`` has an argument that is none of ``names``: its rule does not know what it means."""
    for name, value in node.args.items():
        if value and name not in names and name not in _SET_BY_SQLGLOT:
            raise Unproven(node, f"uses {shown(node)} with {name.replace('_', ' ').strip()}, not proven in Spark")


def as_double(value: Value) -> str:
    """A number as a double."""
    if value.kind == "double":
        return value.text
    if value.literal is not None:
        return f"{value.literal}D"
    return f"CAST({value.text} AS DOUBLE)"


def fails(message: str) -> str:
    """An expression that stops the job with a message."""
    return f"raise_error({string('features.sql: ' + message)})"


def shown(node: exp.Expr) -> str:
    text = node.sql(dialect=DIALECT)
    return text if len(text) <= 60 else text[:57] + "…"


def misfit(node: exp.Expr, value: Value, wanted: str) -> str:
    return f"has {shown(node)}, a {value.kind}, where {wanted} is proven"


def cast_cure(value: Value) -> str:
    return "Write it as a double: 0.5::DOUBLE." if value.kind == "decimal" else "Cast it."


def _common(kinds: set[str]) -> str | None:
    if len(kinds) <= 1:
        return next(iter(kinds), "null")
    if kinds <= set(NUMBERS):
        return "double" if "double" in kinds else "decimal"
    return "timestamp" if kinds == {"date", "timestamp"} else None


def _to(value: Value, kind: str) -> str:
    if value.kind == kind or value.kind == "null":
        return value.text
    if kind == "double":
        return as_double(value)
    if kind in ("date", "timestamp") and value.literal is not None:
        return f"{kind.upper()} {string(value.literal.replace('T', ' '))}"
    return f"CAST({value.text} AS TIMESTAMP)" if kind == "timestamp" else value.text


def digits_of(value: Value) -> tuple[int, int]:
    return value.digits if value.kind == "decimal" else (20, 0)


def _widest(values: Sequence[Value], node: exp.Expr) -> tuple[int, int]:
    scale = max(digits_of(v)[1] for v in values)
    return fitting(max(digits_of(v)[0] - digits_of(v)[1] for v in values) + scale, scale, node)


def fitting(precision: int, scale: int, node: exp.Expr) -> tuple[int, int]:
    if precision > DECIMAL_DIGITS:
        raise Unproven(
            node,
            f"has an exact number of {precision} digits, of which Spark would drop some",
            "Write one factor as a double: 0.5::DOUBLE.",
        )
    return precision, scale


# Literals and columns


@proven("Literal")
def _literal(to: Translator, node: exp.Literal) -> Value:
    text = node.name
    if node.is_string:
        return Value(string(text), "string", literal=text)
    if text.isdecimal():
        if int(text) >= 2**63:
            raise Unproven(node, f"has the number {text}, beyond BIGINT", "Write a double: 1e20.")
        return Value(f"{int(text)}L", "int", literal=str(int(text)))
    if "e" in text.lower():
        return Value(f"{text}D", "double")
    whole, _, part = text.partition(".")
    digits = (whole + part).lstrip("0")
    if int(digits or "0") >= EXACT_IN_A_DOUBLE or len(part) > 22:
        raise Unproven(node, f"has the number {text} with more digits than a double holds", f"Write {text}e0.")
    return Value(f"{text}BD", "decimal", (max(len(digits), len(part), 1), len(part)), literal=text)


@proven("Boolean")
def _boolean(to: Translator, node: exp.Boolean) -> Value:
    return Value("true" if node.this else "false", "boolean")


@proven("Null")
def _null(to: Translator, node: exp.Null) -> Value:
    return Value("NULL", "null")


@proven("Column")
def _column(to: Translator, node: exp.Column) -> Value:
    return to.resolve(node)


@proven("Paren")
def _paren(to: Translator, node: exp.Paren) -> Value:
    return to.translate(node.this)
