"""Errors of the loop. The class says what the queue function does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LandfallError(Exception):
    """Base of every error that Landfall raises on purpose."""


class Rejected(LandfallError):
    """Trying again cannot help: recorded with its reason and acknowledged."""


class Transient(LandfallError):
    """Trying again later can help: the claim is released and the queue delivers again."""


class Forbidden(Transient):
    """A service refuses the app's identity: a role or setting is missing, or a role is not in force yet."""


class Missing(Rejected):
    """A named thing (pipeline, run, version, file, deployment) does not exist."""


class AlreadyExists(LandfallError):
    """An insert met an entry with the same key."""


class Conflict(LandfallError):
    """Somebody else changed the thing since it was read; read it again."""


class Refused(Rejected):
    """A service will not do this in the present state, for example delete a deployment with traffic."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a file or a setting, and what to do about it.

    ``where`` is "file:line field" or the name of a setting.
    """

    where: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.cure}"


class ConfigurationError(LandfallError):
    """All faults of a configuration at once, so that one pass of mending is enough."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class InvalidRequest(Rejected):
    """A caller's input is wrong; ``faults`` names each wrong column, row or field."""

    def __init__(self, message: str, faults: Sequence[dict[str, object]] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__(message)
