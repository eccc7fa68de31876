"""Online endpoints: deployments of model versions behind one address, with a traffic split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.domain.pipelines import Rollout
from shared.domain.redaction import without_secrets


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """``state``: creating, ready, failed, updating or deleting; ``reason`` tells why it failed, without secrets."""

    name: str
    model: str
    version: str
    state: str
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", without_secrets(self.reason))


@dataclass(frozen=True)
class Route:
    """A ready deployment, the version it serves and its share of the traffic in percent, 0 included."""

    deployment: str
    model: str
    version: str
    share: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``predictions`` one per row; ``probabilities`` one list per row in the order of ``classes``.

    ``milliseconds`` is the time that the deployment took.
    """

    predictions: list[Any]
    deployment: str
    version: str
    milliseconds: float
    probabilities: list[list[float]] | None = None
    classes: list[Any] | None = None


class EndpointService(Protocol):
    """Blue/green: several deployments, whole percents of traffic that sum to 0 or 100."""

    def ensure(self, endpoint: str) -> None:
        """Create the endpoint when there is none."""
        ...

    def deploy(self, endpoint: str, deployment: str, *, model: str, version: str, sizing: Rollout) -> None:
        """Start to create a deployment without traffic and return at once; one that exists is left as it is.

        Raises Missing when the endpoint or the model version does not exist, Transient while the
        endpoint is updating.
        """
        ...

    def deployments(self, endpoint: str) -> dict[str, Deployment]:
        """All deployments by name; empty when the endpoint does not exist."""
        ...

    def traffic(self, endpoint: str) -> dict[str, int]:
        """The split that is in force now, as read back; deployments with 0 are left out."""
        ...

    def routes(self, endpoint: str) -> tuple[Route, ...]:
        """Where a request may go; empty when the endpoint does not exist.

        Asked for every scoring request, so it must cost no call to a service each time: the answer
        may be up to 10 seconds old.
        """
        ...

    def set_traffic(self, endpoint: str, traffic: dict[str, int]) -> None:
        """Ask for a split. Raises Refused when it does not sum to 0 or 100 or names a deployment that
        is not ready, Transient while the endpoint is updating. It may take time to be in force."""
        ...

    def remove(self, endpoint: str, deployment: str) -> None:
        """Delete a deployment; nothing happens when there is none. Raises Refused when it has traffic."""
        ...

    def score(
        self, endpoint: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, deployment: str | None = None
    ) -> Answer:
        """Ask the endpoint, by traffic split, or one deployment whatever its traffic.

        Values are JSON's; a date or timestamp is ISO 8601 text without a time zone, and means UTC.

        Raises Missing when there is no such endpoint or deployment or no traffic, InvalidRequest
        when the model refuses the input, Transient when it does not answer.
        """
        ...
