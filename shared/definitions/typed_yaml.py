"""A YAML text read as a frozen dataclass: its fields are the schema, and every fault is found in one pass.

Scalars are taken as they are written and read by the type of their field, so ``label: yes`` is the
text yes and ``min_gain: 1e-3`` a number, whatever a YAML version makes of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from shared.errors import Fault

T = TypeVar("T")

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "map", "seq")
}
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"

# YAML 1.2 allows {a: double?}, the pure Python scanner of PyYAML does not: the mark is hidden from it.
_MARK = re.compile(r"(?<=\w)\?(?=\s*[,}\]])")
_HIDDEN = "\ue000"


class Faults:
    """The faults of one file by field, at most one for a field; a faulty field hides faults of the fields in it.

    ``lines`` holds the line (from 1) of each field that the file names.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self._found: dict[str, Fault] = {}
        self._included: list[Fault] = []

    def add(self, field: str, what: str, cure: str, *, line: int | None = None) -> None:
        """Note a fault of ``field`` (dotted, empty for the file itself); what is known of it already stays."""
        if not self.about(field):
            where = f"{self.file}:{line or self._line(field)} {field}".rstrip()
            self._found[field] = Fault(where, what, cure)

    def include(self, fault: Fault) -> None:
        """Add a fault of a file that this one names."""
        self._included.append(fault)

    def about(self, *fields: str) -> bool:
        """True when a fault of one of the fields, or of something that holds it, is known."""
        return any(step in self._found for field in fields for step in ("", *_steps(field)))

    def copy(self) -> Faults:
        """A list of its own with the same faults, for more to be added."""
        other = Faults(self.file)
        other.lines, other._found, other._included = self.lines, dict(self._found), list(self._included)
        return other

    def all(self) -> list[Fault]:
        """The faults in the order of the file's lines, then those of other files."""
        own = sorted(self._found.values(), key=lambda fault: int(fault.where[len(self.file) + 1 :].split(" ")[0]))
        return own + self._included

    def _line(self, field: str) -> int:
        return next((self.lines[step] for step in reversed(_steps(field)) if step in self.lines), 1)


def read(text: str, cls: type[T], faults: Faults) -> T | None:
    """The dataclass ``cls`` that ``text`` describes; what is wrong with it is added to ``faults``.

    With faults the value is a makeshift (faulty fields have their default, or are empty), fit only to
    look for more faults; None when the text is no YAML mapping at all.
    """
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(_MARK.sub(_HIDDEN, text))
        node = loader.get_single_node()
    except RecursionError:
        faults.add("", "is nested too deep", "Write it in plain, flat YAML.")
        return None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        cure = "Indent with spaces." if "\\t" in what or "tab" in what else "Mend the file there or on the line above."
        faults.add("", f"is no YAML: {what}", cure, line=mark.line + 1 if mark else 1)
        return None
    if not isinstance(node, yaml.MappingNode):
        first = dataclasses.fields(typing.cast(Any, cls))[0].name
        faults.add("", "is empty or no mapping of keys to values", f"Begin with {first}: …")
        return None
    return typing.cast(T, _Reader(faults, loader.flatten_mapping).dataclass(node, cls, ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest of ``known`` to ``name``, or all of them when none is near."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], 1, 0.6)
    if close:
        return f"Did you mean {next(n for n in names if n.lower() == close[0])}?"
    return f"Known: {', '.join(names)}." if names else "There is none yet."


def duration(text: str) -> timedelta:
    """The duration of a text like 30s, 10m, 2h, 7d or 1d12h. Raises ValueError for any other."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError(f"{text!r} is no duration")
    return timedelta(seconds=sum(float(part) * _SECONDS[unit] for unit, part in match.groupdict().items() if part))


class _Reader:
    """Walks YAML nodes along the type hints of a dataclass."""

    def __init__(self, faults: Faults, flatten: Any) -> None:
        self._faults = faults
        self._flatten = flatten
        self._flat: set[int] = set()

    def dataclass(self, node: Any, cls: type, path: str) -> Any:
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        hints = _hints(cls)
        values: dict[str, Any] = {}
        for key, item in self._items(node, path):
            field = f"{path}.{key}".lstrip(".")
            if key not in fields:
                self._faults.add(field, "there is no such key", nearest(key, fields))
            else:
                values[key] = self.value(item, hints[key], field)
        for name, field_ in fields.items():
            if name in values:
                continue
            values[name] = _default(field_, hints[name])
            if field_.default is dataclasses.MISSING and field_.default_factory is dataclasses.MISSING:
                self._faults.add(f"{path}.{name}".lstrip("."), "is missing", "Add it.")
        try:
            return cls(**values)
        except ValueError as error:
            name, _, what = str(error).partition(": ")
            what, _, example = what.partition(", for example ")
            cure = f"Write for example {example}." if example else "See docs/pipeline-yaml.md."
            self._faults.add(f"{path}.{name}".lstrip("."), what, cure)
            return _unchecked(cls, values)

    def value(self, node: Any, hint: Any, path: str) -> Any:
        """The node's value as ``hint`` wants it, or the hint's empty value after a fault."""
        problem = self._tag_problem(node)
        if problem:
            self._faults.add(path, problem, "Write the plain value.")
            return _empty(hint)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            if node.tag == _NULL:
                return None
            return self.value(node, next(a for a in arguments if a is not types.NoneType), path)
        if node.tag == _NULL:
            self._faults.add(path, "is empty", "Give it a value, or leave the key out if it has a default.")
            return _empty(hint)
        if dataclasses.is_dataclass(hint):
            if node.id != "mapping":
                self._not_a(node, path, "a mapping with keys", _mapping_cure(node, typing.cast(type, hint)))
                return _empty(hint)
            return self.dataclass(node, typing.cast(type, hint), path)
        if origin is dict:
            if node.id != "mapping":
                self._not_a(node, path, "a mapping", "Write {key: value, …}.")
                return {}
            return {key: self.value(item, arguments[1], f"{path}.{key}") for key, item in self._items(node, path)}
        if origin is tuple:
            return self._sequence(node, arguments, path)
        if node.id != "scalar":
            self._not_a(node, path, "one value", "Write a single value.")
            return _empty(hint)
        try:
            return _scalar(node.value.replace(_HIDDEN, "?"), hint)
        except _Unfit as unfit:
            self._faults.add(path, unfit.what, unfit.cure)
            return _empty(hint)

    def _sequence(self, node: Any, arguments: tuple[Any, ...], path: str) -> tuple[Any, ...]:
        if node.id != "sequence":
            cure = f"Write [{node.value}]." if node.id == "scalar" else "Write [first, second, …]."
            self._not_a(node, path, "a list", cure)
            return ()
        many = arguments[-1] is Ellipsis
        if not many and len(node.value) != len(arguments):
            what = f"has {len(node.value)} values where {len(arguments)} are meant"
            self._faults.add(path, what, "Write [lowest, highest].")
            return tuple(_empty(a) for a in arguments)
        hints = [arguments[0]] * len(node.value) if many else arguments
        values = []
        for i, (item, hint) in enumerate(zip(node.value, hints, strict=True)):
            self._faults.lines[f"{path}[{i}]"] = item.start_mark.line + 1
            values.append(self.value(item, hint, f"{path}[{i}]"))
        return tuple(values)

    def _items(self, node: Any, path: str) -> list[tuple[str, Any]]:
        """The mapping's keys and value nodes; a key that is no text or comes twice is a fault."""
        if id(node) not in self._flat:
            self._flat.add(id(node))
            self._judge_keys(node, path)
            self._merge(node, path)
        items = {self._key(key): (key, value) for key, value in node.value if key.id == "scalar"}
        for name, (key, _) in items.items():
            self._faults.lines[f"{path}.{name}".lstrip(".")] = key.start_mark.line + 1
        return [(name, value) for name, (_, value) in items.items()]

    def _judge_keys(self, node: Any, path: str) -> None:
        own: dict[str, int] = {}
        for key, _ in node.value:
            name, line = self._key(key), key.start_mark.line + 1
            if key.tag == _MERGE:
                continue
            if key.id != "scalar" or self._tag_problem(key):
                self._faults.add(f"{path}.{name}".lstrip("."), "is no plain key", "Write the key as text.", line=line)
            elif name in own:
                what = f"is there twice, on line {own[name]} and on line {line}"
                self._faults.add(f"{path}.{name}".lstrip("."), what, "Keep one of them.", line=line)
            own.setdefault(name, line)

    def _merge(self, node: Any, path: str) -> None:
        from yaml.constructor import ConstructorError

        try:
            self._flatten(node)
        except ConstructorError:
            self._faults.add(f"{path}.<<".lstrip("."), "merges something that is no mapping", "Merge a mapping.")

    def _key(self, node: Any) -> str:
        return node.value.replace(_HIDDEN, "?") if node.id == "scalar" else f"({node.id})"

    def _tag_problem(self, node: Any) -> str:
        return (
            ""
            if node.tag in _PLAIN_TAGS
            else f"has the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}, which is not allowed"
        )

    def _not_a(self, node: Any, path: str, meant: str, cure: str) -> None:
        kind = {"scalar": "one value", "sequence": "a list", "mapping": "a mapping"}[node.id]
        self._faults.add(path, f"is {kind} where {meant} is meant", cure)


class _Unfit(Exception):
    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(what)


def _scalar(text: str, hint: Any) -> Any:
    if hint is str:
        if not text.strip():
            raise _Unfit("is empty", "Give it a value, or leave the key out if it has a default.")
        return text
    if typing.get_origin(hint) is typing.Literal:
        known = typing.get_args(hint)
        if text not in known:
            raise _Unfit(f"{text!r} is none of {', '.join(known)}", nearest(text, known))
        return text
    if hint is bool:
        if text.lower() not in _BOOLEANS:
            raise _Unfit(f"{text!r} is neither true nor false", "Write true or false.")
        return _BOOLEANS[text.lower()]
    if hint is timedelta:
        try:
            return duration(text)
        except (ValueError, OverflowError):
            cure = (
                f"Say the unit: {text}s, {text}m, {text}h or {text}d."
                if text.isdecimal()
                else "Write for example 30s, 10m, 2h, 7d or 1d12h."
            )
            raise _Unfit(f"{text!r} is no duration", cure) from None
    if hint is int:
        if not re.fullmatch(r"[-+]?\d[\d_]{0,17}", text):
            raise _Unfit(f"{text!r} is no whole number", "Write digits only.")
        return int(text)
    try:
        number = float(text.replace(".inf", "inf"))
    except ValueError:
        share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
        raise _Unfit(
            f"{text!r} is no number", f"Write {float(share[1]) / 100:g}." if share else "Write a number."
        ) from None
    if math.isnan(number):
        raise _Unfit("is not a number", "Write a number.")
    return number


def _mapping_cure(node: Any, cls: type) -> str:
    if node.id == "scalar" and _hints(cls).get(node.value) is bool:
        return f"Write {{{node.value}: true}}."
    return f"Write its keys below it: {', '.join(f.name for f in dataclasses.fields(cls))}."


def _default(field: dataclasses.Field[Any], hint: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else _empty(hint)


def _empty(hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        return () if arguments[-1] is Ellipsis else tuple(_empty(a) for a in arguments)
    if dataclasses.is_dataclass(hint):
        cls = typing.cast(type, hint)
        return _unchecked(cls, {f.name: _default(f, _hints(cls)[f.name]) for f in dataclasses.fields(cls)})
    return (origin or hint)()


def _unchecked(cls: type, values: dict[str, Any]) -> Any:
    """An instance past ``__post_init__``: its fault is noted, and the rest of it can still be judged."""
    instance: Any = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def _steps(field: str) -> list[str]:
    """a.b[0].c → a, a.b, a.b[0], a.b[0].c"""
    return [field[: match.start()] for match in re.finditer(r"[.\[]", field)] + [field] if field else []


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)
