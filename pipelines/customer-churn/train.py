"""Trains the customer-churn model: the same script on a laptop and as an Azure ML command job."""

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
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

KEY = "customer_id"
LABEL = "churn"
POSITIVE = "Yes"
BOOSTING = {"n_estimators": 100, "max_depth": 3, "learning_rate": 0.1}


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

    numbers = x_train.select_dtypes("number").columns.to_list()
    categories = x_train.columns.drop(numbers).to_list()
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("numbers", SimpleImputer(strategy="median"), numbers),
                        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
                    ]
                ),
            ),
            ("boosting", GradientBoostingClassifier(**BOOSTING, random_state=0)),
        ]
    )

    with mlflow.start_run():
        mlflow.log_params(BOOSTING)
        model.fit(x_train, y_train)
        predicted = model.predict(x_test)
        leaving = model.predict_proba(x_test)[:, list(model.classes_).index(POSITIVE)]
        metrics = {
            "roc_auc": roc_auc_score(y_test == POSITIVE, leaving),
            "accuracy": accuracy_score(y_test, predicted),
            "precision": precision_score(y_test, predicted, pos_label=POSITIVE, zero_division=0),
            "recall": recall_score(y_test, predicted, pos_label=POSITIVE, zero_division=0),
        }
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
