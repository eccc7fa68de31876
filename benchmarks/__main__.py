"""``python -m benchmarks [--quick] [NAME …]``: measure and print a table.

Without --quick the figures go into benchmarks/results.json, too.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks.figures import Figure, table, write

BENCHMARKS = ("cold_start", "signals", "burst", "flat", "scoring", "batch", "features", "increments", "drift")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(BENCHMARKS)}; all by default")
parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
arguments = parser.parse_args()
unknown = sorted(set(arguments.names) - set(BENCHMARKS))
if unknown:
    parser.error(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")

figures: list[Figure] = []
for name in arguments.names or BENCHMARKS:
    figures += importlib.import_module(f"benchmarks.{name}").run(arguments.quick)
print(table(figures))
if not arguments.quick:
    write(figures, Path(__file__).with_name("results.json"))
