"""Rows are answered by the thread that was asked, whatever else the processors have to do."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import ThreadpoolController

from shared.models.served_model import ServedModel


@pytest.fixture(scope="module")
def boosting(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = pd.DataFrame(np.random.default_rng(0).random((80, 2)), columns=["a", "b"])
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows, rows["a"] > rows["b"])
    folder = tmp_path_factory.mktemp("boosting") / "model"
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=infer_signature(rows, model.predict(rows)),
        pip_requirements=["scikit-learn"],
        serialization_format="skops",
        skops_trusted_types=["numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )
    return ServedModel(folder)


def team() -> int:
    """How many threads OpenMP would take for what this thread begins."""
    return max(library["num_threads"] for library in ThreadpoolController().select(user_api="openmp").info())


def test_a_thread_that_answers_rows_works_alone_and_takes_no_thread_from_others(boosting: ServedModel) -> None:
    found: list[int] = []

    def answer() -> None:
        for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
            library.set_num_threads(2)
        boosting.predict(["a", "b"], [[0.1, 0.9]])
        found.append(team())

    for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
        library.set_num_threads(2)
    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()
    assert found == [1]
    assert team() == 2
