"""Bicep files as Python values: what the tests of infra/ read. The grammar is tree-sitter-bicep's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

COMMENTS = {"comment", "diagnostic_comment"}


class Expression(str):
    """The text of what only Azure can work out: a name, a call, a condition. Literals are Python's own values."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """``type`` is whole, also of a nested resource. ``each`` is what a loop runs over, None for a single one."""

    symbol: str
    type: str
    api: str
    existing: bool
    body: Mapping[str, Any]
    condition: str = ""
    each: Any = None
    variable: str = ""
    file: Path


@dataclass(frozen=True, kw_only=True)
class Module:
    symbol: str
    path: Path
    params: Mapping[str, Any]
    condition: str = ""


@dataclass(kw_only=True)
class Bicep:
    """One file. ``params`` maps a name to its type and whether it has a default."""

    path: Path
    root: Node
    params: dict[str, tuple[str, bool]] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def strings(self) -> Iterator[str]:
        """Every string literal, with its interpolations as they are written."""
        return (_text_of(node) for node in _walk(self.root) if node.type == "string")

    def names(self) -> Iterator[tuple[int, str]]:
        """Line and text of every name that refers to something declared; those that loops and lambdas give are not."""
        for node in _walk(self.root):
            if node.type == "identifier" and _refers(node) and _text(node) not in _given_around(node):
                yield node.start_point.row + 1, _text(node)

    def calls(self) -> Iterator[tuple[int, str]]:
        """Line and name of every function call."""
        for node in _walk(self.root):
            if node.type == "call_expression" and node.named_children[0].type == "identifier":
                yield node.start_point.row + 1, _text(node.named_children[0])


@cache
def read(path: Path) -> Bicep:
    """The file, parsed. Raises ValueError with line and text of the first thing that is no Bicep."""
    root = Parser(Language(tree_sitter_bicep.language())).parse(path.read_bytes()).root_node
    for node in _walk(root):
        if node.type == "ERROR" or node.is_missing:
            raise ValueError(f"{path.name}:{node.start_point.row + 1}: {_text(node)[:80]!r} is no Bicep")
    bicep = Bicep(path=path, root=root)
    for node in _named(root):
        match node.type:
            case "parameter_declaration":
                name, kind, *default = _named(node)
                bicep.params[_text(name)] = (_text(kind), bool(default))
            case "variable_declaration":
                name, *_, given = _named(node)
                bicep.variables[_text(name)] = value(given)
            case "output_declaration":
                name, *_, given = _named(node)
                bicep.outputs[_text(name)] = value(given)
            case "resource_declaration":
                for resource in _resources(node, path, ""):
                    bicep.resources[resource.symbol] = resource
            case "module_declaration":
                symbol, source, *_ = _named(node)
                condition, _, _, body = _unwrapped(_named(node)[-1])
                bicep.modules[_text(symbol)] = Module(
                    symbol=_text(symbol),
                    path=(path.parent / value(source)).resolve(),
                    params=value(body).get("params", {}),
                    condition=condition,
                )
    return bicep


def value(node: Node) -> Any:
    """A literal as Python's value (an interpolation stays in its text), anything else as an :class:`Expression`."""
    match node.type:
        case "string":
            return _text_of(node)
        case "number":
            return int(_text(node))
        case "boolean":
            return _text(node) == "true"
        case "null":
            return None
        case "array":
            return [value(item) for item in _named(node)]
        case "object":
            made = {}
            for member in _named(node):
                key, *given = _named(member)
                if given:
                    made[_text_of(key) if key.type == "string" else _text(key)] = value(given[0])
            return made
    return Expression(_text(node))


def _resources(node: Node, path: Path, parent: str) -> Iterator[Resource]:
    symbol, kind, *_ = _named(node)
    name, _, api = value(kind).partition("@")
    whole = f"{parent}/{name}" if parent else name
    condition, each, variable, body = _unwrapped(_named(node)[-1])
    yield Resource(
        symbol=_text(symbol),
        type=whole,
        api=api,
        existing=any(child.type == "existing" or _text(child) == "existing" for child in node.children),
        body=value(body),
        condition=condition,
        each=each,
        variable=variable,
        file=path,
    )
    for member in _named(body):
        for inner in _named(member):
            if inner.type == "resource_declaration":
                yield from _resources(inner, path, whole)


def _unwrapped(node: Node) -> tuple[str, Any, str, Node]:
    """Condition, loop's items, loop's variable and the object of a declaration's right side."""
    if node.type == "if_statement":
        condition, body = _named(node)
        return _text(condition), None, "", body
    if node.type == "for_statement":
        names, items, body = _named(node)
        return "", value(items), _text(_named(names)[0]) if _named(names) else _text(names), body
    return "", None, "", node


def _named(node: Node) -> list[Node]:
    return [child for child in node.named_children if child.type not in COMMENTS]


def _walk(node: Node) -> Iterator[Node]:
    """The node and all below it, without decorators."""
    yield node
    for child in node.children:
        if child.type != "decorators":
            yield from _walk(child)


def _refers(node: Node) -> bool:
    parent = node.parent
    assert parent is not None
    if parent.type.endswith("_declaration") or parent.type in ("object_property", "call_expression"):
        return parent.named_children[0] != node
    head = parent.parent if parent.type in ("parenthesized_expression", "for_loop_parameters") else None
    return head is None or head.type not in ("lambda_expression", "for_statement") or head.named_children[0] != parent


def _given_around(node: Node) -> set[str]:
    names: set[str] = set()
    around = node.parent
    while around is not None:
        if around.type in ("for_statement", "lambda_expression"):
            head = around.named_children[0]
            names |= {_text(name) for name in head.named_children or [head]}
        around = around.parent
    return names


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _text_of(string: Node) -> str:
    return _text(string)[1:-1].replace("\\'", "'")
