"""Evidently's drift preset as its documentation shows it: two tables in pandas, its own choice of statistics."""

import json
import sys

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

reference, current = (pd.read_parquet(path) for path in sys.argv[1:3])
snapshot = Report([DataDriftPreset()]).run(current, reference)
values = {}
for metric in snapshot.dict()["metrics"]:
    if metric["config"]["type"].endswith("ValueDrift"):
        values[metric["config"]["column"]] = {metric["config"]["method"]: float(metric["value"])}
print(json.dumps(values))
