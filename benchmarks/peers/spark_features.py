"""Features of bank customers as one would write them by hand for PySpark: `spark_features.py rows.parquet folder`.

Spark works on all cores, with shuffles as small as they should be there. It writes no Delta table, for which it needs
more Java packages.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

from landfall.spark import _java_home

source, folder = sys.argv[1:]
with tempfile.TemporaryDirectory() as java:
    os.environ["JAVA_HOME"] = str(_java_home(Path(java)))
    session = SparkSession.builder.master("local[*]").config("spark.driver.memory", "4g")
    session = session.config("spark.sql.shuffle.partitions", str(2 * (os.cpu_count() or 1)))
    spark = session.config("spark.local.dir", java).getOrCreate()
    landed = spark.read.parquet(source)
    rows = (
        landed.dropDuplicates()
        .where("Age BETWEEN 18 AND 100")
        .selectExpr(
            "CustomerId",
            "Age",
            "coalesce(Income, 0D) AS Income",
            "CreditScore",
            "AccountBalance",
            "CASE WHEN coalesce(Income, 0) < 30000 THEN 'Low' WHEN coalesce(Income, 0) < 80000 THEN 'Medium'"
            " ELSE 'High' END AS IncomeCategory",
            "CASE WHEN Age < 30 THEN 'Young' WHEN Age < 50 THEN 'Middle' ELSE 'Senior' END AS AgeGroup",
            "target",
            "substr(md5(CAST(CustomerId AS STRING)), 1, 8) < '33333333' AS held_out",
        )
        .persist()
    )
    wrong, no_income = landed.selectExpr("count_if(target NOT IN (0, 1))", "avg(int(isnull(Income)))").first()
    count, labels, infinite, total = rows.selectExpr(
        "count(*)", "count(target)", "count_if(abs(Income) = double('inf'))", "sum(CustomerId)"
    ).first()
    keys = rows.select("CustomerId").distinct().count()
    if wrong or no_income > 0.2 or count != keys or count != labels or infinite:
        sys.exit("the rows are not fit for training")
    for side, condition in (("train", "NOT held_out"), ("test", "held_out")):
        found = rows.where(condition).drop("held_out").sort("CustomerId")
        found.write.mode("overwrite").parquet(f"{folder}/{side}")
    spark.stop()
print(json.dumps([count, total]))
