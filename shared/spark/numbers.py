"""Numbers: arithmetic, rounding, powers and logarithms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.spark.expressions import (
    NUMBERS,
    Translator,
    Unproven,
    Value,
    as_double,
    digits_of,
    fails,
    fitting,
    misfit,
    name_of,
    only,
    proven,
)
from shared.spark.times import moved_date, shifted

if TYPE_CHECKING:
    from sqlglot import exp

_SYMBOLS = {"Add": "+", "Sub": "-", "Mul": "*"}


@proven("Add", "Sub", "Mul")
def _arithmetic(to: Translator, node: exp.Binary) -> Value:
    from sqlglot import exp

    only(node, "this", "expression")
    if isinstance(node, exp.Add | exp.Sub) and isinstance(node.expression, exp.Interval):
        return shifted(to, node)
    left, right = to.translate(node.this), to.translate(node.expression)
    if isinstance(node, exp.Add | exp.Sub) and left.kind == "date":
        return moved_date(node, left, right)
    for side, value in ((node.this, left), (node.expression, right)):
        if value.kind not in NUMBERS:
            raise Unproven(side, misfit(side, value, "a number"), "Cast it, or use date_diff for dates.")
    symbol = _SYMBOLS[type(node).__name__]
    if "double" in (left.kind, right.kind):
        return Value(f"({as_double(left)} {symbol} {as_double(right)})", "double")
    text = f"({left.text} {symbol} {right.text})"
    if left.kind == right.kind == "int":
        return Value(text, "int")
    (p, s), (q, r) = digits_of(left), digits_of(right)
    if symbol == "*":
        return Value(text, "decimal", fitting(p + q + 1, s + r, node))
    return Value(text, "decimal", fitting(max(p - s, q - r) + max(s, r) + 1, max(s, r), node))


@proven("Neg")
def _negated(to: Translator, node: exp.Neg) -> Value:
    value = to.number(node.this, *NUMBERS)
    return Value(f"(- {value.text})", value.kind, value.digits)


@proven("Div")
def _divided(to: Translator, node: exp.Div) -> Value:
    only(node, "this", "expression", "typed")
    return Value(f"({to.double(node.this)} / nullif({to.double(node.expression)}, 0D))", "double")


@proven("IntDiv")
def _divided_whole(to: Translator, node: exp.IntDiv) -> Value:
    only(node, "this", "expression")
    left, right = to.number(node.this, "int"), to.number(node.expression, "int")
    return Value(f"({left.text} div nullif({right.text}, 0L))", "int")


@proven("Mod")
def _remainder(to: Translator, node: exp.Mod) -> Value:
    only(node, "this", "expression")
    left, right = to.number(node.this), to.number(node.expression)
    if left.kind == right.kind == "int":
        return Value(f"({left.text} % nullif({right.text}, 0L))", "int")
    return Value(f"({as_double(left)} % nullif({as_double(right)}, 0D))", "double")


@proven("Abs")
def _abs(to: Translator, node: exp.Abs) -> Value:
    value = to.number(node.this)
    return Value(f"abs({value.text})", value.kind)


@proven("Sign")
def _sign(to: Translator, node: exp.Sign) -> Value:
    return Value(f"CAST(sign({to.number(node.this).text}) AS BIGINT)", "int")


@proven("Ceil", "Floor", "Trunc")
def _to_whole(to: Translator, node: exp.Expr) -> Value:
    only(node, "this")
    value = to.number(node.this)
    if value.kind == "int":
        return Value(as_double(value), "double")
    name = type(node).__name__.lower()
    whole = f"CAST({value.text} AS BIGINT)" if name == "trunc" else f"{name}({value.text})"
    # Spark's go by way of BIGINT; from 2^52 on every double is whole.
    text = f"CASE WHEN abs({value.text}) < 4503599627370496D THEN CAST({whole} AS DOUBLE) ELSE {value.text} END"
    return Value(text, "double")


@proven("Round")
def _rounded(to: Translator, node: exp.Round) -> Value:
    only(node, "this", "decimals")
    value = to.number(node.this)
    places = node.args.get("decimals")
    digits = to.whole(places, 0, "a number of places") if places is not None else 0
    if digits > 15:
        raise Unproven(node, f"rounds to {digits} places", "Round to at most 15.")
    if value.kind == "int":
        return value
    # Spark rounds the decimal text of a double, DuckDB its product with a power of ten.
    text = f"round({value.text})" if not digits else f"(round({value.text} * 1e{digits}D) / 1e{digits}D)"
    return Value(text, "double")


@proven("Sqrt")
def _sqrt(to: Translator, node: exp.Sqrt) -> Value:
    x = to.double(node.this)
    return Value(
        f"CASE WHEN {x} < 0D THEN {fails('the square root of a negative number')} ELSE sqrt({x}) END", "double"
    )


@proven("Exp")
def _exp(to: Translator, node: exp.Exp) -> Value:
    return Value(f"exp({to.double(node.this)})", "double")


@proven("Ln", "Log")
def _logarithm(to: Translator, node: exp.Expr) -> Value:
    only(node, "this", "expression")
    base = node.this.name if node.args.get("expression") is not None else "10"
    function = {"10": "log10", "2": "log2"}.get(base)
    if type(node).__name__ == "Ln":
        function = "ln"
    if function is None:
        raise Unproven(node, f"takes a logarithm to base {base}", "Use ln, log10 or log2.")
    x = to.double(node.args.get("expression") or node.this)
    return Value(
        f"CASE WHEN {x} <= 0D THEN {fails('the logarithm of a number that is not positive')} ELSE {function}({x}) END",
        "double",
    )


@proven("Pow")
def _power(to: Translator, node: exp.Pow) -> Value:
    only(node, "this", "expression")
    x, y = to.double(node.this), to.double(node.expression)
    return Value(
        f"CASE WHEN {x} = 0D AND {y} < 0D THEN {fails('zero to a negative power')} ELSE power({x}, {y}) END", "double"
    )


@proven("IsNan", "IsInf", "isfinite")
def _is_special(to: Translator, node: exp.Expr) -> Value:
    argument = node.this if name_of(node) != "isfinite" else node.expressions[0]
    x = to.number(argument, "double").text
    test = {
        "IsNan": f"isnan({x})",
        "IsInf": f"abs({x}) = double('inf')",
        "isfinite": f"abs({x}) < double('inf')",
    }[name_of(node)]
    # Spark's isnan of a null is false.
    return Value(f"CASE WHEN {x} IS NOT NULL THEN {test} END", "boolean")
