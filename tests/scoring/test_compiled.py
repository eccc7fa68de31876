"""Compiled models against their originals: on unseen rows, at every threshold, and beyond what is proven."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, linear_model, svm, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shared.errors import InvalidRequest
from shared.models import compile_model as compiling
from shared.models.compile_model import NotCompiled, compile_model
from shared.models.compiled_model import CompiledModel, Graph, NotCovered, load
from shared.models.served_model import ServedModel
from shared.settings import ROOT

NUMBERS = ["tenure", "monthly", "total"]
TEXTS = ["contract", "payment"]


def rows(many: int, seed: int) -> pd.DataFrame:
    """Text with nulls, doubles with nulls, whole numbers and booleans."""
    rng = np.random.default_rng(seed)
    total = rng.normal(900, 300, many)
    return pd.DataFrame(
        {
            "tenure": rng.integers(0, 72, many),
            "monthly": rng.uniform(20, 120, many).round(2),
            "total": np.where(rng.random(many) < 0.1, np.nan, total),
            "contract": pd.array(rng.choice(["month", "year", "deux années", None], many), dtype="str"),
            "payment": pd.array(rng.choice(["card", "check"], many), dtype="str"),
            "senior": rng.random(many) < 0.2,
        }
    )


def label(frame: pd.DataFrame, classes: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    score = frame["monthly"] / 40 - frame["tenure"] / 20 + (frame["contract"] == "month") + rng.normal(0, 1, len(frame))
    return np.array(["No", "Yes", "Later"])[np.digitize(score, [0.5, 2.0][: classes - 1])]


def mixed(final: Any, unknown: str = "ignore") -> Pipeline:
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            ("contract", OneHotEncoder(handle_unknown="ignore"), ["contract"]),
            ("payment", OneHotEncoder(handle_unknown=unknown, sparse_output=False), ["payment"]),
            ("senior", "passthrough", ["senior"]),
        ]
    )
    return make_pipeline(prepare, final)


def filled(final: Any) -> Pipeline:
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepare = ColumnTransformer([("numbers", SimpleImputer(), NUMBERS), ("texts", texts, TEXTS)])
    return make_pipeline(prepare, final)


def scaled(final: Any) -> Pipeline:
    return make_pipeline(StandardScaler(), final)


MODELS: dict[str, Any] = {
    "logistic regression": mixed(linear_model.LogisticRegression(max_iter=500)),
    "forest": mixed(ensemble.RandomForestClassifier(30, random_state=1)),
    "shallow forest": filled(ensemble.RandomForestClassifier(30, max_depth=4, random_state=1)),
    "gradient boosting": filled(ensemble.GradientBoostingClassifier(n_estimators=20, random_state=1)),
    "forest of numbers": ensemble.RandomForestClassifier(30, random_state=1),
    "extra trees": scaled(ensemble.ExtraTreesClassifier(20, random_state=1)),
    "tree": tree.DecisionTreeClassifier(random_state=1),
    "histogram boosting": ensemble.HistGradientBoostingClassifier(max_iter=20),
    "linear regression": scaled(linear_model.LinearRegression()),
    "forest regression": scaled(ensemble.RandomForestRegressor(10, random_state=1)),
    "boosting regression": ensemble.GradientBoostingRegressor(n_estimators=20, random_state=1),
    "histogram regression": ensemble.HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
}
CLASSES = {"forest": 2, "forest of numbers": 3, "histogram boosting": 3, "logistic regression": 3}
PLAIN = {"forest of numbers", "extra trees", "tree", "histogram boosting"} | {
    n for n in MODELS if "regression" in n
} - {"logistic regression"}


def save(model: Any, name: str, place: Path) -> Path:
    """``model`` trained, as MLflow keeps it."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    frame = inputs(name, rows(400, 1))
    wanted = frame["monthly"] * 3 + frame["tenure"] if "regression" in name and name in PLAIN else None
    model.fit(frame, label(rows(400, 1), CLASSES.get(name, 2)) if wanted is None else wanted)
    mlflow.sklearn.save_model(
        model, place, signature=infer_signature(frame), pip_requirements=[], serialization_format="cloudpickle"
    )
    return place


def inputs(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """What a model takes: plain ones take doubles, with nulls where they can have them."""
    if name not in PLAIN:
        return frame
    numbers = frame[NUMBERS].astype("float64")
    return numbers if name == "histogram boosting" else numbers.fillna(0.0)


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Graph, ServedModel]:
    """A model's name, its graph and itself."""
    name = request.param
    folder = save(MODELS[name], name, tmp_path_factory.mktemp("model") / "model")
    proof, graph = compile_model(folder, inputs(name, rows(200, 2)))
    assert proof.verified and graph, proof.reason
    assert proof.rows == 200 and proof.edge_rows > 50 and proof.max_difference < 1e-6
    assert proof.bulk is not name.startswith(("logistic", "linear")), proof.bulk_reason
    return name, Graph(graph), ServedModel(folder)


def as_json(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if value != value else value for value in row] for row in frame.astype("object").to_numpy().tolist()]


def assert_alike(graph: Graph, original: ServedModel, asked: list[list[Any]]) -> None:
    got, wanted = graph.predict(original.columns, asked), original.predict(original.columns, asked)
    if wanted.probabilities is None:
        assert got.values == pytest.approx(wanted.values, rel=1e-6)
    else:
        assert got.values == wanted.values
        np.testing.assert_allclose(got.probabilities, wanted.probabilities, rtol=0, atol=1e-6)
    assert got.classes == wanted.classes


def test_rows_that_neither_has_seen_are_answered_alike(both: tuple[str, Graph, ServedModel]) -> None:
    name, graph, original = both
    assert_alike(graph, original, as_json(inputs(name, rows(500, 3))))


def test_rows_and_frames_are_answered_alike(both: tuple[str, Graph, ServedModel]) -> None:
    name, graph, original = both
    frame = inputs(name, rows(50, 4))
    assert graph.covers(frame).all()
    assert graph.predict_frame(frame) == graph.predict(original.columns, as_json(frame))
    assert graph.predict_frame(original.typed(frame)) == graph.predict_frame(frame)


def test_columns_may_come_in_any_order(both: tuple[str, Graph, ServedModel]) -> None:
    name, graph, original = both
    frame = inputs(name, rows(3, 5))
    turned = frame[list(reversed(frame.columns))]
    assert graph.predict(list(turned.columns), as_json(turned)) == graph.predict(original.columns, as_json(frame))


def test_both_sides_of_every_threshold_are_told_apart_as_the_trees_do(tmp_path: Path) -> None:
    """Where a graph in single precision, and one in doubles throughout, come out on the other side."""
    model = ensemble.RandomForestClassifier(10, random_state=3)
    original = ServedModel(save(model, "forest of numbers", tmp_path / "model"))
    _, graph = compile_model(tmp_path / "model", inputs("forest of numbers", rows(100, 2)))
    assert graph
    asked = []
    base = as_json(inputs("forest of numbers", rows(1, 6)))[0]
    for grown in model.estimators_:
        for feature, threshold in zip(grown.tree_.feature, grown.tree_.threshold, strict=True):
            if feature >= 0:
                near = [threshold, math.nextafter(threshold, 1e9), math.nextafter(threshold, -1e9)]
                single = np.float32(threshold)
                near += [float(single), *(float(np.nextafter(single, np.float32(to))) for to in (1e9, -1e9))]
                asked += [[*base[:feature], float(value), *base[feature + 1 :]] for value in near]
    assert len(asked) > 3_000
    assert_alike(Graph(graph), original, asked)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tenure", None),
        ("tenure", 2**60),
        ("tenure", 1e300),
        ("monthly", 1e300),
        ("monthly", math.inf),
        ("monthly", "70"),
        ("monthly", "many"),
        ("contract", "nan"),
        ("contract", "month\0"),
        ("contract", 7),
        ("payment", None),
        ("payment", "never seen"),
        ("senior", None),
        ("senior", 3),
        ("senior", "yes"),
    ],
)
def test_what_was_not_proven_is_answered_or_refused_by_the_original(
    strict: tuple[CompiledModel, ServedModel], column: str, value: Any
) -> None:
    compiled, original = strict
    (row,) = as_json(rows(1, 7))
    row[original.columns.index(column)] = value

    def outcome(model: CompiledModel | ServedModel) -> object:
        try:
            return model.predict(original.columns, [row])
        except InvalidRequest as error:
            return str(error)

    assert str(outcome(compiled))[:60] == str(outcome(original))[:60]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> tuple[CompiledModel, ServedModel]:
    """A model that refuses a category that it has never seen."""
    folder = save(mixed(linear_model.LogisticRegression(), "error"), "strict", tmp_path_factory.mktemp("m") / "model")
    proof, graph = compile_model(folder, rows(100, 2))
    assert graph, proof.reason
    original = ServedModel(folder)
    return CompiledModel(Graph(graph), lambda: original), original


def test_the_original_is_loaded_only_for_what_was_not_proven(strict: tuple[CompiledModel, ServedModel]) -> None:
    _, original = strict
    loads: list[int] = []

    def loading() -> ServedModel:
        loads.append(1)
        return original

    folder_graph = strict[0]._graph
    compiled = CompiledModel(folder_graph, loading)
    asked = as_json(rows(5, 8))
    compiled.predict(original.columns, asked)
    assert not loads
    asked[0][original.columns.index("tenure")] = 2.5
    for _ in range(2):
        assert compiled.predict(original.columns, asked) == original.predict(original.columns, asked)
    assert len(loads) == 1


def test_a_frame_with_a_row_that_was_not_proven_is_answered_by_the_original(
    strict: tuple[CompiledModel, ServedModel],
) -> None:
    compiled, original = strict
    frame = rows(20, 9)
    frame.loc[3, "contract"] = "nan"
    assert not compiled._graph.covers(frame)[3] and compiled._graph.covers(frame).sum() == 19
    assert compiled.predict_frame(compiled.typed(frame)) == original.predict_frame(original.typed(frame))


def test_a_graph_that_answers_otherwise_is_not_served(tmp_path: Path) -> None:
    first = save(ensemble.RandomForestClassifier(5, random_state=1), "tree", tmp_path / "first")
    second = save(ensemble.RandomForestClassifier(5, random_state=2), "tree", tmp_path / "second")
    frame = inputs("tree", rows(200, 2))
    _, graph = compile_model(first, frame)
    assert graph
    with pytest.raises(NotCompiled, match=r"predicts another class for \d+ of 200 rows: held-out rows 0 to 199"):
        compiling._prove(graph, ServedModel(second), frame)


def test_why_a_model_is_not_compiled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(linear_model.RidgeClassifier(), "tree", tmp_path / "ridge")
    frame = inputs("tree", rows(50, 2))
    proof, graph = compile_model(folder, frame)
    assert graph is None and not proof.verified
    assert proof.sentence() == (
        "served as trained, not compiled: a classifier is compiled if it has one output with probabilities"
    )
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    proof, _ = compile_model(folder, frame)
    assert "skl2onnx is not installed where the model is evaluated" in proof.reason


def test_a_classifier_that_decides_by_another_score_than_its_probabilities_is_not_compiled(tmp_path: Path) -> None:
    folder = save(scaled(svm.SVC(probability=True)), "tree", tmp_path / "svc")
    proof, graph = compile_model(folder, inputs("tree", rows(50, 2)))
    assert graph is None
    assert "SVC is not known to answer the class of the highest probability" in proof.reason


def test_a_graph_that_cannot_be_loaded_leaves_the_original_to_answer(tmp_path: Path) -> None:
    folder = save(tree.DecisionTreeClassifier(), "tree", tmp_path / "model")
    (tmp_path / "compiled.onnx").write_bytes(b"half a graph")
    assert isinstance(load(folder, tmp_path / "compiled.onnx"), ServedModel)


def test_a_machine_without_the_runtime_serves_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tree.DecisionTreeClassifier(), "tree", tmp_path / "model")
    proof, graph = compile_model(folder, inputs("tree", rows(50, 2)))
    assert graph, proof.reason
    (tmp_path / "compiled.onnx").write_bytes(graph)
    assert isinstance(load(folder, tmp_path / "compiled.onnx"), CompiledModel)
    assert isinstance(load(folder, tmp_path / "none.onnx"), ServedModel)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert isinstance(load(folder, tmp_path / "compiled.onnx"), ServedModel)


def test_a_graph_refuses_columns_that_are_missing(strict: tuple[CompiledModel, ServedModel]) -> None:
    with pytest.raises(NotCovered):
        strict[0]._graph.predict(["tenure"], [[1]])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_the_runtime_is_told_not_to_report_before_it_is_imported() -> None:
    """It calls its maker seconds after it has loaded a graph; the stand-in of Azure refuses that as an unknown host."""
    program = (
        "import builtins, os, sys; real = builtins.__import__\n"
        "def spy(name, *rest):\n"
        "    if name.partition('.')[0] == 'onnxruntime': assert os.environ['ORT_DISABLE_TELEMETRY'] == '1', name\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = spy\n"
        "from shared.models import compile_model, compiled_model\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "compiled_model.runtime(); import skl2onnx\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=60)


def test_a_model_that_refuses_what_its_graph_answers_is_not_compiled(tmp_path: Path) -> None:
    folder = save(ensemble.RandomForestClassifier(5, random_state=1), "tree", tmp_path / "model")
    _, graph = compile_model(folder, inputs("tree", rows(50, 2)))
    assert graph

    class Timid(ServedModel):
        def answer_frame(self, frame: pd.DataFrame) -> Any:
            if (frame["total"] == -3e38).any():
                raise InvalidRequest("too small")
            return super().answer_frame(frame)

    with pytest.raises(NotCompiled, match=r"the model refuses total = -3e\+38, which its graph answers \(too small\)"):
        compiling._prove(graph, Timid(folder), inputs("tree", rows(50, 2)))
