"""Choices and conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.spark.expressions import Translator, Unproven, Value, only, proven, shown

if TYPE_CHECKING:
    from sqlglot import exp

_COMPARED = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">=", "NullSafeEQ": "<=>"}


@proven("Greatest", "Least")
def _extreme(to: Translator, node: exp.Greatest) -> Value:
    only(node, "this", "expressions", "ignore_nulls")
    texts, kind, digits = to.alike([node.this, *node.expressions])
    return Value(f"{type(node).__name__.lower()}({', '.join(texts)})", kind, digits)


@proven("Coalesce")
def _coalesce(to: Translator, node: exp.Coalesce) -> Value:
    only(node, "this", "expressions")
    texts, kind, digits = to.alike([node.this, *node.expressions])
    return Value(f"coalesce({', '.join(texts)})", kind, digits)


@proven("Nullif")
def _nullif(to: Translator, node: exp.Nullif) -> Value:
    only(node, "this", "expression")
    texts, kind, digits = to.alike([node.this, node.expression])
    if kind != to.translate(node.this).kind:
        raise Unproven(node, "has a nullif of two types", "Write both of the type of the first.")
    return Value(f"nullif({', '.join(texts)})", kind, digits)


@proven("If")
def _if(to: Translator, node: exp.If) -> Value:
    from sqlglot import exp

    only(node, "this", "true", "false")
    condition = to.of(node.this, "boolean")
    texts, kind, digits = to.alike([node.args["true"], node.args.get("false") or exp.Null()])
    return Value(f"CASE WHEN {condition} THEN {texts[0]} ELSE {texts[1]} END", kind, digits)


@proven("Case")
def _case(to: Translator, node: exp.Case) -> Value:
    from sqlglot import exp

    only(node, "this", "ifs", "default")
    subject, branches = node.args.get("this"), node.args["ifs"]
    if subject is None:
        conditions = [to.of(branch.this, "boolean") for branch in branches]
    else:
        (first, *others), _, _ = to.alike([subject, *(branch.this for branch in branches)])
        conditions = [f"{first} = {other}" for other in others]
    outcomes = [branch.args["true"] for branch in branches]
    (*texts, otherwise), kind, digits = to.alike([*outcomes, node.args.get("default") or exp.Null()])
    whens = " ".join(f"WHEN {c} THEN {t}" for c, t in zip(conditions, texts, strict=True))
    return Value(f"CASE {whens} ELSE {otherwise} END", kind, digits)


@proven("And", "Or")
def _connected(to: Translator, node: exp.Binary) -> Value:
    left, right = to.of(node.this, "boolean"), to.of(node.expression, "boolean")
    return Value(f"({left} {type(node).__name__.upper()} {right})", "boolean")


@proven("Not")
def _not(to: Translator, node: exp.Not) -> Value:
    return Value(f"(NOT {to.of(node.this, 'boolean')})", "boolean")


@proven("EQ", "NEQ", "LT", "LTE", "GT", "GTE", "NullSafeEQ")
def _compared(to: Translator, node: exp.Binary) -> Value:
    (left, right), _, _ = to.alike([node.this, node.expression])
    return Value(f"({left} {_COMPARED[type(node).__name__]} {right})", "boolean")


@proven("NullSafeNEQ")
def _distinct_from(to: Translator, node: exp.Binary) -> Value:
    (left, right), _, _ = to.alike([node.this, node.expression])
    return Value(f"(NOT {left} <=> {right})", "boolean")


@proven("Between")
def _between(to: Translator, node: exp.Between) -> Value:
    only(node, "this", "low", "high")
    (value, low, high), _, _ = to.alike([node.this, node.args["low"], node.args["high"]])
    return Value(f"({value} BETWEEN {low} AND {high})", "boolean")


@proven("In")
def _in(to: Translator, node: exp.In) -> Value:
    if node.args.get("query"):
        raise Unproven(node, "looks a value up in a subquery", "Join a CTE instead.")
    only(node, "this", "expressions")
    (value, *others), _, _ = to.alike([node.this, *node.expressions])
    return Value(f"({value} IN ({', '.join(others)}))", "boolean")


@proven("Is")
def _is_this(to: Translator, node: exp.Is) -> Value:
    from sqlglot import exp

    if isinstance(node.expression, exp.Null):
        return Value(f"({to.translate(node.this).text} IS NULL)", "boolean")
    if isinstance(node.expression, exp.Boolean):
        word = "TRUE" if node.expression.this else "FALSE"
        return Value(f"({to.of(node.this, 'boolean')} IS {word})", "boolean")
    raise Unproven(node, f"uses {shown(node)}", "Write IS NULL, IS TRUE or IS FALSE.")
