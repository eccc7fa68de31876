"""A batch's features added to those of the run before: which rows they replace, and the pieces of both together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapters.local import pieces
from shared.adapters.local.base_features import Base
from shared.adapters.local.known_rows import Anew
from shared.adapters.local.landed_files import literal_path
from shared.adapters.local.pieces import Piece
from shared.domain.pipelines import Pipeline
from shared.features.column_types import quote, text

if TYPE_CHECKING:
    import duckdb

SIDES = {"train": "NOT landfall_test", "test": "landfall_test"}
"""The rows of each side, as a condition on the table ``features``."""


class Addition:
    """Works on ``connection``, which has the batch alone in the tables ``landed`` and ``features``.

    Of what was there before it reads the keys, and whole those pieces that hold rows of the batch's keys.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, base: Base, pipeline: Pipeline) -> None:
        self.base = base
        self._con = connection
        self._latest = pipeline.landing.keep == "latest"
        self._key, self._label = quote(pipeline.features.key), pipeline.features.label
        self._unreplaced = f"ANTI JOIN landfall_keys ON {self._key} = landfall_key"
        self._replaced: dict[str, dict[str, int]] = {}

    def add_up(self, new: Mapping[str, int], classes: int) -> dict[bool, int]:
        """The training (False) and held-out (True) rows of both, where the batch has ``new`` ones on each side.

        ``classes`` are the batch's different labels for training. The rows that a key had before go when it landed
        again, also when features.sql leaves the new one out. Raises Anew for what has to be told of all rows: a
        key that comes again and must not, an empty side, one label alone.
        """
        landed = "landed" if self._latest else "features"
        self._con.execute(f"CREATE TABLE landfall_keys AS SELECT DISTINCT {self._key} AS landfall_key FROM {landed}")
        self._replaced = {side: self._count_replaced(side) for side in SIDES}
        replaced = {side: sum(counts.values()) for side, counts in self._replaced.items()}
        again = sum(replaced.values())
        if again and not self._latest:
            raise Anew(f"{again:,} keys of the batch landed before")
        print(f"{again:,} of {self.base.rows('train') + self.base.rows('test'):,} prepared rows are replaced")
        total = {side: self.base.rows(side) - replaced[side] + new[side] for side in SIDES}
        if not all(total.values()):
            raise Anew("the batch leaves nothing on one side of the split")
        if replaced["train"] and classes < 2:
            self._check_classes()
        return {False: total["train"], True: total["test"]}

    def write(self, side: str, query: str, folder: Path) -> list[Piece]:
        """Put into ``folder`` the base's pieces without replaced rows and those of ``query``, the batch's, merged."""
        old, replaced = self.base.facts.pieces[side], self._replaced[side]
        (added,) = self._con.execute(f"SELECT count(*) FROM ({query})").fetchall()[0]
        number = 1 + max(piece.number for piece in old)
        made = []
        for places in pieces.grouped([*(piece.rows - replaced.get(piece.name, 0) for piece in old), added]):
            sources = [old[place] for place in places if place < len(old)]
            alone = len(places) == 1 and len(sources) == 1
            if alone and sources[0].name not in replaced:
                os.link(self.base.folders[side] / sources[0].name, folder / sources[0].name)
                made.append(sources[0])
                continue
            parts = [f"SELECT * FROM {self._read(side, sources)} {self._unreplaced}"] if sources else []
            parts += [query] if len(sources) < len(places) else []
            place = sources[0].number if alone else number
            made.append(pieces.write(self._con, " UNION ALL ".join(parts), self._key, folder, place))
            number += not alone
        return sorted(made, key=lambda piece: piece.number)

    def sample(self) -> str:
        """The stored rows for the profile without replaced ones, as the beginning of a query."""
        stored = f"read_parquet({text(literal_path(self.base.sample))}, hive_partitioning = false)"
        return f"SELECT * FROM {stored} {self._unreplaced}"

    def _count_replaced(self, side: str) -> dict[str, int]:
        """How many rows of each piece have a key of the batch."""
        rows = self._read(side, self.base.facts.pieces[side], ", filename = 'landfall_file'")
        query = (
            f"SELECT parse_filename(landfall_file), count(*) FROM {rows}"
            f" SEMI JOIN landfall_keys ON {self._key} = landfall_key GROUP BY 1"
        )
        return dict(self._con.execute(query).fetchall())

    def _check_classes(self) -> None:
        label = quote(self._label)
        old = f"SELECT {label} AS v FROM {self._read('train', self.base.facts.pieces['train'])} {self._unreplaced}"
        new = f"SELECT {label} FROM features WHERE {SIDES['train']}"
        if self._con.execute(f"SELECT min(v) < max(v) FROM ({old} UNION ALL {new})").fetchone() != (True,):
            raise Anew(f"the batch leaves one {self._label} alone")

    def _read(self, side: str, chosen: Sequence[Piece], options: str = "") -> str:
        """Rows of pieces of the base, as a table in SQL."""
        paths = ", ".join(text(literal_path(self.base.folders[side] / piece.name)) for piece in chosen)
        return f"read_parquet([{paths}], hive_partitioning = false{options})"
