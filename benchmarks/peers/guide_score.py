"""The scoring script that a guide to Azure ML tells to write: MLflow loads the model, numpy takes the rows."""

import json
import os

import mlflow.sklearn
import numpy as np


def init():
    global model
    model = mlflow.sklearn.load_model(os.environ["AZUREML_MODEL_DIR"])


def run(body):
    rows = np.array(json.loads(body)["data"])
    return {"predictions": model.predict(rows).tolist(), "probabilities": model.predict_proba(rows).tolist()}
