"""The peers' packages, each peer in an environment of its own: they want different versions of the same ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.settings import ROOT

PLACE = ROOT / "benchmarks" / ".peers"
REQUIREMENTS = {
    "azureml": (
        "azureml-inference-server-http==1.5.1", "mlflow-skinny==3.15.0", "numba==0.68.1", "numpy==2.4.6",
        "onnxruntime==1.32.0", "pandas==3.1.1", "scikit-learn==1.9.1",
    ),
    "dataframes": ("deltalake==1.6.6", "pandas==3.1.1", "polars==2.1.0", "pyarrow==25.0.1"),
    "evidently": ("evidently==0.7.23", "numpy==2.4.6", "pandas==2.3.3", "pyarrow==25.0.1"),
    "mlflow": ("mlflow==3.17.2", "numpy==2.4.6", "pandas==3.1.1", "scikit-learn==1.9.1"),
    "mlserver": ("mlserver==1.7.1", "onnxruntime==1.32.0"),
}  # fmt: skip


def environment(name: str) -> Path:
    """The folder of commands of a peer's environment, installed when there is none."""
    place = PLACE / name
    done = place / "installed"
    if not done.exists():
        print(f"installing {', '.join(REQUIREMENTS[name])} into {place.relative_to(ROOT)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", *REQUIREMENTS[name]], check=True)
        done.touch()
    return place / "bin"
