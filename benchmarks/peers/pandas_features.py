"""Features of bank customers as one would write them by hand for pandas: `pandas_features.py rows.parquet folder`."""

import json
import sys

import numpy as np
import pandas as pd
from deltalake import write_deltalake

source, folder = sys.argv[1:]
landed = pd.read_parquet(source)
if not landed["target"].isin([0, 1]).all() or landed["Income"].isna().mean() > 0.2:
    sys.exit("the rows are not fit for training")
rows = landed.drop_duplicates()
del landed
rows = rows[rows["Age"].between(18, 100)]
rows["Income"] = rows["Income"].fillna(0.0)
rows["IncomeCategory"] = pd.cut(rows["Income"], [-np.inf, 30_000, 80_000, np.inf], right=False,
                                labels=["Low", "Medium", "High"]).astype(str)  # fmt: skip
rows["AgeGroup"] = pd.cut(rows["Age"], [-np.inf, 30, 50, np.inf], right=False,
                          labels=["Young", "Middle", "Senior"]).astype(str)  # fmt: skip
finite = np.isfinite(rows[["Income", "AccountBalance"]]).all().all()
if not rows["CustomerId"].is_unique or rows["target"].isna().any() or not finite:
    sys.exit("the rows are not fit for training")
rows = rows.sort_values("CustomerId")
held_out = pd.util.hash_pandas_object(rows["CustomerId"], index=False) % 5 == 0
rows[~held_out].to_parquet(f"{folder}/train.parquet", index=False)
rows[held_out].to_parquet(f"{folder}/test.parquet", index=False)
write_deltalake(f"{folder}/table", rows, mode="overwrite")
print(json.dumps([len(rows), int(rows["CustomerId"].sum())]))
