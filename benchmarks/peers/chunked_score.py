"""A table scored in chunks by hand: ``chunked_score.py sklearn|pyfunc MODEL INPUT OUTPUT``.

Prints the seconds that the model itself took as a JSON object.
"""

import json
import sys
import time

import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

kind, folder, source, target = sys.argv[1:]
model = (mlflow.sklearn if kind == "sklearn" else mlflow.pyfunc).load_model(folder)
seconds, writer = 0.0, None
for batch in pq.ParquetFile(source).iter_batches(100_000):
    frame = batch.to_pandas()
    rows = frame.drop(columns="id")
    begun = time.perf_counter()
    if kind == "sklearn":
        probabilities = model.predict_proba(rows)
        seconds += time.perf_counter() - begun
        answer = {"prediction": model.classes_[probabilities.argmax(axis=1)], "probability": probabilities[:, 1]}
    else:
        answer = {"prediction": model.predict(rows)}
        seconds += time.perf_counter() - begun
    table = pa.Table.from_pandas(pd.DataFrame({"id": frame["id"], **answer}), preserve_index=False)
    writer = writer or pq.ParquetWriter(target, table.schema)
    writer.write_table(table)
writer.close()
print(json.dumps({"seconds": seconds}))
