"""Real models for the tests, registered with MLflow: made once for a test session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shared.adapters.local.model_registry import MlflowRegistry
from shared.models.compile_model import compile_model

COLUMNS = ("tenure", "monthly", "contract", "senior", "since")
LANDED = {
    "customer_id": "string",
    "months": "int",
    "cents": "int",
    "contract": "string?",
    "senior": "boolean",
    "since": "timestamp",
    "churn": "string",
}
SQL = """
SELECT customer_id, months AS tenure, cents / 100.0 AS monthly, contract, senior, since, churn
FROM landed WHERE months <= 120
"""


def customers(rows: int = 300, seed: int = 1) -> pd.DataFrame:
    """Feature rows as a features job writes them: int, double, text with nulls, boolean and timestamp."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "tenure": rng.integers(0, 72, rows),
            "monthly": rng.uniform(20, 120, rows).round(2),
            "contract": pd.array(rng.choice(["month", "year", "two years", None], rows), dtype="str"),
            "senior": rng.random(rows) < 0.2,
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, rows), unit="D"),
        }
    )


def landed(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as they land, of which SQL makes ``frame``; the label is not known yet."""
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(len(frame))],
            "months": frame["tenure"],
            "cents": (frame["monthly"] * 100).round().astype("int64"),
            "contract": frame["contract"],
            "senior": frame["senior"],
            "since": frame["since"],
        }
    )


def churned(frame: pd.DataFrame) -> pd.Series:
    """A label that tenure, contract and charges explain for the most part."""
    score = frame["monthly"] / 40 - frame["tenure"] / 20 + (frame["contract"] == "month") * 1.5
    return pd.Series(np.where(score > 0.5, "Yes", "No"), index=frame.index)


def days(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.apply(lambda column: (column - pd.Timestamp("2020-01-01")).dt.days)


def classifier(final: object) -> Pipeline:
    from sklearn.preprocessing import FunctionTransformer

    prepare = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["tenure", "monthly"]),
            ("contract", OneHotEncoder(handle_unknown="ignore"), ["contract"]),
            ("senior", "passthrough", ["senior"]),
            ("since", FunctionTransformer(days), ["since"]),
        ]
    )
    return make_pipeline(prepare, final)


def register(registry: MlflowRegistry, home: Path, name: str, model: object, example: pd.DataFrame) -> Path:
    """Save ``model`` as the output of a job, register it, and return the folder of its files."""
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import infer_signature

    job = f"{name}-{len(list(registry.versions(name))) + 1}"
    signature = infer_signature(example)
    folder = home / "jobs" / job / "outputs" / "model"
    if isinstance(model, mlflow.pyfunc.PythonModel):
        mlflow.pyfunc.save_model(folder, python_model=model, signature=signature, pip_requirements=[])
    else:
        mlflow.sklearn.save_model(
            model, folder, signature=signature, pip_requirements=[], serialization_format="cloudpickle"
        )
    version = registry.register(name, job=job, output="model", tags={})
    return registry.model_folder(name, version.version)


def tenure_in_thousands(folder: Path) -> bytes:
    """The compiled form of a regression with the columns of spend; no other model answers as it does."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    frame = customers()[["tenure", "monthly"]].astype("float64")
    mlflow.sklearn.save_model(
        LinearRegression().fit(frame, frame["tenure"] * 1000), folder, signature=infer_signature(frame),
        pip_requirements=[], serialization_format="cloudpickle",
    )  # fmt: skip
    proof, graph = compile_model(folder, frame)
    assert graph, proof.reason
    return graph


def make_registry(home: Path) -> MlflowRegistry:
    """A registry with customer-churn 1 (logistic regression) and 2 (forest), spend 1 (regression),
    rule 1 (a pyfunc model) and broken 1 (a model without its file)."""
    import mlflow.pyfunc

    class Rule(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return ["Yes" if tenure < 12 else "No" for tenure in model_input["tenure"]]

    registry = MlflowRegistry(home)
    frame = customers()
    label = churned(frame)
    for final in (LogisticRegression(), RandomForestClassifier(20, random_state=1, max_depth=6)):
        register(registry, home, "customer-churn", classifier(final).fit(frame, label), frame)
    numbers = frame[["tenure", "monthly"]].astype("float64")
    register(registry, home, "spend", LinearRegression().fit(numbers, frame["monthly"] * 12), numbers)
    register(registry, home, "rule", Rule(), frame)
    broken = register(registry, home, "broken", LinearRegression().fit(numbers, frame["monthly"]), numbers)
    (broken / "model.pkl").unlink()
    return registry
