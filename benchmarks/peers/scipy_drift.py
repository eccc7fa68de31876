"""What one writes without a library for drift: pandas, scipy's exact statistics, a loop over the columns."""

import json
import sys

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

reference, current = (pd.read_parquet(path) for path in sys.argv[1:3])
values = {}
for name in reference:
    a, b = reference[name].dropna(), current[name].dropna()
    if pd.api.types.is_numeric_dtype(a):
        scaled = wasserstein_distance(a, b) / max(a.std(), 0.001)
        values[name] = {"Wasserstein distance (normed)": scaled, "K-S": float(ks_2samp(a, b, method="asymp").statistic)}
    else:
        counts = pd.concat([a.value_counts(), b.value_counts()], axis=1).fillna(0).to_numpy()
        values[name] = {
            "Jensen-Shannon distance": float(jensenshannon(counts[:, 0], counts[:, 1], base=2)),
            "chi-square": float(chi2_contingency(counts).pvalue),
        }
    edges = np.quantile(a, np.arange(1, 10) / 10) if pd.api.types.is_numeric_dtype(a) else None
    if edges is not None:
        p, q = (np.bincount(np.searchsorted(edges, x, side="right"), minlength=10) / len(x) + 1e-6 for x in (a, b))
        values[name]["PSI"] = float(((q - p) * np.log(q / p)).sum())
print(json.dumps(values))
