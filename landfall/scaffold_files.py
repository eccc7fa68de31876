"""The four files of a new pipeline, written from its plan."""

from __future__ import annotations

import re
from string import Template
from typing import TYPE_CHECKING, Any

from landfall.table import quoted

if TYPE_CHECKING:
    from landfall.scaffold import Feature, Plan

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}


def pipeline_yaml(plan: Plan) -> str:
    """pipeline.yaml: what was seen of the table, and defaults for everything else."""
    lines = [
        f"name: {plan.name}",
        f"description: {_yaml(f'Predicts {plan.label.name}, begun from {plan.source}')}",
        "landing:",
        f"  path: landing/{plan.name}",
        f"  format: {plan.format}",
    ]
    if plan.keep == "all":
        lines += ["  # The key is made in features.sql, so no landed row can replace another.", "  keep: all"]
    lines += ["  # As seen in the table; ? allows nulls.", "  columns:"]
    for name, kind in plan.landed.items():
        remark = f"  # {plan.remarks[name]}" if name in plan.remarks else ""
        lines.append(f"    {_yaml(name)}: {kind}{remark}")
    lines += ["  # A batch that breaks one is rejected. The table keeps them with room to spare.", "  checks:"]
    lines += [f"    - {_flow(check)}" for check in plan.checks]
    lines.append(f"features: {_flow({'key': plan.key.name, 'label': plan.label.name, 'test_share': plan.test_share})}")
    gate = {"binary": "roc_auc", "classes": "balanced_accuracy", "numbers": "rmse"}[plan.task]
    positive = {} if plan.positive is None else {"positive": str(plan.positive)}
    lines.append(f"gate: {_flow({'metric': gate, **positive})}")
    lines += ["# Everything else has its default: see docs/pipeline-yaml.md.", ""]
    return "\n".join(lines).replace("  checks:\n" + "features:", "  checks: []\nfeatures:")


def features_sql(plan: Plan) -> str:
    """features.sql: one line a column."""
    columns = (plan.key, plan.label, *plan.features)
    lines = [f"-- What {plan.name} learns from, one line a column."]
    if plan.row_wise:
        lines.append("-- Every row is made from one landed row alone, so that scoring runs this on raw rows, too.")
    lines.append("select distinct" if plan.distinct else "select")
    for i, feature in enumerate(columns):
        comma = "," if i < len(columns) - 1 else ""
        note = f"  -- {feature.note}" if feature.note else ""
        lines.append(f"    {_projection(feature)}{comma}{note}")
    lines.append("from landed")
    if plan.where:
        lines.append(f"where {plan.where}  -- rows without a label teach nothing")
    return "\n".join(lines) + "\n"


def train_py(plan: Plan) -> str:
    """train.py: a whole script that its owner can read and change."""
    task = {"binary": _BINARY, "classes": _CLASSES, "numbers": _NUMBERS}[plan.task]
    return Template(_TRAIN).substitute(
        name=plan.name,
        key=_python(plan.key.name),
        label=_python(plan.label.name),
        positive=f"POSITIVE = {_python(plan.positive)}\n" if plan.task == "binary" else "",
        parameters=next(text for rows, text in _BOOSTING if plan.rows >= rows),
        check=_TWO_CLASSES if plan.task != "numbers" else "",
        sys="import sys\n" if plan.task != "numbers" else "",
        **task,
    )


def environment_yml(plan: Plan) -> str:
    """environment.yml: what train.py needs on Azure ML."""
    return _ENVIRONMENT.replace("NAME", plan.name)


def _projection(feature: Feature) -> str:
    column = quoted(feature.name)
    return column if feature.expression == column else f"{feature.expression} as {column}"


def _flow(values: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_yaml_value(value)}" for key, value in values.items()) + "}"


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml_value(item) for item in value) + "]"
    return _yaml(value) if isinstance(value, str) else f"{value:.12g}"


def _yaml(text: str) -> str:
    """``text`` as a YAML scalar that stays text for every reader."""
    import yaml

    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf")).rstrip("\n")


def _python(value: Any) -> str:
    """``value`` as Python writes it, with the quotes of the house."""
    if isinstance(value, str) and '"' not in value and repr(value).startswith("'"):
        return f'"{repr(value)[1:-1]}"'.replace("\\'", "'")
    return repr(value)


# From so many rows on; few rows want small trees, which may then have small leaves.
_BOOSTING = (
    (50_000, '{"max_iter": 200, "learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20}'),
    (2_000, '{"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 20}'),
    (0, '{"max_iter": 100, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 5}'),
)

_ENVIRONMENT = """\
# The environment of train.py on Azure ML. A laptop runs it in Landfall's own.
# azureml-mlflow brings the tracking client of the workspace and allows MLflow up to 3.15.
name: NAME
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip=25.3
  - pip:
      - azureml-mlflow==1.62.0.post6
      - mlflow-skinny==3.15.0
      - numba==0.68.1
      - numpy==2.4.6
      - onnx==1.23.2
      - onnxruntime==1.32.0
      - pandas==3.1.1
      - pyarrow==25.0.1
      - scikit-learn==1.9.1
      - skl2onnx==1.20.0
      - skops==0.16.0
"""

_TWO_CLASSES = """\
    if y_train.nunique() < 2:
        sys.exit(f"all {len(y_train)} training rows have the same {LABEL}: there is nothing to learn")
"""

_BINARY = {
    "estimator": "HistGradientBoostingClassifier",
    "metrics_import": "accuracy_score, precision_score, recall_score, roc_auc_score",
    "metrics": """\
        score = model.predict_proba(x_test)[:, list(model.classes_).index(POSITIVE)]
        metrics = {
            "roc_auc": roc_auc_score(y_test == POSITIVE, score),
            "accuracy": accuracy_score(y_test, predicted),
            "precision": precision_score(y_test, predicted, pos_label=POSITIVE, zero_division=0),
            "recall": recall_score(y_test, predicted, pos_label=POSITIVE, zero_division=0),
        }
""",
}

_CLASSES = {
    "estimator": "HistGradientBoostingClassifier",
    "metrics_import": "accuracy_score, balanced_accuracy_score, f1_score",
    "metrics": """\
        metrics = {
            "balanced_accuracy": balanced_accuracy_score(y_test, predicted),
            "accuracy": accuracy_score(y_test, predicted),
            "f1": f1_score(y_test, predicted, average="weighted", zero_division=0),
        }
""",
}

_NUMBERS = {
    "estimator": "HistGradientBoostingRegressor",
    "metrics_import": "mean_absolute_error, r2_score, root_mean_squared_error",
    "metrics": """\
        metrics = {
            "rmse": root_mean_squared_error(y_test, predicted),
            "mae": mean_absolute_error(y_test, predicted),
            "r2": r2_score(y_test, predicted),
        }
""",
}

_TRAIN = '''\
"""Trains the $name model: the same script on a laptop and as an Azure ML command job."""

import argparse
${sys}
import mlflow
import mlflow.sklearn
import numpy
import pandas as pd
import sklearn
import skops
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import $estimator
from sklearn.metrics import $metrics_import
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

KEY = $key
LABEL = $label
${positive}BOOSTING = $parameters
CATEGORIES = 30  # of a column are told apart; rarer ones count as one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of parquet: training rows")
    parser.add_argument("--test-data", required=True, help="folder of parquet: held-out rows")
    parser.add_argument("--model-output", required=True, help="folder for the MLflow model")
    args = parser.parse_args()

    x_train, y_train = read(args.data)
    x_test, y_test = read(args.test_data)
$check
    # Every column that features.sql gives is used: text as categories, the rest as numbers. A missing
    # category is one of its own; a missing number goes to the side of a split where it does least harm.
    numbers = x_train.select_dtypes("number").columns.to_list()
    categories = x_train.columns.drop(numbers).to_list()
    encoder = OneHotEncoder(handle_unknown="ignore", max_categories=CATEGORIES, sparse_output=False)
    columns = ColumnTransformer([("numbers", "passthrough", numbers), ("categories", encoder, categories)])
    model = Pipeline([("columns", columns), ("boosting", $estimator(**BOOSTING, random_state=0))])

    with mlflow.start_run():
        mlflow.log_params(BOOSTING)
        model.fit(x_train, y_train)
        predicted = model.predict(x_test)
$metrics\
        mlflow.log_metrics(metrics)
        save(model, x_train, predicted, args.model_output)

    print(f"Trained on {len(x_train)} rows, held out {len(x_test)}")
    for name, value in metrics.items():
        print(f"{name}: {value:.4f}")


def read(folder: str) -> tuple[pd.DataFrame, pd.Series]:
    """Features and label of a folder of parquet."""
    rows = pd.read_parquet(folder)
    features = rows.drop(columns=[KEY, LABEL])
    # As doubles, because whole numbers have no missing value and a later batch may bring one.
    numbers = features.select_dtypes("number").columns
    return features.astype(dict.fromkeys(numbers, "float64")), rows[LABEL]


def save(model: Pipeline, rows: pd.DataFrame, predicted: numpy.ndarray, folder: str) -> None:
    """Write the model with signature and input example to ``folder``, and log it with the run."""
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=infer_signature(rows, predicted),
        input_example=rows.head(3),
        # skops stores data, no code that runs when the file is opened, as a pickle has. It wants to be
        # told the compiled types it may build: these two are all that this model holds.
        serialization_format="skops",
        skops_trusted_types=["numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        # Named, or MLflow would load the model once more in another process to find out.
        pip_requirements=[
            f"{module.__name__.replace('sklearn', 'scikit-learn')}=={module.__version__}"
            for module in (mlflow, sklearn, skops, numpy, pd)
        ],
    )
    # Not log_model: since MLflow 2.19 it calls an API that Azure ML's tracking server does not have.
    mlflow.log_artifacts(folder, "model")


if __name__ == "__main__":
    main()
'''
