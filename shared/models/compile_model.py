"""Compiling a model: its ONNX graph, kept only if it is proven to answer as the model does."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.domain.compiled import TOLERANCE, Compiled
from shared.errors import InvalidRequest
from shared.models.compiled_model import FOREST, LIMITS, METADATA, Graph, NotCovered, runtime
from shared.models.forest_in_graph import NoForest, forest_in
from shared.models.served_model import Predictions, ServedModel

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.types import Schema

MOST_ROWS = 50_000
"""Held-out rows that are compared; more would prove no more."""
CHUNK = 5_000
EDGE_BASES = 3
"""Held-out rows of which each column in turn is given every edge value."""

BY_PROBABILITY = frozenset(
    {
        "BaggingClassifier", "BernoulliNB", "CalibratedClassifierCV", "DecisionTreeClassifier", "ExtraTreeClassifier",
        "ExtraTreesClassifier", "GaussianNB", "GradientBoostingClassifier", "HistGradientBoostingClassifier",
        "LogisticRegression", "MLPClassifier", "MultinomialNB", "RandomForestClassifier",
    }
)  # fmt: skip
"""Classifiers whose ``predict`` is the class of the highest ``predict_proba``. Others decide by a score of their own:
an SVC with probabilities answers another class than its likeliest on rows that a proof need not have met."""

_PACKAGES = ("skl2onnx", "onnx", "onnxruntime", "scikit-learn", "numpy", "numba")


class NotCompiled(Exception):
    """There is no graph that may answer in place of the model; the text says why."""


class _Case(NamedTuple):
    """Rows, what they are, and what the model says of them."""

    asked: str
    rows: Any
    expected: Predictions


class _Proof(NamedTuple):
    """How many held-out and made rows were answered alike, the largest difference, and all of them."""

    rows: int
    edge_rows: int
    max_difference: float
    cases: list[_Case]


class _Edge(NamedTuple):
    """Made rows, what is odd about them, and what the graph answered."""

    asked: str
    cases: list[list[Any]]
    answer: Predictions


def compile_model(folder: Path, rows: pd.DataFrame) -> tuple[Compiled, bytes | None]:
    """The proof for the MLflow model in ``folder`` on held-out ``rows``, and its graph if it is verified.

    Raises nothing: whatever goes wrong is the reason why the model is served as it is.
    """
    import numpy as np

    versions = _versions()
    try:
        graph = _convert(folder)
        # Edge values are infinite on purpose: numpy's warnings would be the last lines of the job's log.
        with np.errstate(invalid="ignore"):
            proof = _prove(graph, ServedModel(folder), rows)
        graph, bulk, bulk_reason = _with_forest(graph, proof.cases)
    except NotCompiled as error:
        return Compiled(verified=False, reason=str(error), versions=versions), None
    except Exception as error:  # noqa: BLE001 - a model and its conversion run code of others, which may raise anything
        traceback.print_exc()
        return Compiled(verified=False, reason=f"{type(error).__name__}: {error}", versions=versions), None
    compiled = Compiled(
        verified=True,
        rows=proof.rows,
        edge_rows=proof.edge_rows,
        max_difference=proof.max_difference,
        bulk=bulk,
        bulk_reason=bulk_reason,
        versions=versions,
    )
    return compiled, graph


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _convert(folder: Path) -> bytes:
    """The graph of a scikit-learn model with a signature, its metadata with it."""
    from mlflow.models import Model

    meta = Model.load(str(folder))
    schema = meta.get_input_schema()
    if "sklearn" not in meta.flavors:
        raise NotCompiled("only scikit-learn models are compiled")
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        raise NotCompiled("the model has no signature with named columns")
    try:
        runtime()
        import skl2onnx  # noqa: F401 - what it cannot convert is another reason than that it is not there
    except ImportError as error:
        raise NotCompiled(
            f"{error.name} is not installed where the model is evaluated: add it to its environment.yml"
        ) from error
    import mlflow.sklearn
    from sklearn.base import is_classifier, is_regressor

    for column in schema:
        if column.type.name not in ("string", *LIMITS):
            raise NotCompiled(f"column {column.name} is a {column.type.name}, which is not compiled")
    estimator = mlflow.sklearn.load_model(str(folder))
    classes = None
    if is_classifier(estimator):
        if not hasattr(estimator, "predict_proba") or isinstance(estimator.classes_, list):
            raise NotCompiled("a classifier is compiled if it has one output with probabilities")
        decider = _last_step(estimator)
        if type(decider).__name__ not in BY_PROBABILITY:
            raise NotCompiled(
                f"{type(decider).__name__} is not known to answer the class of the highest probability, as a graph does"
            )
        classes = estimator.classes_.tolist()
    elif not is_regressor(estimator):
        raise NotCompiled(f"{type(estimator).__name__} is neither a classifier nor a regressor")
    return _graph(estimator, schema, classes)


def _graph(estimator: Any, schema: Schema, classes: list[Any] | None) -> bytes:
    """The graph with its metadata. It takes one matrix of all numbers, unless there is text or columns go by names."""
    from onnx import helper
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    from shared.models.exact_onnx import OPSETS, converters

    functions, shapes = converters()

    def converted(inputs: list[tuple[str, Any]]) -> Any:
        return convert_sklearn(
            estimator,
            initial_types=inputs,
            options={id(estimator): {"zipmap": False}} if classes else None,
            target_opset=OPSETS,
            custom_conversion_functions=functions,
            custom_shape_calculators=shapes,
        )

    kinds = {column.name: column.type.name for column in schema}
    texts = "string" in kinds.values()
    matrix = not texts and not _goes_by_names(estimator)
    if matrix:
        model = converted([("rows", DoubleTensorType([None, len(kinds)]))])
    else:
        model = converted(
            [
                (name, (StringTensorType if kind == "string" else DoubleTensorType)([None, 1]))
                for name, kind in kinds.items()
            ]
        )
    # Of a classifier's outputs the probabilities are enough: the class is the likeliest.
    del model.graph.output[:-1]
    columns = [{"name": c.name, "type": c.type.name, "required": c.required} for c in schema]
    known = {"columns": columns, "classes": classes, "matrix": matrix}
    helper.set_model_props(model, {METADATA: json.dumps(known)})
    return model.SerializeToString()


def _last_step(estimator: Any) -> Any:
    return _last_step(estimator.steps[-1][1]) if hasattr(estimator, "steps") else estimator


def _goes_by_names(estimator: Any) -> bool:
    from sklearn.compose import ColumnTransformer

    steps = getattr(estimator, "steps", [("", estimator)])
    return any(isinstance(step, ColumnTransformer) or hasattr(step, "steps") for _, step in steps)


def _with_forest(content: bytes, cases: list[_Case]) -> tuple[bytes, bool, str]:
    """The graph with its trees, if a walk through them answers all ``cases`` alike; whether it does, or why not."""
    import onnx

    try:
        import numba  # noqa: F401 - without it there is no walk, which is no fault
    except ImportError:
        return content, False, "numba is not installed where the model is evaluated"
    model = onnx.load_from_string(content)
    try:
        forest = forest_in(onnx.load_from_string(content))
        entry = model.metadata_props.add()
        entry.key, entry.value = FOREST, forest.packed()
        walked: bytes = model.SerializeToString()
        graph = Graph(walked, fewest=1)
        if not graph.walks():
            raise NoForest("the walk through its trees cannot be made ready")
        for case in cases:
            framed = not isinstance(case.rows, list)
            answer = graph.predict_frame(case.rows) if framed else graph.predict(graph.columns, case.rows)
            _difference(answer, case.expected, case.asked)
    except (NoForest, NotCompiled) as error:
        return content, False, str(error)
    except NotCovered:
        return content, False, "the walk through its trees does not answer all that its graph does"
    return walked, True, ""


def _prove(content: bytes, original: ServedModel, rows: pd.DataFrame) -> _Proof:
    """Ask both all held-out and some made rows. Raises NotCompiled."""
    graph = Graph(content)
    frame = original.typed(rows.head(MOST_ROWS))
    covered = graph.covers(frame)
    if covered.sum() * 2 <= len(frame):
        raise NotCompiled(f"only {covered.sum():,} of {len(frame):,} held-out rows have values that are covered")
    frame = frame[covered]
    checked, made, largest = 0, 0, 0.0
    cases: list[_Case] = []
    for begin in range(0, len(frame), CHUNK):
        chunk = frame.iloc[begin : begin + CHUNK]
        asked = f"held-out rows {begin} to {begin + len(chunk) - 1}"
        with suppress(NotCovered):
            answer = graph.predict_frame(chunk)
            cases.append(_Case(asked, chunk, original.predict_frame(chunk)))
            largest = max(largest, _difference(answer, cases[-1].expected, asked))
            checked += len(chunk)
    if not checked:
        raise NotCompiled("there is no part of the held-out rows that its graph can answer")
    edges = list(_answered_edges(graph, frame))
    for (asked, edge_rows, answer), expected in zip(edges, _expected(original, edges), strict=True):
        largest = max(largest, _difference(answer, expected, asked))
        made += len(edge_rows)
        cases.append(_Case(asked, edge_rows, expected))
    return _Proof(checked, made, largest, cases)


def _answered_edges(graph: Graph, frame: pd.DataFrame) -> Iterator[_Edge]:
    """The made rows that the graph answers."""
    for column, value, cases in _edges(frame):
        with suppress(NotCovered):
            yield _Edge(f"{column} = {value!r}", cases, graph.predict(graph.columns, cases))


def _expected(original: ServedModel, edges: list[_Edge]) -> list[Predictions]:
    """What the model says of them, asked all at once, as a call costs much. Raises NotCompiled if it refuses any."""
    try:
        said = original.predict(original.columns, [row for edge in edges for row in edge.cases])
    except InvalidRequest:
        return [_said(original, edge) for edge in edges]
    found, begin = [], 0
    for edge in edges:
        part = slice(begin, begin + len(edge.cases))
        probabilities = None if said.probabilities is None else said.probabilities[part]
        found.append(Predictions(said.values[part], probabilities, said.classes))
        begin = part.stop
    return found


def _said(original: ServedModel, edge: _Edge) -> Predictions:
    try:
        return original.predict(original.columns, edge.cases)
    except InvalidRequest as error:
        raise NotCompiled(f"the model refuses {edge.asked}, which its graph answers ({error})") from error


def _difference(answer: Predictions, expected: Predictions, asked: str) -> float:
    """The largest difference between probabilities, or numbers relative to their size. Raises NotCompiled."""
    import numpy as np

    if expected.probabilities is None:
        got, wanted = np.array(answer.values), np.array(expected.values, dtype="float64")
        found = np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))
    else:
        found = np.abs(np.array(answer.probabilities) - np.array(expected.probabilities))
        other = sum(a != b for a, b in zip(answer.values, expected.values, strict=True))
        if other or answer.classes != expected.classes:
            raise NotCompiled(f"the graph predicts another class for {other} of {len(expected.values)} rows: {asked}")
    largest = float(found.max(initial=0.0))
    if largest > TOLERANCE:
        raise NotCompiled(f"the graph is off by {largest:.1e}: {asked}")
    return largest


def _edges(frame: pd.DataFrame) -> Iterator[tuple[str, Any, list[list[Any]]]]:
    """Rows as of JSON, in which one column has an edge value: the column, the value and the rows."""
    bases = [[_json(value) for value in row] for row in _spread(frame).astype("object").to_numpy().tolist()]
    for place, column in enumerate(frame.columns):
        values = frame[column]
        made: list[Any] = [None]
        if values.dtype == "bool":
            made += [True, False]
        elif values.dtype.kind in "iuf":
            low, high = float(values.min()), float(values.max())
            made += [0, -1, 1, low, high, low - 1, high + 1, -1e6, 1e6, int(high) if high == high else 0]
            if values.dtype.kind == "f":
                made += [0.1, 1e-300, -3e38, 3e38, (low + high) / 2, 1 / 3]
            made = [value if value is None or values.dtype.kind == "f" else int(value) for value in made]
        else:
            made += ["", " ", "a value never seen", "naïve Ω 東京", str(values.mode().iloc[0]).upper()]
        for value in made:
            if value == value:
                yield column, value, [[*row[:place], value, *row[place + 1 :]] for row in bases]


def _spread(frame: pd.DataFrame) -> pd.DataFrame:
    """A few rows from everywhere."""
    return frame.iloc[:: max(1, len(frame) // EDGE_BASES)].head(EDGE_BASES)


def _json(value: Any) -> Any:
    return None if value is None or value != value else value
