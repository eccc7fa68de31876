"""The run ledger: entries with unique keys and compare-and-swap, and nothing more."""

from __future__ import annotations

import dataclasses
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from shared.domain.ledger import Entry
from shared.errors import AlreadyExists, Conflict, Rejected, Transient

E = TypeVar("E", bound=Entry)

UPDATE_ATTEMPTS = 20

_NEVER_IN_A_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class RunLedger(Protocol):
    """Durable entries of :mod:`shared.domain.ledger`, each found by kind, partition and key.

    An entry that was written is seen by every later read of any process. Partitions and keys may hold
    any text that :func:`check_key` lets pass; others are :class:`~shared.errors.Rejected`. There
    is no transaction over two entries: callers order their writes so that a crash between two of them
    is mended by doing the whole again.
    """

    @abstractmethod
    def insert(self, entry: E) -> E:
        """Store a new entry and return it with its etag.

        Raises :class:`~shared.errors.AlreadyExists` when kind, partition and key are taken: of
        several writers that race exactly one wins.
        """

    @abstractmethod
    def read(self, kind: type[E], partition: str, key: str) -> E | None:
        """The entry with its etag, None when there is none."""

    @abstractmethod
    def replace(self, entry: E) -> E:
        """Store ``entry`` over the one that was read with ``entry.etag``; returns it with its new etag.

        Raises :class:`~shared.errors.Conflict` when it was changed or deleted since.
        """

    @abstractmethod
    def delete(self, kind: type[E], partition: str, key: str) -> None:
        """Remove the entry; nothing happens when there is none."""

    @abstractmethod
    def list(
        self, kind: type[E], partition: str, *, prefix: str = "", start: str = "", limit: int | None = None
    ) -> Iterator[E]:
        """The entries of a partition whose key begins with ``prefix``, in key order (by code point).

        With ``start`` those before that key are left out; they are not read either.
        """

    def update(self, kind: type[E], partition: str, key: str, change: Callable[[E | None], E]) -> E:
        """Apply ``change`` to the present entry (None when there is none) until no other writer interferes.

        ``change`` may be called several times and must have no other effect. Returning its argument
        unchanged writes nothing. Raises :class:`~shared.errors.Transient` when other writers win
        every time.
        """
        for _ in range(UPDATE_ATTEMPTS):
            present = self.read(kind, partition, key)
            wanted = change(present)
            if present is not None and wanted == present:
                return present
            try:
                return self._store(wanted, present)
            except (AlreadyExists, Conflict):
                continue
        raise Transient(f"{kind.KIND} {partition}/{key} is being changed by others; try again")

    def _store(self, wanted: E, present: E | None) -> E:
        if present is None:
            return self.insert(wanted)
        return self.replace(dataclasses.replace(wanted, etag=present.etag))


def check_key(key: str) -> None:
    """Raise :class:`~shared.errors.Rejected` for a partition or key that no ledger takes.

    That is: it has more than 500 characters, a control character or a lone surrogate.
    """
    if len(key) > 500:
        raise Rejected(
            f"{key[:80]!r}… cannot be a key of the run ledger: it has {len(key)} characters, at most 500 fit"
        )
    if _NEVER_IN_A_KEY.search(key):
        raise Rejected(f"{key!r} cannot be a key of the run ledger: it holds a control character")
