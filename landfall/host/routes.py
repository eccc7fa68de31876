"""Routes of HTTP functions: ASP.NET route templates, as Azure Functions has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from landfall.host.functions import HostedFunction

REMEMBERED = 1000
"""Addresses whose routes are known without a look at each route."""

_PARAMETER = re.compile(r"\{(\*?)(\w+)((?::\w+(?:\([^)]*\))?)*)(\?|=[^}]*)?\}")
_CONSTRAINT = re.compile(r":(\w+)(?:\(([^)]*)\))?")
_PATTERNS = {
    "int": r"-?\d{1,10}",
    "long": r"-?\d{1,19}",
    "bool": r"(?:true|false)",
    "alpha": r"[a-z]+",
    "guid": r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    "decimal": r"-?\d+(?:\.\d+)?",
    "double": r"-?\d+(?:\.\d+)?",
    "float": r"-?\d+(?:\.\d+)?",
}


@dataclass(frozen=True)
class Route:
    """A function's address below the route prefix. ``methods`` empty: any."""

    function: HostedFunction
    level: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    defaults: dict[str, str]
    rank: tuple[int, ...]


class Routes:
    """Finds the function for a method and path. Where several fit, literal parts win over parameters."""

    def __init__(self, functions: Iterable[HostedFunction], prefix: str) -> None:
        self._routes = sorted((_route(function, prefix) for function in functions), key=lambda route: route.rank)
        self._known = lru_cache(REMEMBERED)(self._match)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and its parameters for a path as it was sent (percent-encoded), None when there is none.

        A path that is known under other methods only gives None, too: the Functions host answers 404.
        """
        match = self._known(method, path)
        return (match[0], dict(match[1])) if match else None

    def _match(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        for route in self._routes:
            if route.methods and method not in route.methods:
                continue
            if match := route.pattern.fullmatch(path):
                found = {name: unquote(value) for name, value in match.groupdict().items() if value}
                return route, route.defaults | found
        return None


def _route(function: HostedFunction, prefix: str) -> Route:
    trigger = function.trigger
    template = (trigger.get("route") or function.name).strip("/")
    pattern, defaults, rank = "/" + re.escape(prefix) if prefix else "", {}, []
    for part in template.split("/"):
        parameters = list(_PARAMETER.finditer(part))
        optional = len(parameters) == 1 and parameters[0][0] == part and parameters[0][4] is not None
        text, end = "", 0
        for parameter in parameters:
            text += re.escape(part[end : parameter.start()]) + _group(function, parameter)
            end = parameter.end()
            if (parameter[4] or "").startswith("="):
                defaults[parameter[2]] = parameter[4][1:]
        text += re.escape(part[end:])
        catches_all = any(parameter[1] for parameter in parameters)
        rank.append(3 if catches_all else 2 if parameters and not parameters[0][3] else 1 if parameters else 0)
        pattern += f"(?:/{text})?" if optional or catches_all else f"/{text}"
    return Route(
        function=function,
        level=_word(trigger.get("authLevel", "function")),
        methods=frozenset(_word(method).upper() for method in trigger.get("methods") or ()),
        pattern=re.compile(pattern + "/?", re.IGNORECASE),
        defaults=defaults,
        rank=tuple(rank),
    )


def _group(function: HostedFunction, parameter: re.Match[str]) -> str:
    pattern, checks = ".*" if parameter[1] else "[^/]+", ""
    for name, argument in _CONSTRAINT.findall(parameter[3]):
        if name in _PATTERNS:
            pattern = _PATTERNS[name]
        elif name in ("length", "minlength", "maxlength"):
            low, _, high = argument.replace(" ", "").partition(",")
            bounds = {"length": f"{low},{high or low}", "minlength": f"{low},", "maxlength": f"0,{low}"}[name]
            checks += f"(?=[^/]{{{bounds}}}(?:/|$))"
        else:
            raise ValueError(
                f"function {function.name}: the laptop host does not know the route constraint {name}; "
                f"it knows {', '.join(sorted(_PATTERNS))}, length, minlength and maxlength"
            )
    return f"{checks}(?P<{parameter[2]}>{pattern})"


def _word(value: object) -> str:
    return str(getattr(value, "value", value)).lower()
