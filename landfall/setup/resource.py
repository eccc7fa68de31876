"""One thing on Azure that setup sees to, and how it differs from what it should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shared.errors import LandfallError

ABSENT = "(not set)"
"""What a difference shows where one side has no value."""


class NotWanted(LandfallError):
    """Raised by ``desired``: there is nothing to be made here, and the text says why."""


class Resource(Protocol):
    """``kind`` and ``name`` say what it is to people.

    ``desired`` and ``actual`` return the same fields, those that setup sees to and no other, so that whatever
    differs between them is a change. All of them raise errors of :mod:`shared.errors`; Missing from ``desired``
    means that something else has to be there first.
    """

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def desired(self) -> dict[str, Any]:
        """What it should be."""
        ...

    def actual(self) -> dict[str, Any] | None:
        """What it is; None when it does not exist."""
        ...

    def apply(self) -> None:
        """Make it, or change it, into what it should be; whatever else it has is kept. Twice does no harm."""
        ...


@dataclass(frozen=True)
class Change:
    """A field that is ``there`` and should be ``wanted``."""

    field: str
    there: Any
    wanted: Any


def differences(there: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every field whose values differ, by its dotted path.

    Things in a list that have names are told apart by them; the order of those and of texts means nothing.
    """
    old, new = (dict(_fields(value)) for value in (there or {}, wanted))
    return tuple(
        Change(field, old.get(field, ABSENT), new.get(field, ABSENT))
        for field in sorted({**old, **new})
        if _plain(old.get(field, ABSENT)) != _plain(new.get(field, ABSENT))
    )


def _fields(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(one, Mapping) and "name" in one for one in inner):
            inner = {str(one["name"]): one for one in inner}
        if isinstance(inner, Mapping) and inner:
            yield from _fields(inner, f"{path}{key}.")
        else:
            yield f"{path}{key}", inner


def _plain(value: Any) -> Any:
    """A value to compare: lists of texts in order, and with that also those in tables that are listed."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        inner = [_plain(one) for one in value]
        return sorted(inner) if all(isinstance(one, str) for one in inner) else inner
    return value
