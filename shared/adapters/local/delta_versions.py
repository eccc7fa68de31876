"""Versions of a Delta table made of parquet files that are there already: they are linked into it, not copied."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

ATTEMPTS = 5


def commit(table: Path, files: Sequence[Path], schema: pa.Schema, mark: Mapping[str, str]) -> int:
    """Make the rows of ``files``, all of ``schema``, the whole content of ``table``; returns the version.

    A version that carries ``mark`` already is taken again. The files must lie on the table's file system and
    never be written to again: each becomes a second name of the same data.
    """
    import deltalake
    from deltalake.exceptions import CommitFailedError, TableNotFoundError
    from deltalake.transaction import create_table_with_add_actions

    properties = deltalake.CommitProperties(custom_metadata=dict(mark))
    table.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            found: DeltaTable | None = deltalake.DeltaTable(str(table))
        except TableNotFoundError:
            found = None
        if found is not None and (known := _marked(found, mark)) is not None:
            return known
        added = list(_linked(table, files))
        try:
            if found is None:
                create_table_with_add_actions(
                    str(table), deltalake.Schema.from_arrow(schema), added, commit_properties=properties
                )
                return 0
            _allow_times(found, schema)
            actions: list[AddAction | RemoveAction] = [*added]
            found.create_write_transaction(
                actions, mode="overwrite", schema=deltalake.Schema.from_arrow(schema), commit_properties=properties
            )
        except CommitFailedError:
            # Another run of the pipeline has committed in between.
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the loop returns or raises")


def _marked(table: DeltaTable, mark: Mapping[str, str]) -> int | None:
    for commit in table.history():
        if all(commit.get(name) == value for name, value in mark.items()):
            return int(commit["version"])
    return None


def _linked(table: Path, files: Sequence[Path]) -> Iterator[AddAction]:
    from deltalake.transaction import AddAction
    from pyarrow import parquet

    for file in files:
        name = f"part-{uuid.uuid4()}.parquet"
        os.link(file, table / name)
        info = file.stat()
        stats = {"numRecords": parquet.read_metadata(file).num_rows}
        yield AddAction(name, info.st_size, {}, info.st_mtime_ns // 1_000_000, True, json.dumps(stats))


def _allow_times(table: Any, schema: pa.Schema) -> None:
    """A table that had no timestamps yet has to be told, by a version of its own, that it may have some."""
    import pyarrow as pa
    from deltalake import TableFeatures

    timed = any(pa.types.is_timestamp(field.type) and field.type.tz is None for field in schema)
    if timed and "timestampNtz" not in (table.protocol().reader_features or ()):
        table.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)
