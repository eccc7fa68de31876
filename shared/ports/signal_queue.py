"""The one durable queue between what happens and what is done about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from shared.domain.signals import Signal


class SignalQueue(Protocol):
    """At-least-once delivery to the queue function, in no promised order.

    Who takes messages out is the host: a message that is not deleted in its visibility time is
    delivered again with a higher dequeue count, and after the last attempt lands on the poison queue.
    """

    def send(self, signal: Signal, *, delay: timedelta = timedelta(0)) -> None:
        """Put ``signal`` on the queue, invisible until ``delay`` (at most 7 days) is over.

        When it returns, the signal survives a crash of this process and of the machine's power.
        Raises :class:`~shared.errors.Transient` when the queue cannot be reached.
        """
        ...
