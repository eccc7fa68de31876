"""The signal queue in an Azure Storage queue. The Functions host takes the messages out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shared.adapters.azure import patience
from shared.adapters.azure.failures import translated
from shared.domain.signals import Signal
from shared.errors import Conflict, Missing, Transient
from shared.ports.signal_queue import PoisonMessage, check_message
from shared.settings import QUEUE

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.storage.queue import QueueClient, QueueMessage

T = TypeVar("T")

NEVER = -1
PAGE = 32
"""Messages that the service shows or hands out at once."""
IN_HAND = 30
"""Seconds for which a search of the poison queue hides what it looks through."""


class StorageQueue:
    """The SignalQueue port on the queue ``name`` of a storage account, which is made when it is first used.

    ``address`` is the account's queue endpoint or, without ``credential``, a connection string. Messages are plain
    text, as host.json says (messageEncoding none), and never expire. A send whose answer was lost is repeated: the
    signal may then come twice, which it may at any time.

    Every method raises :class:`~shared.errors.Transient` when the service does not answer or refuses the app's
    identity.
    """

    def __init__(
        self,
        address: str,
        credential: TokenCredential | None = None,
        *,
        name: str = QUEUE,
        seconds: float = patience.SECONDS,
    ) -> None:
        self._address, self._credential, self._seconds = address, credential, seconds
        self._name, self._poison = name, f"{name}-poison"
        self._lock = threading.Lock()
        self._clients: dict[str, QueueClient] = {}

    def send(self, signal: Signal, *, delay: timedelta = timedelta(0)) -> None:
        """Put ``signal`` on the queue, invisible until ``delay`` is over, in whole seconds."""
        text = signal.to_message()
        check_message(text, delay)
        self._put(text, math.ceil(delay.total_seconds()))

    def poisoned(self) -> list[PoisonMessage]:
        """The messages at the front of the poison queue, at most 32; why they were given up is in the ledger.

        Where a function takes them from there, none stays for long.
        """
        found = self._ask(self._poison, "look into", lambda queue: queue.peek_messages(max_messages=PAGE))
        return [_poisoned(message) for message in found]

    def requeue(self, poison_id: str) -> None:
        """Put a poisoned message back on the queue as a new one, visible now. Raises Missing when there is none.

        What it looks through meanwhile is hidden from others for half a minute at most.
        """
        passed: list[QueueMessage] = []
        wanted = None
        while wanted is None and (page := self._take(self._poison)):
            wanted = next((message for message in page if message.id == poison_id), None)
            passed += [message for message in page if message is not wanted]
        try:
            if wanted is None:
                raise Missing(f"there is no message {poison_id} on the poison queue; it may have been put back already")
            self._put(wanted.content, 0)
            self._ask(self._poison, "remove a message from", lambda queue: queue.delete_message(wanted))
        finally:
            for message in passed:
                self._ask(self._poison, "show a message again in", partial(_show, message))

    def counts(self) -> dict[str, int]:
        """About how many messages there are: ``visible`` (32 at most), ``invisible`` and ``poison``."""
        visible = len(self._ask(self._name, "look into", lambda queue: queue.peek_messages(max_messages=PAGE)))
        total, poison = (
            self._ask(name, "count", lambda queue: queue.get_queue_properties()).approximate_message_count or 0
            for name in (self._name, self._poison)
        )
        return {"visible": visible, "invisible": max(total - visible, 0), "poison": poison}

    def _put(self, text: str, delay: int) -> None:
        self._ask(
            self._name,
            "put a message on",
            lambda queue: queue.send_message(text, visibility_timeout=delay, time_to_live=NEVER),
        )

    def _take(self, name: str) -> list[QueueMessage]:
        return self._ask(
            name,
            "take messages from",
            lambda queue: list(
                queue.receive_messages(messages_per_page=PAGE, max_messages=PAGE, visibility_timeout=IN_HAND)
            ),
        )

    def _ask(self, name: str, doing: str, call: Callable[[QueueClient], T]) -> T:
        """The result of a call; the queue is made when there is none."""
        from azure.core.exceptions import ResourceExistsError

        queue = self._opened(name)
        try:
            with translated(f"{doing} queue {name}"):
                return call(queue)
        except Missing as error:
            if getattr(error.__cause__, "error_code", "") != "QueueNotFound":
                raise
        # Another may be quicker, or it is being deleted: the call tells.
        with translated(f"make the queue {name}"), suppress(ResourceExistsError):
            queue.create_queue()
        try:
            with translated(f"{doing} queue {name}"):
                return call(queue)
        except (Missing, Conflict) as error:
            raise Transient(str(error)) from error

    def _opened(self, name: str) -> QueueClient:
        with self._lock:
            if name not in self._clients:
                from azure.storage.queue import QueueClient

                options: dict[str, Any] = patience.options(self._seconds)
                self._clients[name] = (
                    QueueClient.from_connection_string(self._address, name, **options)
                    if self._credential is None
                    else QueueClient(self._address, name, credential=self._credential, **options)
                )
            return self._clients[name]


def _poisoned(message: QueueMessage) -> PoisonMessage:
    # What the host moves to the poison queue is a new message there.
    then = message.inserted_on or datetime.now(UTC)
    return PoisonMessage(message.id, message.content, "", message.dequeue_count or 0, then, then)


def _show(message: QueueMessage, queue: QueueClient) -> None:
    queue.update_message(message, visibility_timeout=0)
