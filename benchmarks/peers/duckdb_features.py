"""Features of bank customers as one would write them by hand for DuckDB: `duckdb_features.py rows.parquet folder`."""

import json
import sys

import duckdb
from deltalake import write_deltalake

source, folder = sys.argv[1:]
con = duckdb.connect()
con.execute(f"SET temp_directory = '{folder}/spill'")
con.execute(f"""
CREATE TABLE features AS
SELECT *, substr(md5(CAST(CustomerId AS VARCHAR)), 1, 8) < '33333333' AS held_out FROM (
    SELECT DISTINCT CustomerId, Age, coalesce(Income, 0) AS Income, CreditScore, AccountBalance,
        CASE WHEN coalesce(Income, 0) < 30000 THEN 'Low' WHEN coalesce(Income, 0) < 80000 THEN 'Medium' ELSE 'High' END
            AS IncomeCategory,
        CASE WHEN Age < 30 THEN 'Young' WHEN Age < 50 THEN 'Middle' ELSE 'Senior' END AS AgeGroup,
        target
    FROM '{source}' WHERE Age BETWEEN 18 AND 100)
""")
wrong, no_income, landed = con.execute(
    f"SELECT count_if(target NOT IN (0, 1)), count_if(Income IS NULL), count(*) FROM '{source}'"
).fetchone()
rows, keys, labels, infinite, total = con.execute(
    "SELECT count(*), count(DISTINCT CustomerId), count(target),"
    " count_if(NOT isfinite(Income) OR NOT isfinite(AccountBalance)), sum(CustomerId) FROM features"
).fetchone()
if wrong or no_income > 0.2 * landed or rows != keys or rows != labels or infinite:
    sys.exit("the rows are not fit for training")
for side, condition in (("train", "NOT held_out"), ("test", "held_out")):
    con.execute(
        f"COPY (SELECT * EXCLUDE (held_out) FROM features WHERE {condition} ORDER BY CustomerId)"
        f" TO '{folder}/{side}.parquet' (FORMAT parquet)"
    )
reader = con.sql("SELECT * EXCLUDE (held_out) FROM features").to_arrow_reader(100_000)
write_deltalake(f"{folder}/table", reader, mode="overwrite")
print(json.dumps([rows, int(total)]))
