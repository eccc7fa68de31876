"""Trains the bank-customers model: the same script on a laptop and as an Azure ML command job."""

import argparse
import sys

import mlflow
import mlflow.sklearn
import numpy
import pandas as pd
import sklearn
import skops
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, precision_score, recall_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

KEY = "CustomerId"
LABEL = "target"
SCALED = ["Age", "Income", "CreditScore", "AccountBalance"]
CATEGORIES = ["IncomeCategory", "AgeGroup"]
FOREST = {"n_estimators": 100, "max_depth": 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of parquet: training rows")
    parser.add_argument("--test-data", required=True, help="folder of parquet: held-out rows")
    parser.add_argument("--model-output", required=True, help="folder for the MLflow model")
    args = parser.parse_args()

    x_train, y_train = read(args.data)
    x_test, y_test = read(args.test_data)
    if y_train.nunique() < 2:
        sys.exit(f"all {len(y_train)} training rows have the same {LABEL}: there is nothing to learn")

    # The scaler is part of the model: it learns from training rows only, and scoring takes unscaled values.
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("scaled", StandardScaler(), SCALED),
                        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORIES),
                    ]
                ),
            ),
            ("forest", RandomForestClassifier(**FOREST, random_state=42)),
        ]
    )

    with mlflow.start_run():
        mlflow.log_params(FOREST)
        model.fit(x_train, y_train)
        predicted = model.predict(x_test)
        metrics = {
            "accuracy": accuracy_score(y_test, predicted),
            "precision": precision_score(y_test, predicted, average="weighted", zero_division=0),
            "recall": recall_score(y_test, predicted, average="weighted", zero_division=0),
        }
        mlflow.log_metrics(metrics)
        save(model, x_train, predicted, args.model_output)

    print(f"Trained on {len(x_train)} rows, held out {len(x_test)}")
    for name, value in metrics.items():
        print(f"{name.capitalize()}: {value:.4f}")


def read(folder: str) -> tuple[pd.DataFrame, pd.Series]:
    """Features and label of a folder of parquet."""
    rows = pd.read_parquet(folder)
    features = rows.drop(columns=[KEY, LABEL])[SCALED + CATEGORIES]
    return features.astype(dict.fromkeys(SCALED, "float64")), rows[LABEL]


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
        skops_trusted_types=["numpy.dtype", "sklearn.tree._tree.Tree"],
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
