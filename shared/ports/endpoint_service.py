"""Online endpoints: deployments of model versions behind one address, with a traffic split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.domain.pipelines import MOST_MIRRORED, Rollout
from shared.domain.redaction import without_secrets
from shared.errors import Refused


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
    """A ready deployment, the version it serves and its share of the traffic in percent, 0 included.

    ``mirror`` is the percentage of requests to others that it shall get a copy of.
    """

    deployment: str
    model: str
    version: str
    share: int
    mirror: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``predictions`` one per row; ``probabilities`` one list per row in the order of ``classes``.

    ``milliseconds`` is the time that the deployment took.
    """

    predictions: Sequence[Any]
    deployment: str
    version: str
    milliseconds: float
    probabilities: Sequence[Sequence[float]] | None = None
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

    def mirror(self, endpoint: str) -> dict[str, int]:
        """Who gets copies of requests, of how many percent, as read back; empty when nobody does."""
        ...

    def set_traffic(self, endpoint: str, traffic: dict[str, int], *, mirror: dict[str, int] | None = None) -> None:
        """Ask for a split, and for copies of some requests to a deployment without traffic; without ``mirror`` copies
        end. Raises Refused for what :func:`check_split` refuses or when it names a deployment that is not ready,
        Transient while the endpoint is updating. It may take time to be in force."""
        ...

    def remove(self, endpoint: str, deployment: str) -> None:
        """Delete a deployment; nothing happens when there is none. Raises Refused when it has traffic or copies."""
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


def check_split(endpoint: str, traffic: dict[str, int], mirror: dict[str, int]) -> None:
    """Raise :class:`~shared.errors.Refused` for a split that no endpoint takes.

    That is: the shares do not sum to 0 or 100, or copies go to more than one deployment, to one that has traffic, or
    of more than half of the requests.
    """
    if any(share < 0 for share in traffic.values()) or sum(traffic.values()) not in (0, 100):
        raise Refused(f"traffic of endpoint {endpoint} must be shares from 0 to 100 that sum to 0 or 100: {traffic}")
    if len(mirror) > 1 or any(not 0 < share <= MOST_MIRRORED for share in mirror.values()):
        raise Refused(
            f"copies of requests to endpoint {endpoint} go to one deployment, of 1 to {MOST_MIRRORED} percent: {mirror}"
        )
    for name in mirror:
        if traffic.get(name):
            raise Refused(f"deployment {name} of endpoint {endpoint} cannot have both traffic and copies of it")
