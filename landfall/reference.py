"""The reference of every key of a pipeline.yaml, written from the dataclasses that are its schema.

``python -m landfall.reference > docs/pipeline-yaml.md`` brings the page up to date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from datetime import timedelta
from typing import Any

from shared.definitions.pipeline_rules import RANGES
from shared.domain.pipelines import Pipeline

HEAD = """# pipeline.yaml

Every key of a pipeline.yaml, in the order of the loop. This page is made from the dataclasses in
`shared/domain/pipelines.py` by `python -m landfall.reference`. Required keys must be given;
all others may be left out. `landfall check` names every fault of a file at once, with its line and a cure.

A pipeline needs no more than this:

```yaml
name: customer-churn
landing: {path: landing/customer-churn}
features: {key: customer_id, label: churn}
```

Durations are written 30s, 10m, 2h, 7d or 1d12h. Text needs no quotes: `[Yes, No]` are two texts
where texts are meant. Keys that are not listed here are refused.
"""


def reference() -> str:
    """The page in Markdown."""
    return HEAD + "".join(_section(Pipeline, ""))


def _section(cls: type, path: str) -> list[str]:
    hints = typing.get_type_hints(cls)
    rows, below = [], []
    for field in dataclasses.fields(cls):
        name = f"{path}.{field.name}".lstrip(".")
        hint = hints[field.name]
        item = _item(hint)
        if dataclasses.is_dataclass(item):
            below += _section(typing.cast(type, item), name if item is hint else f"{name}[]")
        bounds = RANGES[name][0] if name in RANGES else ""
        rows.append(f"| `{field.name}` | {_type(hint, name)} | {_default(field)} | {bounds} |\n")
    title = path or "The file"
    head = f"\n## {title}\n\n{_prose(cls)}\n\n| key | value | default | bounds |\n|---|---|---|---|\n"
    return [head, *rows, *below]


def _prose(cls: type) -> str:
    """The class's docstring with its marks of code turned into Markdown's."""
    return re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(cls.__doc__ or ""))


def _item(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint


def _type(hint: Any, name: str) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if a is types.NoneType else _type(a, name) for a in arguments)
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if dataclasses.is_dataclass(hint):
        return f"see [{name}](#{re.sub('[^a-z_]', '', name)})"
    if origin is dict:
        return f"a mapping of names to {_type(arguments[1], name)}"
    if origin is tuple and arguments[-1] is Ellipsis:
        item = arguments[0]
        if dataclasses.is_dataclass(item):
            return f"a list, see [{name}[]](#{re.sub('[^a-z_]', '', name)})"
        return f"a list of {_type(item, name)}"
    if origin is tuple:
        return "[lowest, highest]"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", timedelta: "duration"}[hint]


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is dataclasses.MISSING:
        return "**required**"
    if dataclasses.is_dataclass(value):
        return "its defaults"
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if value in ("", (), {}):
        return "empty"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


if __name__ == "__main__":
    print(reference(), end="")
