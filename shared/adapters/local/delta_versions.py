"""Versions of a Delta table made of parquet files that are there already: they are linked into it, not copied."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction


def commit(table: Path, files: Sequence[Path], schema: pa.Schema, mark: Mapping[str, str]) -> int:
    """Make the rows of ``files``, all of ``schema``, the whole content of ``table``; returns the version.

    The log says what changed: a file of the table's last version stays, when its name is among theirs, so a name must
    never stand for other rows. A version that carries ``mark`` already is taken again. Runs that commit at once do so
    one after the other. The files must lie on the table's file system and never be written to again: each becomes a
    second name of the same data.
    """
    import deltalake
    from deltalake.exceptions import TableNotFoundError
    from deltalake.transaction import create_table_with_add_actions

    properties = deltalake.CommitProperties(custom_metadata=dict(mark))
    table.mkdir(parents=True, exist_ok=True)
    with _alone(table):
        try:
            found = deltalake.DeltaTable(str(table))
        except TableNotFoundError:
            added, fields = list(_linked(table, files)), deltalake.Schema.from_arrow(schema)
            create_table_with_add_actions(str(table), fields, added, commit_properties=properties)
            return 0
        if (known := _marked(found, mark)) is not None:
            return known
        _allow_times(found, schema)
        fields = deltalake.Schema.from_arrow(schema)
        if fields == found.schema():
            stays, gone = _compared(found, {file.name for file in files})
            actions: list[AddAction | RemoveAction] = [
                *_linked(table, [f for f in files if f.name not in stays]),
                *gone,
            ]
            found.create_write_transaction(actions, mode="append", schema=fields, commit_properties=properties)
        else:
            actions = [*_linked(table, files)]
            found.create_write_transaction(actions, mode="overwrite", schema=fields, commit_properties=properties)
        found.update_incremental()
        return found.version()


@contextmanager
def _alone(table: Path) -> Iterator[None]:
    """Nobody else commits meanwhile: of two that make a table at once, one fails or adds its rows to the other's."""
    import fcntl

    folder = os.open(table, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _marked(table: DeltaTable, mark: Mapping[str, str]) -> int | None:
    for commit in table.history():
        if all(commit.get(name) == value for name, value in mark.items()):
            return int(commit["version"])
    return None


def _compared(found: DeltaTable, names: Collection[str]) -> tuple[set[str], list[RemoveAction]]:
    """Those of ``names`` that the table has, and what takes its other files away."""
    import pyarrow as pa
    from deltalake.transaction import RemoveAction

    now = time.time_ns() // 1_000_000
    present = pa.table(found.get_add_actions()).select(["path", "size_bytes"]).to_pylist()
    gone = [file for file in present if file["path"] not in names]
    removed = [RemoveAction(file["path"], True, now, file["size_bytes"], {}) for file in gone]
    return {file["path"] for file in present} & set(names), removed


def _linked(table: Path, files: Sequence[Path]) -> Iterator[AddAction]:
    from deltalake.transaction import AddAction
    from pyarrow import parquet

    for file in files:
        # It is there already when it was part of an earlier version than the last.
        if not (table / file.name).exists():
            os.link(file, table / file.name)
        info = file.stat()
        stats = {"numRecords": parquet.read_metadata(file).num_rows}
        yield AddAction(file.name, info.st_size, {}, info.st_mtime_ns // 1_000_000, True, json.dumps(stats))


def _allow_times(table: Any, schema: pa.Schema) -> None:
    """A table that had no timestamps yet has to be told, by a version of its own, that it may have some."""
    import pyarrow as pa
    from deltalake import TableFeatures

    timed = any(pa.types.is_timestamp(field.type) and field.type.tz is None for field in schema)
    if timed and "timestampNtz" not in (table.protocol().reader_features or ()):
        table.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)
