"""What Landfall tells others; docs/architecture.md has each kind of event."""

from __future__ import annotations

from typing import Any, Protocol


class EventPublisher(Protocol):
    """Publishes CloudEvents for other systems of the team."""

    def publish(self, kind: str, subject: str, data: dict[str, Any], *, id: str) -> None:
        """Send one event of type ``Landfall.<kind>`` about ``subject`` (a pipeline, run or version).

        ``id`` is stable for one happening, so that receivers can drop a repeated one. Raises
        :class:`~shared.errors.Transient` when it could not be sent.
        """
        ...
