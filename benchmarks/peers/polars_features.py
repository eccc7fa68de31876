"""Features of bank customers as one would write them by hand for polars: `polars_features.py rows.parquet folder`."""

import json
import sys

import polars as pl
from polars import col

source, folder = sys.argv[1:]
landed = pl.scan_parquet(source)
income = col("Income").fill_null(0.0)
rows = (
    landed.unique()
    .filter(col("Age").is_between(18, 100))
    .with_columns(
        Income=income,
        IncomeCategory=pl.when(income < 30_000).then(pl.lit("Low")).when(income < 80_000).then(pl.lit("Medium"))
        .otherwise(pl.lit("High")),
        AgeGroup=pl.when(col("Age") < 30).then(pl.lit("Young")).when(col("Age") < 50).then(pl.lit("Middle"))
        .otherwise(pl.lit("Senior")),
    )
    .sort("CustomerId")
    .collect()
)  # fmt: skip
wrong, no_income = landed.select(~col("target").is_in([0, 1]).all(), col("Income").is_null().mean()).collect().row(0)
finite = rows.select(col("Income", "AccountBalance").is_finite().all()).row(0)
if wrong or no_income > 0.2 or rows["CustomerId"].n_unique() != len(rows) or rows["target"].null_count():
    sys.exit("the rows are not fit for training")
if not all(finite):
    sys.exit("the rows hold infinite numbers")
held_out = col("CustomerId").hash(1) % 5 == 0
rows.filter(~held_out).write_parquet(f"{folder}/train.parquet")
rows.filter(held_out).write_parquet(f"{folder}/test.parquet")
rows.write_delta(f"{folder}/table", mode="overwrite")
print(json.dumps([len(rows), int(rows["CustomerId"].sum())]))
