"""Makes rows of bank customers: ``python samples/bank_customers.py --rows N --seed S --out FILE.csv|.parquet``.

Columns are CustomerId, Age, Income, CreditScore, AccountBalance and target (1: the customer takes the
offer). The target can be learned, with noise. The same rows, seed and format give the same file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 250_000
DUPLICATES = 0.01
NO_INCOME = 0.03
WRONG_AGE = 0.01


def rows(count: int, seed: int) -> Iterator[pa.RecordBatch]:
    """``count`` rows in batches of up to 250,000; about 1 % repeat a whole row of the same batch."""
    import numpy as np
    import pyarrow as pa

    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        rng = np.random.default_rng([seed, start])
        age = np.clip(rng.normal(45, 15, size), 18, 100).round().astype(np.int64)
        income = np.exp(rng.normal(10.8, 0.6, size)).round(2)
        credit = np.clip(rng.normal(650, 90, size), 300, 850).round().astype(np.int64)
        balance = np.exp(rng.normal(8.5, 1.2, size)).round(2)
        signal = (
            1.2 * (np.log(income) - 10.8) / 0.6
            + 0.9 * (credit - 650) / 90
            + 0.5 * (np.log(balance) - 8.5) / 1.2
            - 0.8 * ((age < 30) | (age > 70))
            - 0.6
        )
        target = (rng.random(size) < 1 / (1 + np.exp(-1.5 * signal))).astype(np.int64)
        outside = rng.random(size) < WRONG_AGE
        age[outside] = rng.choice([-1, 0, 7, 16, 101, 130, 999], outside.sum())
        columns = {
            "CustomerId": start + 1 + np.arange(size),
            "Age": age,
            "Income": pa.array(income, mask=rng.random(size) < NO_INCOME),
            "CreditScore": credit,
            "AccountBalance": balance,
            "target": target,
        }
        batch = pa.record_batch(columns)
        order = np.arange(size)
        again = rng.random(size) < DUPLICATES
        again[0] = False
        order[again] = rng.integers(0, order[again])
        yield batch.take(pa.array(order))


def write(path: Path, count: int, seed: int) -> None:
    """Write the rows as csv or parquet, by the end of the file's name."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    writers = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}
    if path.suffix not in writers:
        raise SystemExit(f"{path}: the name must end with .csv or .parquet")
    batches = rows(count, seed)
    first = next(batches, None)
    if first is None:
        raise SystemExit("--rows must be at least 1")
    with writers[path.suffix](path, first.schema) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True, help="how many rows")
    parser.add_argument("--seed", type=int, default=42, help="another seed gives other rows (default 42)")
    parser.add_argument("--out", type=Path, required=True, help="file to write: .csv or .parquet")
    arguments = parser.parse_args()
    write(arguments.out, arguments.rows, arguments.seed)


if __name__ == "__main__":
    main()
