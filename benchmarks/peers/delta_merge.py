"""A batch of bank customers merged into a Delta table, by hand: `delta_merge.py rows.parquet table`."""

import json
import sys

import duckdb
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

source, place = sys.argv[1:]
con = duckdb.connect()
rows = con.sql(f"""
SELECT DISTINCT CustomerId, Age, coalesce(Income, 0) AS Income, CreditScore, AccountBalance,
    CASE WHEN coalesce(Income, 0) < 30000 THEN 'Low' WHEN coalesce(Income, 0) < 80000 THEN 'Medium' ELSE 'High' END
        AS IncomeCategory,
    CASE WHEN Age < 30 THEN 'Young' WHEN Age < 50 THEN 'Middle' ELSE 'Senior' END AS AgeGroup,
    target, substr(md5(CAST(CustomerId AS VARCHAR)), 1, 8) < '33333333' AS held_out
FROM '{source}' WHERE Age BETWEEN 18 AND 100 ORDER BY CustomerId
""").to_arrow_table()
try:
    table = DeltaTable(place)
except TableNotFoundError:
    write_deltalake(place, rows)
else:
    merge = table.merge(rows, "old.CustomerId = new.CustomerId", source_alias="new", target_alias="old")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
merged = DeltaTable(place).to_pyarrow_dataset()
found = duckdb.sql("SELECT count(*), CAST(sum(CustomerId) AS BIGINT) FROM merged").fetchall()[0]
print(json.dumps(found))
