"""Aggregates and windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.spark.expressions import (
    RULES,
    Translator,
    Unproven,
    Value,
    as_double,
    cast_cure,
    misfit,
    name_of,
    only,
    proven,
    shown,
)

if TYPE_CHECKING:
    from sqlglot import exp

ORDERED_ONLY = {
    "RowNumber", "Rank", "DenseRank", "PercentRank", "CumeDist", "Ntile", "Lag", "Lead", "FirstValue", "LastValue",
}  # fmt: skip
"""Functions over a window that mean nothing without an order."""


def _aggregated(to: Translator, node: exp.Expr, condition: str, over: str) -> Value:
    """An aggregate of the rows for which ``condition`` holds (empty: of all), with ``over`` behind each function."""
    from sqlglot import exp

    name = name_of(node)
    if name == "Count":
        return Value(_count(to, node, condition, over), "int")
    only(node, "this", "expression", "expressions")
    argument = node.expressions[0] if name == "mean" else node.this
    if isinstance(argument, exp.Distinct):
        raise Unproven(node, f"uses {shown(node)}", "Only count takes DISTINCT: make the rows distinct in a CTE.")

    def given(text: str) -> str:
        return f"CASE WHEN {condition} THEN {text} END" if condition else text

    match name:
        case "CountIf":
            condition_holds = to.of(argument, "boolean")
            return Value(f"count({given(f'CASE WHEN {condition_holds} THEN 1 END')}){over}", "int")
        case "LogicalAnd" | "LogicalOr":
            function = "bool_and" if name == "LogicalAnd" else "bool_or"
            return Value(f"{function}({given(to.of(argument, 'boolean'))}){over}", "boolean")
        case "Min" | "Max":
            value = to.translate(argument)
            if value.kind in ("null", "decimal"):
                raise Unproven(argument, misfit(argument, value, "a column type"), cast_cure(value))
            return Value(f"{name.lower()}({given(value.text)}){over}", value.kind)
        case "Sum":
            value = to.number(argument)
            return Value(f"sum({given(value.text)}){over}", value.kind)
        case "Avg" | "mean":
            value = to.number(argument)
            x = given(value.text)
            if value.kind == "int":
                return Value(f"(CAST(sum({x}){over} AS DOUBLE) / nullif(count({x}){over}, 0L))", "double")
            return Value(f"avg({x}){over}", "double")
        case "Median" | "PercentileCont":
            if over:
                raise Unproven(node, f"uses {shown(node)} over a window", "Group in a CTE and join it.")
            share = "0.5" if name == "Median" else to.translate(node.expression).literal
            if share is None or not 0 <= float(share) <= 1:
                raise Unproven(node, "has a quantile that is no number from 0 to 1", "Write the number itself.")
            return Value(f"percentile({given(as_double(to.number(argument)))}, {share}D)", "double")
    function = {"StddevPop": "stddev_pop", "Variance": "var_samp", "VariancePop": "var_pop"}.get(name, "stddev_samp")
    return Value(f"{function}({given(as_double(to.number(argument)))}){over}", "double")


def _count(to: Translator, node: Any, condition: str, over: str) -> str:
    from sqlglot import exp

    only(node, "this")
    if isinstance(node.this, exp.Star):
        return f"count(CASE WHEN {condition} THEN 1 END){over}" if condition else f"count(*){over}"
    distinct = isinstance(node.this, exp.Distinct)
    if distinct and (len(node.this.expressions) != 1 or over):
        raise Unproven(node, f"uses {shown(node)}", "Count one column, and not over a window.")
    value = to.translate(node.this.expressions[0] if distinct else node.this)
    text = f"CASE WHEN {condition} THEN {value.text} END" if condition else value.text
    return f"count({'DISTINCT ' if distinct else ''}{text}){over}"


@proven(
    "Count", "CountIf", "Sum", "Avg", "mean", "Min", "Max", "LogicalAnd", "LogicalOr", "Median", "PercentileCont",
    "Stddev", "StddevSamp", "StddevPop", "Variance", "VariancePop",
)  # fmt: skip
def _aggregate(to: Translator, node: exp.Expr) -> Value:
    return _aggregated(to, node, "", "")


AGGREGATES = frozenset(name for name, rule in RULES.items() if rule is _aggregate)


@proven("Filter")
def _filtered(to: Translator, node: exp.Filter) -> Value:
    if name_of(node.this) not in AGGREGATES:
        return to.translate(node.this)
    return _aggregated(to, node.this, to.of(node.expression.this, "boolean"), "")


@proven("Window")
def _over_window(to: Translator, node: exp.Window) -> Value:
    from sqlglot import exp

    over, call, condition = to.window(node), node.this, ""
    if isinstance(call, exp.Filter):
        call, condition = call.this, to.of(call.expression.this, "boolean")
    name = name_of(call)
    if name in AGGREGATES:
        return _aggregated(to, call, condition, over)
    if name not in ORDERED_ONLY:
        raise Unproven(node, f"uses {shown(call)} over a window", "Use row_number, rank, lag, lead or an aggregate.")
    if not node.args.get("order"):
        raise Unproven(node, f"uses {shown(call)} over rows in no order", "Add ORDER BY, best with the key at its end.")
    return _WINDOW_RULES.get(name, _ranked)(to, call, over)


def _ranked(to: Translator, node: exp.Expr, over: str) -> Value:
    function = {"RowNumber": "row_number", "Rank": "rank", "DenseRank": "dense_rank"}.get(name_of(node))
    if function:
        return Value(f"CAST({function}(){over} AS BIGINT)", "int")
    return Value(f"{'percent_rank' if name_of(node) == 'PercentRank' else 'cume_dist'}(){over}", "double")


def _ntile(to: Translator, node: exp.Ntile, over: str) -> Value:
    return Value(f"CAST(ntile({to.whole(node.this, 1, 'a number of parts')}){over} AS BIGINT)", "int")


def _neighbour(to: Translator, node: exp.Expr, over: str) -> Value:
    from sqlglot import exp

    only(node, "this", "offset", "default")
    offset = node.args.get("offset")
    steps = to.whole(offset, 0, "an offset") if offset is not None else 1
    texts, kind, digits = to.alike([node.this, node.args.get("default") or exp.Null()])
    return Value(f"{name_of(node).lower()}({texts[0]}, {steps}, {texts[1]}){over}", kind, digits)


def _edge(to: Translator, node: exp.Expr, over: str) -> Value:
    only(node, "this")
    value = to.translate(node.this)
    function = "first_value" if name_of(node) == "FirstValue" else "last_value"
    return Value(f"{function}({value.text}){over}", value.kind, value.digits)


_WINDOW_RULES: dict[str, Callable[[Translator, Any, str], Value]] = {
    "Ntile": _ntile,
    "Lag": _neighbour,
    "Lead": _neighbour,
    "FirstValue": _edge,
    "LastValue": _edge,
}
