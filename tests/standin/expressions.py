"""The expression language of pipelines, as far as ours use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+)|([A-Za-z_]\w*)|(\?\.|[().,\[\]]))")
CONSTANTS = {"true": True, "false": False, "null": None}


class Unevaluable(Exception):
    """The text is no expression, or it names what there is not."""


Functions = dict[str, Callable[..., Any]]


def _empty(value: Any) -> bool:
    return value is None or len(value) == 0


PURE: Functions = {
    "and": lambda a, b: a and b,
    "concat": lambda *parts: "".join(_text(part) for part in parts),
    "contains": lambda where, what: what in where,
    "createArray": lambda *items: list(items),
    "empty": _empty,
    "equals": lambda a, b: a == b,
    "last": lambda items: items[-1],
    "lastIndexOf": lambda text, part: text.rfind(part),
    "not": lambda value: not value,
    "or": lambda a, b: a or b,
    "split": lambda text, separator: text.split(separator),
    "string": lambda value: _text(value),
    "substring": lambda text, start, length: text[start : start + length],
}


def evaluate(value: Any, functions: Functions) -> Any:
    """``value`` with every expression in it replaced by what it gives: ``@…``, ``@{…}`` in a text, or an object of
    type Expression. ``functions`` are those that depend on the run.
    """
    known = {**PURE, **functions}
    if isinstance(value, dict):
        if value.get("type") == "Expression" and set(value) == {"type", "value"}:
            return evaluate(value["value"], functions)
        return {key: evaluate(item, functions) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluate(item, functions) for item in value]
    if not isinstance(value, str) or "@" not in value:
        return value
    if value.startswith("@@"):
        return value[1:]
    if value.startswith("@") and not value.startswith("@{"):
        return _Parser(value[1:], known).whole()
    return re.sub(r"@\{(.*?)\}", lambda match: _text(_Parser(match[1], known).whole()), value)


def _text(value: Any) -> str:
    return {True: "True", False: "False"}.get(value, str(value)) if isinstance(value, bool) else str(value)


class _Parser:
    def __init__(self, text: str, functions: Functions) -> None:
        self._text, self._functions = text, functions
        self._tokens: list[tuple[str, str]] = list(self._split())
        self._at = 0

    def whole(self) -> Any:
        value = self._value()
        if self._at != len(self._tokens):
            raise Unevaluable(f"{self._text!r} goes on after its end")
        return value

    def _split(self) -> Iterator[tuple[str, str]]:
        at = 0
        text = self._text.rstrip()
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise Unevaluable(f"{self._text!r} is no expression from character {at} on")
            for kind, token in zip(("text", "number", "name", "sign"), match.groups(), strict=True):
                if token is not None:
                    yield kind, token
            at = match.end()

    def _next(self, wanted: str = "") -> tuple[str, str]:
        if self._at >= len(self._tokens) or (wanted and self._tokens[self._at][1] != wanted):
            raise Unevaluable(f"{self._text!r}: {wanted or 'more'} is missing")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _value(self) -> Any:
        kind, token = self._next()
        if kind == "text":
            return token[1:-1].replace("''", "'")
        if kind == "number":
            return int(token)
        if kind != "name":
            raise Unevaluable(f"{self._text!r}: {token} is in the wrong place")
        value = self._call(token) if self._peek() == "(" else self._constant(token)
        while self._peek() in (".", "?.", "["):
            value = self._property(value)
        return value

    def _constant(self, name: str) -> Any:
        if name not in CONSTANTS:
            raise Unevaluable(f"{self._text!r}: {name} is no constant; texts are in single quotes")
        return CONSTANTS[name]

    def _call(self, name: str) -> Any:
        function = self._functions.get(name)
        if function is None:
            raise Unevaluable(f"{self._text!r}: the stand-in knows no function {name}")
        self._next("(")
        arguments = []
        while self._peek() != ")":
            arguments.append(self._value())
            if self._peek() == ",":
                self._next(",")
        self._next(")")
        return function(*arguments)

    def _property(self, value: Any) -> Any:
        _, sign = self._next()
        if sign == "[":
            key = self._value()
            self._next("]")
        else:
            key = self._next()[1]
        if sign == "?." and value is None:
            return None
        try:
            return value[key]
        except (KeyError, IndexError, TypeError) as error:
            raise Unevaluable(f"{self._text!r}: there is no {key!r} in {value!r}") from error
