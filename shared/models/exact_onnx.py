"""Converters to ONNX that compute as scikit-learn does, for estimators that skl2onnx converts in single precision.

A tree compares the single-precision form of a value with a double threshold, all else is computed in
doubles. A graph in single precision comes to the other side of some thresholds, and so does one that is
in doubles throughout. Here columns come in as doubles, are rounded where scikit-learn rounds them, and are
compared and summed as doubles.

Each converter has the signature that skl2onnx asks for. It raises NotImplementedError for what it does not cover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.domain.compiled import MISSING_TEXT

if TYPE_CHECKING:
    import numpy as np

OPSETS = {"": 21, "ai.onnx.ml": 3}

Converter = Callable[[Any, Any, Any], None]


def converters() -> tuple[dict[type, Converter], dict[type, Callable[[Any], None]]]:
    """The conversion functions and the shape calculators, by the class of the estimator."""
    from sklearn import ensemble, linear_model, tree
    from sklearn.impute import SimpleImputer

    classifiers: dict[type, Converter] = {
        ensemble.RandomForestClassifier: _forest_classifier,
        ensemble.ExtraTreesClassifier: _forest_classifier,
        tree.DecisionTreeClassifier: _forest_classifier,
        tree.ExtraTreeClassifier: _forest_classifier,
        ensemble.GradientBoostingClassifier: _boosting_classifier,
        ensemble.HistGradientBoostingClassifier: _boosting_classifier,
        linear_model.LogisticRegression: _logistic_regression,
    }
    regressors: dict[type, Converter] = {
        ensemble.RandomForestRegressor: _forest_regressor,
        ensemble.ExtraTreesRegressor: _forest_regressor,
        tree.DecisionTreeRegressor: _forest_regressor,
        tree.ExtraTreeRegressor: _forest_regressor,
        ensemble.GradientBoostingRegressor: _boosting_regressor,
        ensemble.HistGradientBoostingRegressor: _boosting_regressor,
        linear_model.LinearRegression: _linear_regression,
        linear_model.Ridge: _linear_regression,
        linear_model.Lasso: _linear_regression,
        linear_model.ElasticNet: _linear_regression,
    }
    shapes: dict[type, Callable[[Any], None]] = {
        **dict.fromkeys(classifiers, _classifier_shape),
        **dict.fromkeys(regressors, _regressor_shape),
        SimpleImputer: _imputer_shape,
    }
    return {**classifiers, **regressors, SimpleImputer: _imputer}, shapes


def _classifier_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([rows])
    operator.outputs[1].type = DoubleTensorType([rows, len(operator.raw_operator.classes_)])


def _regressor_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([operator.inputs[0].get_first_dimension(), 1])


def _imputer_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    kind = StringTensorType if isinstance(operator.inputs[0].type, StringTensorType) else DoubleTensorType
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension(), len(operator.raw_operator.statistics_)])


class _Graph:
    """Adds nodes for one operator, each under a name of its own."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope = scope
        self._operator = operator
        self._container = container
        self.outputs = [variable.full_name for variable in operator.outputs]

    def node(self, kind: str, *inputs: str, into: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its result, which is ``into`` or a new one."""
        result = into or self._scope.get_unique_variable_name(kind.lower())
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(
            kind, list(inputs), [result], op_domain=domain, op_version=OPSETS[domain], name=name, **attributes
        )
        return result

    def constant(self, values: Any) -> str:
        """Add doubles, whole numbers or text, and return their name."""
        import numpy as np
        from onnx import TensorProto

        array = np.asarray(values)
        kind = {"f": TensorProto.DOUBLE, "i": TensorProto.INT64}.get(array.dtype.kind, TensorProto.STRING)
        content = array.ravel().tolist()
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(
            name, kind, list(array.shape), [t.encode() for t in content] if kind == TensorProto.STRING else content
        )
        return name

    def inputs(self) -> str:
        """What goes into the operator, as one matrix of doubles."""
        doubles = [self.cast(variable.full_name, "DOUBLE") for variable in self._operator.inputs]
        return doubles[0] if len(doubles) == 1 else self.node("Concat", *doubles, axis=1)

    def cast(self, value: str, kind: str, into: str = "") -> str:
        """``value`` as FLOAT or DOUBLE."""
        from onnx import TensorProto

        return self.node("Cast", value, into=into, to=TensorProto.DataType.Value(kind))

    def give_probabilities(self, probabilities: str) -> None:
        """End a classifier: the class is the likeliest one, the first of several."""
        self.node("Identity", probabilities, into=self.outputs[1])
        self.node("ArgMax", probabilities, into=self.outputs[0], axis=1, keepdims=0)


class _Tree(NamedTuple):
    """Nodes as arrays; a leaf is its own left child. ``values`` (nodes, targets) count where a row ends."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    values: np.ndarray


def _grown(tree: Any, values: np.ndarray) -> _Tree:
    """A tree of scikit-learn's forests and gradient boosting."""
    import numpy as np

    leaf = tree.children_left < 0
    own = np.arange(tree.node_count)
    return _Tree(
        np.where(leaf, 0, tree.feature),
        np.where(leaf, 0.0, tree.threshold),
        np.where(leaf, own, tree.children_left),
        np.where(leaf, own, tree.children_right),
        tree.missing_go_to_left.astype(bool),
        values,
    )


def _hist_grown(nodes: np.ndarray, column: int, columns: int) -> _Tree:
    """A tree of scikit-learn's histogram boosting, whose values are for ``column`` of the targets."""
    import numpy as np

    if nodes["is_categorical"].any():
        raise NotImplementedError("histogram boosting with categorical features")
    leaf = nodes["is_leaf"].astype(bool)
    own = np.arange(len(nodes))
    return _Tree(
        np.where(leaf, 0, nodes["feature_idx"]),
        np.where(leaf, 0.0, nodes["num_threshold"]),
        np.where(leaf, own, nodes["left"]),
        np.where(leaf, own, nodes["right"]),
        nodes["missing_go_to_left"].astype(bool),
        _placed(nodes["value"], column, columns),
    )


def _placed(values: np.ndarray, column: int, columns: int) -> np.ndarray:
    import numpy as np

    placed = np.zeros((len(values), columns))
    placed[:, column] = values
    return placed


def _sum(graph: _Graph, inputs: str, trees: Sequence[_Tree], base: Iterable[float], into: str = "") -> str:
    """The values of the leaves that a row comes to, summed over all trees, with ``base`` added to them."""
    import numpy as np
    from onnx import TensorProto, helper

    sizes = [len(tree.feature) for tree in trees]
    numbers = np.repeat(np.arange(len(trees)), sizes)
    ids = np.concatenate([np.arange(size) for size in sizes])
    left, right = (np.concatenate([getattr(tree, side) for tree in trees]) for side in ("left", "right"))
    values = np.concatenate([tree.values for tree in trees])
    leaf = left == ids
    rows, targets = np.nonzero(leaf[:, None] & np.ones(values.shape, dtype=bool))

    def doubles(name: str, numbers: Any) -> Any:
        array = np.asarray(numbers, dtype="float64")
        return helper.make_tensor(name, TensorProto.DOUBLE, array.shape, array)

    base = np.asarray(list(base), dtype="float64")
    summed = graph.node(
        "TreeEnsembleRegressor",
        inputs,
        domain="ai.onnx.ml",
        n_targets=values.shape[1],
        nodes_treeids=numbers.tolist(),
        nodes_nodeids=ids.tolist(),
        nodes_featureids=np.concatenate([tree.feature for tree in trees]).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values_as_tensor=doubles("thresholds", np.concatenate([tree.threshold for tree in trees])),
        nodes_truenodeids=np.where(leaf, 0, left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, right).tolist(),
        nodes_missing_value_tracks_true=np.concatenate([tree.missing_left for tree in trees]).astype(int).tolist(),
        target_treeids=numbers[rows].tolist(),
        target_nodeids=ids[rows].tolist(),
        target_ids=targets.tolist(),
        target_weights_as_tensor=doubles("weights", values[rows, targets]),
        base_values_as_tensor=doubles("base", base),
    )
    return graph.cast(summed, "DOUBLE", into)


def _rounded(graph: _Graph) -> str:
    """The inputs as scikit-learn's trees see them: in single precision, to be compared as doubles."""
    return graph.cast(graph.cast(graph.inputs(), "FLOAT"), "DOUBLE")


def _trees_of(estimator: Any) -> list[Any]:
    return [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]


def _forest_classifier(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    if estimator.n_outputs_ != 1:
        raise NotImplementedError("several outputs")
    trees, classes = _trees_of(estimator), len(estimator.classes_)
    count = float(len(trees))
    if classes != 2:
        grown = [_grown(tree, tree.value[:, 0, :]) for tree in trees]
        summed = _sum(graph, _rounded(graph), grown, [0.0] * classes)
        return graph.give_probabilities(graph.node("Div", summed, graph.constant([count])))
    # A sum comes out in single precision. How far it is from a tie keeps its sign and its digits, whatever it is.
    grown = [_grown(tree, tree.value[:, 0, 1:]) for tree in trees]
    from_tie = graph.node("Div", _sum(graph, _rounded(graph), grown, [-count / 2]), graph.constant([count]))
    half = graph.constant([0.5])
    both = (graph.node("Sub", half, from_tie), graph.node("Add", half, from_tie))
    graph.give_probabilities(graph.node("Concat", *both, axis=1))


def _forest_regressor(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    if estimator.n_outputs_ != 1:
        raise NotImplementedError("several outputs")
    trees = _trees_of(estimator)
    summed = _sum(graph, _rounded(graph), [_grown(tree, tree.value[:, 0, :]) for tree in trees], [0.0])
    graph.node("Div", summed, graph.constant([float(len(trees))]), into=graph.outputs[0])


def _boosted(graph: _Graph, estimator: Any, into: str = "") -> str:
    """The score of gradient boosting of either kind, one column a class, or one."""
    import numpy as np

    if hasattr(estimator, "_predictors"):
        columns = len(estimator._predictors[0])
        trees = [
            _hist_grown(predictor.nodes, column, columns)
            for stage in estimator._predictors
            for column, predictor in enumerate(stage)
        ]
        return _sum(graph, graph.inputs(), trees, np.ravel(estimator._baseline_prediction), into)
    if type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor", "str"):
        raise NotImplementedError(f"gradient boosting that begins with {type(estimator.init_).__name__}")
    columns = estimator.estimators_.shape[1]
    trees = [
        _grown(tree.tree_, _placed(tree.tree_.value[:, 0, 0] * estimator.learning_rate, column, columns))
        for stage in estimator.estimators_
        for column, tree in enumerate(stage)
    ]
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype="float32"))
    return _sum(graph, _rounded(graph), trees, np.ravel(start), into)


def _boosting_classifier(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    loss = type(estimator._loss).__name__
    if loss not in ("HalfBinomialLoss", "HalfMultinomialLoss"):
        raise NotImplementedError(f"gradient boosting with the loss {loss}")
    graph.give_probabilities(_likelihood(graph, _boosted(graph, estimator), binary=loss == "HalfBinomialLoss"))


def _boosting_regressor(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    link = type(estimator._loss.link).__name__
    if link == "IdentityLink":
        _boosted(graph, estimator, graph.outputs[0])
    elif link == "LogLink":
        graph.node("Exp", _boosted(graph, estimator), into=graph.outputs[0])
    else:
        raise NotImplementedError(f"gradient boosting with the link {link}")


def _logistic_regression(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    binary = len(estimator.classes_) == 2
    if not binary and estimator.solver == "liblinear":
        raise NotImplementedError("logistic regression of one class against the rest")
    graph.give_probabilities(_likelihood(graph, _linear(graph, estimator), binary=binary))


def _linear_regression(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    if estimator.coef_.ndim != 1:
        raise NotImplementedError("several outputs")
    _linear(graph, estimator, graph.outputs[0])


def _linear(graph: _Graph, estimator: Any, into: str = "") -> str:
    import numpy as np

    coefficients = np.atleast_2d(estimator.coef_).astype("float64").T
    intercepts = np.ravel(estimator.intercept_).astype("float64")
    product = graph.node("MatMul", graph.inputs(), graph.constant(coefficients))
    return graph.node("Add", product, graph.constant(intercepts), into=into)


def _likelihood(graph: _Graph, scores: str, *, binary: bool) -> str:
    """Probabilities of all classes from the score of the second one, or of each."""
    if not binary:
        return graph.node("Softmax", scores, axis=1)
    # Each from the score itself: a difference to 1 would lose the digits of a small one.
    negative = graph.node("Neg", scores)
    return graph.node("Concat", graph.node("Sigmoid", negative), graph.node("Sigmoid", scores), axis=1)


def _imputer(scope: Any, operator: Any, container: Any) -> None:
    """Missing values are NaN in numbers, and a name in text."""
    from skl2onnx.common.data_types import StringTensorType

    estimator, graph = operator.raw_operator, _Graph(scope, operator, container)
    if estimator.missing_values == estimator.missing_values and estimator.missing_values is not None:
        raise NotImplementedError(f"an imputer for {estimator.missing_values!r} in place of missing values")
    if estimator.add_indicator:
        raise NotImplementedError("an imputer with an indicator")
    if isinstance(operator.inputs[0].type, StringTensorType):
        names = [variable.full_name for variable in operator.inputs]
        given = names[0] if len(names) == 1 else graph.node("Concat", *names, axis=1)
        missing = graph.node("Equal", given, graph.constant([MISSING_TEXT]))
        fill = graph.constant([str(value) for value in estimator.statistics_])
    else:
        given = graph.inputs()
        missing = graph.node("IsNaN", given)
        fill = graph.constant(estimator.statistics_.astype("float64"))
        if (estimator.statistics_ != estimator.statistics_).any():
            raise NotImplementedError("an imputer of a column without any value")
    graph.node("Where", missing, fill, given, into=graph.outputs[0])
