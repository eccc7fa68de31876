"""The parquet files of one side of a run: each sorted by key, few however many batches came, shared between runs.

A file is never written to again, so that the next run takes over by a hard link what did not change. Rows are in the
order of the files' names and in each file in that of the key: the same batches give the same order.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.features.column_types import quote, text

if TYPE_CHECKING:
    import duckdb

SIZES = (2**15, 2**18, 2**21)
"""Rows below which files are merged once there are :data:`FEW` of them; what is larger stays as it is.

So a row is written anew three times at most for that it is among few, and a side has at most 21 files and one for
each 2 million rows.
"""
FEW = 8


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One file: its name, unique in the pipeline and beginning with its number in the order, and its rows."""

    name: str
    rows: int

    @property
    def number(self) -> int:
        """Its place in the order of the files."""
        return int(self.name.split("-")[1])


def grouped(rows: Sequence[int]) -> list[list[int]]:
    """Which pieces become one: lists of places in ``rows``, the sizes of all; empty ones are left out."""
    groups = [[place] for place, count in enumerate(rows) if count]
    for size in SIZES:
        small = [group for group in groups if sum(rows[place] for place in group) < size]
        if len(small) >= FEW:
            groups = [group for group in groups if group not in small] + [[place for group in small for place in group]]
    return groups


def write_all(connection: duckdb.DuckDBPyConnection, query: str, some: str, key: str, folder: Path) -> list[Piece]:
    """The rows of ``query`` in pieces of about the largest size, split by the quantiles of ``key`` in ``some`` of them.

    ``query`` ends with a condition. Sorted, so that the same rows give the same files and a repeated training the same
    model.
    """
    column = quote(key)
    (rows,) = connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0]
    parts = -(-rows // SIZES[-1])
    bounds: list[str] = []
    if parts > 1:
        steps = ", ".join(str(part / parts) for part in range(1, parts))
        found = f"SELECT quantile_disc({column}, [{steps}]) AS q FROM ({some})"
        listed = connection.execute(
            f"SELECT DISTINCT unnest(q) AS v, typeof(q[1]) FROM ({found}) ORDER BY v"
        ).fetchall()
        bounds = [f"CAST({text(str(bound))} AS {kind})" for bound, kind in listed]
    within = (f"{column} {sign} {bound}" for bound in bounds for sign in ("<", ">="))
    conditions = ["true", *within, "true"]
    ranges = [" AND ".join(pair) for pair in zip(conditions[::2], conditions[1::2], strict=True)]
    made = [write(connection, f"{query} AND {one}", column, folder, place) for place, one in enumerate(ranges)]
    for piece in made:
        if not piece.rows:
            (folder / piece.name).unlink()
    return [piece for piece in made if piece.rows]


def write(connection: duckdb.DuckDBPyConnection, query: str, order: str, folder: Path, number: int) -> Piece:
    """The rows of ``query``, sorted by ``order``, as piece ``number``, whole and on the disk."""
    name = f"part-{number:05}-{uuid.uuid4().hex}.parquet"
    place = folder / name
    written = connection.execute(
        f"COPY (SELECT * FROM ({query}) ORDER BY {order}) TO {text(str(place))} (FORMAT parquet)"
    ).fetchone()
    with place.open("rb") as file:
        os.fsync(file.fileno())
    return Piece(name=name, rows=int(written[0]) if written else 0)
