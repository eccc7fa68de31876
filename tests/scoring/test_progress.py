"""How long a table is, for the progress bar of landfall score."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from landfall.scoring import SAMPLED_BYTES, _rows


def test_a_text_file_has_about_as_many_rows_as_its_beginning_promises(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id,amount\n" + "".join(f"c{i:06},{i % 997}\n" for i in range(300_000)))
    assert file.stat().st_size > 2 * SAMPLED_BYTES
    assert _rows(file) == pytest.approx(300_000, rel=0.05)


def test_a_parquet_file_has_as_many_rows_as_it_says_and_a_compressed_or_empty_one_is_not_known(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(1234)}), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv.gz").write_bytes(b"\x1f\x8b\n\n")
    (tmp_path / "rows.csv").write_bytes(b"")
    assert _rows(tmp_path / "rows.parquet") == 1234
    assert _rows(tmp_path / "rows.csv.gz") is None
    assert _rows(tmp_path / "rows.csv") is None
