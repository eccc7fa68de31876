"""The run ledger in an Azure table."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, TypeVar

from shared.adapters.azure import ledger_bodies, patience
from shared.adapters.azure.failures import translated
from shared.adapters.azure.ledger_keys import LONGEST, key_range, table_key
from shared.domain.ledger import Entry
from shared.domain.records import from_record, to_record
from shared.errors import AlreadyExists, Conflict, Missing, Transient
from shared.ports.run_ledger import E, RunLedger, check_key

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.data.tables import TableClient, TableEntity

T = TypeVar("T")

TABLE = "landfallledger"
PAGES = "page "
"""How the partition of a long body's further entities begins, where an entry's has its kind and a colon."""
LEFTOVER = timedelta(hours=1)
REMEMBERED = 6
"""Writes of an entry that it remembers, so that each finds itself also when others came after it."""
READ_ATTEMPTS = 5


@dataclass(frozen=True)
class _Version:
    """What an entry's etag tells: the service's etag, the latest writes and how many entities the body has."""

    service: str
    writes: tuple[str, ...]
    pages: int

    def __str__(self) -> str:
        return f"{self.service} {' '.join(self.writes)} {self.pages}"

    @classmethod
    def parse(cls, etag: str) -> _Version | None:
        """None for what is no etag of this ledger: an entry that was never read."""
        service, *writes, pages = etag.split(" ") if etag.count(" ") >= 2 else ("", "", "")
        return cls(service, tuple(writes), int(pages)) if pages.isdecimal() else None


class TableLedger(RunLedger):
    """The RunLedger port on a table of the account at ``url``, which is made when it is first written to.

    Kind and partition are the partition key, the key is the row key, both written as
    :mod:`shared.adapters.azure.ledger_keys` says. Each entity names the write that made it and those before: after an
    answer that was lost, or a call that was repeated, insert and replace look whether they took effect before they
    report anything. A change is one entity. A body that is too long for one goes on in others, which are written
    before it under the name of its write, read until they agree with it, and removed when it was replaced or after
    an hour when it never came to be.

    Every method raises :class:`~shared.errors.Transient` when the service does not answer or refuses the
    app's identity.
    """

    def __init__(
        self, url: str, credential: TokenCredential, *, table: str = TABLE, seconds: float = patience.SECONDS
    ) -> None:
        self._url, self._credential, self._table, self._seconds = url, credential, table, seconds
        self._lock = threading.Lock()
        self._client: TableClient | None = None
        self._next_sweep = 0.0

    def insert(self, entry: E) -> E:
        """Store a new entry and return it with its etag; AlreadyExists when its place is taken."""
        place = _place(type(entry), entry.partition, entry.key)
        return self._write(entry, place, None)

    def read(self, kind: type[E], partition: str, key: str) -> E | None:
        """The entry with its etag, None when there is none."""
        place = _place(kind, partition, key)
        return self._whole(kind, place, self._entity(place))

    def replace(self, entry: E) -> E:
        """Store ``entry`` over the one with its etag; Conflict when that was changed or deleted."""
        place = _place(type(entry), entry.partition, entry.key)
        read = _Version.parse(entry.etag)
        if read is None or not read.service:
            raise Conflict(f"{_name(entry)} was not read from the ledger, or changed since; read it again")
        return self._write(entry, place, read)

    def delete(self, kind: type[E], partition: str, key: str) -> None:
        """Remove the entry; nothing happens when there is none."""
        place = _place(kind, partition, key)
        with translated(f"delete {_describe(place)} of the ledger"):
            # The client says nothing when there is none.
            self._opened().delete_entity(*place)

    def list(
        self, kind: type[E], partition: str, *, prefix: str = "", start: str = "", limit: int | None = None
    ) -> Iterator[E]:
        """The entries whose key begins with ``prefix``, in key order, read page by page as they are asked for."""
        place = _place(kind, partition, prefix)
        check_key(start)
        begin, end = key_range(prefix)
        rows = self._in_order(kind, place[0], prefix, max(begin, key_range(start)[0]), end, limit)
        return islice((entry for entry in rows if entry.key >= start), limit)

    def _write(self, entry: E, place: tuple[str, str], read: _Version | None) -> E:
        write = uuid.uuid4().hex
        writes = (write, *(read.writes if read else ()))[:REMEMBERED]
        first, *pages = ledger_bodies.pack(json.dumps(to_record(entry), separators=(",", ":")))
        entity = {
            "PartitionKey": place[0],
            "RowKey": place[1],
            "writes": " ".join(writes),
            "pages": len(pages),
            **first,
        }
        if pages:
            self._write_pages(write, pages, place)
        doing = f"write {_name(entry)} to the ledger"
        try:
            answer = self._send(doing, entity, read)
            version = _Version(answer["etag"], writes, len(pages))
        except (Conflict, Missing, Transient) as error:
            # Repeated by the client, or not answered: it may be there all the same.
            found = self._entity(place)
            if found is None or write not in _version(found).writes:
                if not isinstance(error, Transient):
                    # After no answer it may still come to be; then its pages must be there.
                    self._remove_pages(_Version("", writes, len(pages)))
                raise self._refusal(entry, error, read, found) from error
            version = _version(found)
            if version.writes[0] != write:
                # Others have written since: an etag that replaces nothing.
                version = _Version("", writes, 0)
        if read is not None:
            self._remove_pages(read)
        return replace(entry, etag=str(version))

    def _send(self, doing: str, entity: dict[str, Any], read: _Version | None) -> Mapping[str, Any]:
        from azure.core import MatchConditions
        from azure.data.tables import UpdateMode

        if read is None:
            return self._in_table(doing, lambda table: table.create_entity(entity))
        with translated(doing):
            return self._opened().update_entity(
                entity, mode=UpdateMode.REPLACE, etag=read.service, match_condition=MatchConditions.IfNotModified
            )

    def _refusal(self, entry: Entry, error: Exception, read: _Version | None, found: TableEntity | None) -> Exception:
        if read is None and found is not None:
            return AlreadyExists(f"{_name(entry)} is in the ledger already")
        unchanged = read is not None and found is not None and _version(found).service == read.service
        if isinstance(error, Transient) and (read is None or unchanged):
            return error
        if read is None:
            # Somebody's entry was in the way and is gone again.
            return Transient(f"{_name(entry)} could not be written now: {error}")
        return Conflict(f"{_name(entry)} was changed or deleted since it was read; read it again")

    def _entity(self, place: tuple[str, str]) -> TableEntity | None:
        try:
            with translated(f"read {_describe(place)} of the ledger"):
                return self._opened().get_entity(*place)
        except Missing:
            return None

    def _whole(self, kind: type[E], place: tuple[str, str], entity: TableEntity | None) -> E | None:
        for _ in range(READ_ATTEMPTS):
            if entity is None:
                return None
            version = _version(entity)
            pages = [self._entity(_page(version.writes[0], number)) for number in range(version.pages)]
            parts = [entity, *(page for page in pages if page is not None)]
            if len(parts) == version.pages + 1:
                record = json.loads(ledger_bodies.unpack(parts))
                return from_record(kind, {**record, "etag": str(version)})
            # It was replaced between two reads.
            entity = self._entity(place)
        raise Transient(f"{_describe(place)} of the ledger is being changed by others; try again")

    def _in_order(
        self, kind: type[E], partition: str, prefix: str, begin: str, end: str, limit: int | None
    ) -> Iterator[E]:
        if limit == 0:
            return
        rows = self._rows(
            "PartitionKey eq @partition and RowKey ge @begin and RowKey lt @end",
            {"partition": partition, "begin": begin, "end": end},
            1000 if limit is None else min(limit, 1000),
        )
        # Where keys are cut, those with the same beginning are not in order.
        for _, together in groupby(rows, key=lambda row: row["RowKey"][:LONGEST]):
            entries = [self._whole(kind, (partition, row["RowKey"]), row) for row in together]
            found = [entry for entry in entries if entry is not None and entry.key.startswith(prefix)]
            yield from sorted(found, key=lambda entry: entry.key)

    def _rows(
        self, query: str, parameters: dict[str, Any], size: int, select: Sequence[str] | None = None
    ) -> Iterator[TableEntity]:
        try:
            with translated("list entries of the ledger"):
                yield from self._opened().query_entities(
                    query, parameters=parameters, results_per_page=size, select=[*select] if select else None
                )
        except Missing:
            return

    def _write_pages(self, write: str, pages: Sequence[dict[str, Any]], owner: tuple[str, str]) -> None:
        self._sweep()
        for number, page in enumerate(pages):
            partition, row = _page(write, number)
            entity = {"PartitionKey": partition, "RowKey": row, "owner": owner[0], "key": owner[1], **page}
            self._in_table("write to the ledger", partial(_upsert, entity))

    def _remove_pages(self, version: _Version) -> None:
        for number in range(version.pages):
            with translated("remove what was replaced in the ledger"):
                self._opened().delete_entity(*_page(version.writes[0], number))

    def _sweep(self) -> None:
        """Remove pages whose entry never came to be: its writer died, or the entry was replaced by one that did."""
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + LEFTOVER.total_seconds()
        rows = self._rows(
            "PartitionKey ge @begin and PartitionKey lt @end and Timestamp lt @then",
            {"begin": PAGES, "end": f"{PAGES}~", "then": datetime.now(UTC) - LEFTOVER},
            1000,
            ["PartitionKey", "RowKey", "owner", "key"],
        )
        for row in list(rows):
            owner = self._entity((row["owner"], row["key"]))
            if owner is None or f"{PAGES}{_version(owner).writes[0]}" != row["PartitionKey"]:
                with translated("remove a leftover of the ledger"):
                    self._opened().delete_entity(row["PartitionKey"], row["RowKey"])

    def _in_table(self, doing: str, call: Callable[[TableClient], T]) -> T:
        """The result of a call that needs nothing but the table, which is made when there is none."""
        from azure.core.exceptions import ResourceExistsError

        table = self._opened()
        try:
            with translated(doing):
                return call(table)
        except Missing:
            pass
        with translated(f"make the table {self._table}"), suppress(ResourceExistsError):
            table.create_table()
        with translated(doing):
            return call(table)

    def _opened(self) -> TableClient:
        with self._lock:
            if self._client is None:
                from azure.data.tables import TableClient

                self._client = TableClient(
                    self._url, self._table, credential=self._credential, **patience.options(self._seconds)
                )
            return self._client


def _upsert(entity: dict[str, Any], table: TableClient) -> None:
    table.upsert_entity(entity)


def _place(kind: type[Entry], partition: str, key: str) -> tuple[str, str]:
    check_key(partition)
    check_key(key)
    return f"{kind.KIND}:{table_key(partition)}", table_key(key)


def _page(write: str, number: int) -> tuple[str, str]:
    return f"{PAGES}{write}", f"{number:04}"


def _version(entity: TableEntity) -> _Version:
    # Entities carry their etag beside their properties.
    return _Version(str(entity.metadata["etag"]), tuple(entity["writes"].split(" ")), int(entity["pages"]))


def _name(entry: Entry) -> str:
    return f"{entry.KIND} {entry.partition}/{entry.key}"


def _describe(place: tuple[str, str]) -> str:
    return "/".join(place)
