"""The signal queue in an Azure Storage queue. The Functions host takes the messages out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from shared.adapters.azure import patience
from shared.adapters.azure.failures import translated
from shared.domain.signals import Signal
from shared.errors import Conflict, Missing, Transient
from shared.ports.signal_queue import check_message
from shared.settings import QUEUE

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.storage.queue import QueueClient

T = TypeVar("T")

NEVER = -1
PAGE = 32
"""Messages that the service shows at once."""


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
        self._name = name
        self._lock = threading.Lock()
        self._client: QueueClient | None = None

    def send(self, signal: Signal, *, delay: timedelta = timedelta(0)) -> None:
        """Put ``signal`` on the queue, invisible until ``delay`` is over, in whole seconds."""
        text = signal.to_message()
        check_message(text, delay)
        seconds = math.ceil(delay.total_seconds())
        self._ask(
            "put a message on",
            lambda queue: queue.send_message(text, visibility_timeout=seconds, time_to_live=NEVER),
        )

    def counts(self) -> dict[str, int]:
        """About how many messages there are: ``visible`` (32 at most) and ``invisible``."""
        visible = len(self._ask("look into", lambda queue: queue.peek_messages(max_messages=PAGE)))
        total = self._ask("count", lambda queue: queue.get_queue_properties()).approximate_message_count or 0
        return {"visible": visible, "invisible": max(total - visible, 0)}

    def _ask(self, doing: str, call: Callable[[QueueClient], T]) -> T:
        """The result of a call; the queue is made when there is none."""
        from azure.core.exceptions import ResourceExistsError

        queue = self._opened()
        try:
            with translated(f"{doing} queue {self._name}"):
                return call(queue)
        except Missing as error:
            if getattr(error.__cause__, "error_code", "") != "QueueNotFound":
                raise
        # Another may be quicker, or it is being deleted: the call tells.
        with translated(f"make the queue {self._name}"), suppress(ResourceExistsError):
            queue.create_queue()
        try:
            with translated(f"{doing} queue {self._name}"):
                return call(queue)
        except (Missing, Conflict) as error:
            raise Transient(str(error)) from error

    def _opened(self) -> QueueClient:
        with self._lock:
            if self._client is None:
                from azure.storage.queue import QueueClient

                options: dict[str, Any] = patience.options(self._seconds)
                self._client = (
                    QueueClient.from_connection_string(self._address, self._name, **options)
                    if self._credential is None
                    else QueueClient(self._address, self._name, credential=self._credential, **options)
                )
            return self._client
