"""The one durable queue between what happens and what is done about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from shared.domain.signals import Signal
from shared.errors import Rejected

MAX_DELAY = timedelta(days=7)
MAX_BYTES = 48 * 1024
"""What an Azure Storage queue takes: 64 KiB of base64."""


class SignalQueue(Protocol):
    """At-least-once delivery to the queue function, in no promised order.

    Who takes messages out is the host: a message that is not deleted in its visibility time is
    delivered again with a higher dequeue count, and after the last attempt goes to the function of the poison queue,
    which keeps it in the ledger.
    """

    def send(self, signal: Signal, *, delay: timedelta = timedelta(0)) -> None:
        """Put ``signal`` on the queue, invisible until ``delay`` (at most 7 days) is over.

        When it returns, the signal survives a crash of this process and of the machine's power.
        Raises :class:`~shared.errors.Transient` when the queue cannot be reached, and
        :class:`~shared.errors.Rejected` for what :func:`check_message` refuses.
        """
        ...


def check_message(text: str, delay: timedelta) -> None:
    """Raise :class:`~shared.errors.Rejected` for a message that no queue takes.

    That is: its text is longer than 48 KiB or no Unicode, or its delay is negative or longer than 7 days.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise Rejected(f"a queue message holds a lone surrogate, which no text has: {text[:200]!a}") from error
    if size > MAX_BYTES:
        raise Rejected(f"a queue message has {size} bytes, at most {MAX_BYTES} fit: {text[:200]}")
    if not timedelta(0) <= delay <= MAX_DELAY:
        raise Rejected(f"a queue message cannot be delayed by {delay}; send it within 7 days and look again then")
