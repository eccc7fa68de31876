"""Text and regular expressions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.spark.expressions import Translator, Unproven, Value, fails, name_of, only, proven, string

if TYPE_CHECKING:
    from sqlglot import exp

BLANKS = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""The characters that DuckDB's trim takes away."""
LAST_ASCII = 127
_PATTERN = re.compile(
    r"\^?(?:[\w <>@%:;,/='\"#&!~-]|\[\^?(?:[\w .,:;/@%$€£¥_+*-]|\\[dw.])+\]|\\[dw.]|[.|()*+?]|\{\d+,?\d*\})*\$?"
)
"""Regular expressions that RE2 and Java read alike."""
_NOT_ALIKE = re.compile(r"[*+?}][+]|\(\?|\[[^\]]*(?:--|&&|\[)")


@proven("DPipe")
def _piped(to: Translator, node: exp.DPipe) -> Value:
    only(node, "this", "expression")
    return Value(f"concat({to.words(node.this)}, {to.words(node.expression)})", "string")


@proven("Concat")
def _concat(to: Translator, node: exp.Concat) -> Value:
    only(node, "expressions")
    # A null makes all of Spark's concat null; DuckDB leaves it out.
    return Value(f"concat({', '.join(_or_empty(to.words(e)) for e in node.expressions)})", "string")


def _or_empty(text: str) -> str:
    return f"coalesce({text}, '')"


@proven("ConcatWs")
def _concat_ws(to: Translator, node: exp.ConcatWs) -> Value:
    only(node, "expressions")
    separator, *others = node.expressions
    written = to.translate(separator).literal or to.written(separator, "a separator")
    return Value(f"concat_ws({', '.join([string(written), *(to.words(e) for e in others)])})", "string")


@proven("Chr")
def _character(to: Translator, node: exp.Chr) -> Value:
    only(node, "expressions")
    code = to.whole(node.expressions[0], 1, "a character code")
    if code > LAST_ASCII:
        raise Unproven(node, f"has the character code {code}", "Write the character itself.")
    return Value(string(chr(code)), "string", literal=chr(code))


@proven("Lower", "Upper")
def _cased(to: Translator, node: exp.Expr) -> Value:
    name, x = type(node).__name__.lower(), to.of(node.this, "string")
    given, wanted, strange = _CASED[name]
    stop = fails(f"{name}() of a letter for which the engines have different ones")
    cased = f"{name}(translate({x}, '{given}', '{wanted}'))"
    return Value(f"CASE WHEN {x} RLIKE '{strange}' THEN {stop} ELSE {cased} END", "string")


_NEW_LETTERS = "ƛɤ\u1c89-\u1c8a\ua7cb-\ua7dc\U00010d50-\U00010d85\U00016ea0-\U00016ed3"
_CASED = {
    "lower": ("İΣ", "iσ", f"[{_NEW_LETTERS}]"),
    "upper": ("ß", "ẞ", f"[ŉǰΐΰևẖ-ẚὐ-ὖᾀ-ῼﬀ-ﬗ{_NEW_LETTERS}]"),
}
"""Letters that DuckDB maps otherwise than Java, to what; and those where Java's own releases differ, or a
letter becomes several."""


@proven("Trim")
def _trimmed(to: Translator, node: exp.Trim) -> Value:
    only(node, "this", "position")
    side = str(node.args.get("position") or "BOTH")
    # Spark alone would take away plain blanks only.
    return Value(f"trim({side} {string(BLANKS)} FROM {to.of(node.this, 'string')})", "string")


@proven("Length")
def _length(to: Translator, node: exp.Length) -> Value:
    only(node, "this")
    return Value(f"CAST(length({to.of(node.this, 'string')}) AS BIGINT)", "int")


@proven("Substring")
def _substring(to: Translator, node: exp.Substring) -> Value:
    only(node, "this", "start", "length")
    start, length = to.whole(node.args.get("start"), 1, "a start"), node.args.get("length")
    rest = f", {to.whole(length, 0, 'a length')}" if length is not None else ""
    return Value(f"substring({to.of(node.this, 'string')}, {start}{rest})", "string")


@proven("Left", "Right")
def _end(to: Translator, node: exp.Expr) -> Value:
    only(node, "this", "expression")
    count = to.whole(node.expression, 0, "a length")
    return Value(f"{type(node).__name__.lower()}({to.of(node.this, 'string')}, {count})", "string")


@proven("Replace")
def _replaced(to: Translator, node: exp.Replace) -> Value:
    only(node, "this", "expression", "replacement")
    searched = string(to.written(node.expression, "a text to replace"))
    new = to.of(node.args["replacement"], "string")
    return Value(f"replace({to.of(node.this, 'string')}, {searched}, {new})", "string")


@proven("StartsWith", "EndsWith", "Contains", "prefix", "suffix")
def _has(to: Translator, node: exp.Expr) -> Value:
    function = {"StartsWith": "startswith", "prefix": "startswith", "Contains": "contains"}.get(
        name_of(node), "endswith"
    )
    whole, part = node.expressions if name_of(node).islower() else (node.this, node.expression)
    return Value(f"{function}({to.of(whole, 'string')}, {to.of(part, 'string')})", "boolean")


@proven("Like", "ILike")
def _like(to: Translator, node: exp.Like) -> Value:
    only(node, "this", "expression", "negate")
    pattern = to.written(node.expression, "a pattern")
    ignoring = type(node).__name__ == "ILike"
    if "\\" in pattern or (ignoring and not pattern.isascii()):
        raise Unproven(node, f"has the pattern {pattern!r}", "Leave out backslashes; with ILIKE use plain letters.")
    negated = "NOT " if node.args.get("negate") else ""
    text = to.of(node.this, "string")
    if ignoring:
        text, pattern = (
            f"translate({text}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')",
            pattern.lower(),
        )
    return Value(f"({text} {negated}LIKE {string(pattern)})", "boolean")


@proven("StrPosition")
def _position(to: Translator, node: exp.StrPosition) -> Value:
    only(node, "this", "substr")
    part = string(to.written(node.args["substr"], "a text to find"))
    return Value(f"CAST(instr({to.of(node.this, 'string')}, {part}) AS BIGINT)", "int")


@proven("Pad")
def _padded(to: Translator, node: exp.Pad) -> Value:
    only(node, "this", "expression", "fill_pattern", "is_left")
    function = "lpad" if node.args.get("is_left") else "rpad"
    length, fill = to.whole(node.expression, 0, "a length"), to.written(node.args.get("fill_pattern"), "a filling")
    return Value(f"{function}({to.of(node.this, 'string')}, {length}, {string(fill)})", "string")


@proven("SplitPart")
def _split_part(to: Translator, node: exp.SplitPart) -> Value:
    only(node, "this", "delimiter", "part_index")
    delimiter, index = to.written(node.args["delimiter"], "a delimiter"), to.whole(node.args["part_index"], 1, "a part")
    return Value(f"split_part({to.of(node.this, 'string')}, {string(delimiter)}, {index})", "string")


@proven("MD5")
def _md5(to: Translator, node: exp.MD5) -> Value:
    return Value(f"md5({to.of(node.this, 'string')})", "string")


@proven("RegexpLike", "RegexpFullMatch")
def _matches(to: Translator, node: exp.Expr) -> Value:
    only(node, "this", "expression", "full_match")
    whole = type(node).__name__ == "RegexpFullMatch"
    return Value(f"({to.of(node.this, 'string')} RLIKE {_pattern(to, node.expression, whole)})", "boolean")


@proven("RegexpExtract")
def _extracted(to: Translator, node: exp.RegexpExtract) -> Value:
    only(node, "this", "expression", "group")
    pattern, group = _pattern(to, node.expression), node.args.get("group")
    number = to.whole(group, 0, "a group") if group is not None else 0
    return Value(f"regexp_extract({to.of(node.this, 'string')}, {pattern}, {number})", "string")


@proven("RegexpReplace")
def _regexp_replaced(to: Translator, node: exp.RegexpReplace) -> Value:
    only(node, "this", "expression", "replacement", "modifiers")
    new = to.of(node.args["replacement"], "string")
    literal = to.translate(node.args["replacement"]).literal
    modifiers = node.args.get("modifiers")
    if modifiers is None or modifiers.name != "g":
        raise Unproven(node, "replaces the first match only, where Spark replaces all", "Give 'g' as fourth argument.")
    if literal is None or "\\" in literal or "$" in literal:
        raise Unproven(node, "has a replacement with a group in it", "Replace by plain text.")
    return Value(f"regexp_replace({to.of(node.this, 'string')}, {_pattern(to, node.expression)}, {new})", "string")


def _pattern(to: Translator, node: exp.Expr, whole: bool = False) -> str:
    pattern = to.written(node, "a pattern")
    if not _PATTERN.fullmatch(pattern) or _NOT_ALIKE.search(pattern):
        raise Unproven(
            node,
            f"has the regular expression {pattern!r}, which the engines may read differently",
            "Use letters, digits, [classes], \\d, \\w, (a|b), *, +, ?, {n}, ^ at the start, $ at the end.",
        )
    ended = pattern.endswith("$") and not pattern.endswith("\\$")
    pattern = pattern[:-1] if ended else pattern
    # A dot of RE2 takes every character but the line feed, and its $ is the end of the text.
    body = f"(?d){'^(?:' + pattern + ')' if whole else pattern}" + ("\\z" if ended or whole else "")
    return string(body)
