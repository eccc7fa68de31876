"""Many rows through the trees of a compiled model: answered as the model does, and only where that is proven."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor

from shared.models import compile_model as compiling
from shared.models.compile_model import compile_model
from shared.models.compiled_model import Graph
from shared.models.forest import SHARE, Forest
from shared.models.served_model import ServedModel

NEVER = 10**9


def numbers(many: int, missing: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(many)
    values = rng.normal(0, 100, (many, 4))
    values[rng.random(values.shape) < missing] = np.nan
    return pd.DataFrame(values, columns=["a", "b", "c", "d"])


def save(model: object, frame: pd.DataFrame, label: object, folder: Path) -> Path:
    mlflow.sklearn.save_model(
        model.fit(frame, label), folder, signature=infer_signature(frame), pip_requirements=[],
        serialization_format="cloudpickle",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=["forest", "deep regression", "boosting with nulls", "three classes"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ServedModel, float]:
    """A graph with its trees, its model, and the share of values that may be missing."""
    missing = 0.2 if "nulls" in request.param else 0.0
    frame = numbers(600, missing)
    score = frame["a"].fillna(30) - frame["b"].fillna(0) / 2
    folder = tmp_path_factory.mktemp("model") / "model"
    if "regression" in request.param:
        save(RandomForestRegressor(7, random_state=1), frame, score, folder)
    elif "nulls" in request.param:
        save(HistGradientBoostingClassifier(max_iter=15), frame, score > 0, folder)
    else:
        label = np.digitize(score, [0, 50] if "three" in request.param else [0])
        save(RandomForestClassifier(9, max_depth=5, random_state=1), frame, label, folder)
    proof, graph = compile_model(folder, numbers(300, missing))
    assert proof.bulk and graph, proof.bulk_reason
    return graph, ServedModel(folder), missing


@pytest.mark.parametrize("many", [1, 8, 15, 2 * SHARE + 13])
def test_any_number_of_rows_is_answered_as_by_the_model(made: tuple[bytes, ServedModel, float], many: int) -> None:
    content, original, missing = made
    graph = Graph(content, threads=2, fewest=1)
    frame = numbers(many, missing)
    got, wanted = graph.predict_frame(frame), original.predict_frame(frame)
    assert graph.walks() and got.classes == wanted.classes
    np.testing.assert_allclose(got.values, wanted.values, rtol=1e-12)
    if wanted.probabilities:
        np.testing.assert_allclose(got.probabilities, wanted.probabilities, rtol=0, atol=1e-12)


def test_few_rows_go_through_the_graph(made: tuple[bytes, ServedModel, float]) -> None:
    graph = Graph(made[0])
    graph.predict_frame(numbers(5))
    assert graph._bulk and graph._bulk._making is None
    graph.predict_frame(numbers(500))
    assert graph._bulk._making


def test_rows_of_a_request_do_not_wait_for_the_walk(made: tuple[bytes, ServedModel, float]) -> None:
    graph, frame = Graph(made[0]), numbers(40)
    assert graph._bulk
    graph._bulk._make = lambda: None
    asked = frame.to_numpy().tolist()
    assert graph.predict(graph.columns, asked) == Graph(made[0], fewest=NEVER).predict(graph.columns, asked)


def test_without_numba_the_graph_answers_all(
    made: tuple[bytes, ServedModel, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "shared.models.forest_kernel", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    graph = Graph(made[0], fewest=1)
    frame = numbers(40)
    assert graph.predict_frame(frame) == Graph(made[0], fewest=NEVER).predict_frame(frame)
    assert not graph.walks() and caplog.text.count("numba is not installed") == 1


def test_trees_that_answer_otherwise_are_left_out_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compiling.forest_in

    def turned(model: object) -> Forest:
        forest = real(model)
        return replace(forest, values=forest.values[::-1].copy())

    monkeypatch.setattr(compiling, "forest_in", turned)
    frame = numbers(200)
    folder = save(RandomForestClassifier(5, random_state=1), frame, frame["a"] > 0, tmp_path / "model")
    proof, graph = compile_model(folder, numbers(100))
    assert proof.verified and not proof.bulk and "another class for" in proof.bulk_reason
    assert graph and not Graph(graph).walks()


def test_where_numba_is_not_installed_the_graph_is_kept_without_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    frame = numbers(200)
    folder = save(RandomForestClassifier(5, random_state=1), frame, frame["a"] > 0, tmp_path / "model")
    proof, graph = compile_model(folder, numbers(100))
    assert graph and proof.verified and "numba is not installed" in proof.bulk_reason
