"""A registered model in this process: typed rows in, predictions and probabilities out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.errors import InvalidRequest
from shared.models import openmp

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Predictions(NamedTuple):
    """``values`` one per row; ``probabilities`` one list per row in the order of ``classes``, None for regression."""

    values: list[Any]
    probabilities: list[list[float]] | None
    classes: list[Any] | None


class ServedModel:
    """An MLflow model, loaded once. Scikit-learn estimators answer themselves, all others through pyfunc.

    ``columns`` are the names of its signature in order, empty when it has none. Safe to use from
    several threads, as far as the model's own code is.
    """

    def __init__(self, folder: Path) -> None:
        """Load the MLflow model in ``folder``; raises whatever its own code raises when it cannot be loaded."""
        # The whole package first: two threads that begin with different parts of it fail in its circular imports.
        import mlflow
        import numpy as np
        import pandas as pd

        meta = mlflow.models.Model.load(str(folder))
        schema = meta.get_input_schema()
        named = schema is not None and schema.has_input_names() and not schema.is_tensor_spec()
        self.columns: tuple[str, ...] = tuple(schema.input_names()) if named else ()
        self._dtypes = [str(np.dtype(kind.to_pandas())) for kind in schema.input_types()] if named else []
        # One array for all is several times faster than one for each.
        self._doubles = pd.Index(self.columns) if self._dtypes and set(self._dtypes) == {"float64"} else None
        self._predict: Callable[[Any], tuple[Any, Any]]
        self.classes: list[Any] | None = None
        self._threads = threading.local()
        if "sklearn" in meta.flavors:
            import mlflow.sklearn

            estimator = mlflow.sklearn.load_model(str(folder))
            self._predict, self.classes = _sklearn_predict(estimator)
        else:
            import mlflow.pyfunc

            model = mlflow.pyfunc.load_model(str(folder))
            self._predict = lambda frame: (model.predict(frame), None)

    def predict(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Predictions:
        """Answer rows of JSON values (dates and timestamps as ISO 8601 text or Python's own types).

        ``columns`` may be in any order; None is a missing value. Raises InvalidRequest when a column
        of the signature is missing, a value does not fit its type, or the model refuses the rows.
        """
        return self._said(*self.answer(columns, rows))

    def answer(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray | None]:
        """As :meth:`predict`: predictions (rows) and probabilities (rows, classes), None for regression."""
        # Who asks by rows asks for a few, and not alone: a table of many is a frame.
        if not hasattr(self._threads, "alone"):
            openmp.alone()
            self._threads.alone = True
        return self.answer_frame(self._frame(columns, rows))

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """``frame`` with the signature's columns in order and, where no value is missing, of its exact types; as it is
        where there is no signature."""
        if not self.columns:
            return frame
        given = frame[list(self.columns)]
        wanted = {
            name: dtype
            for name, dtype in zip(self.columns, self._dtypes, strict=True)
            if dtype != "object" and not given[name].hasnans
        }
        return given.astype(wanted)

    def predict_frame(self, frame: pd.DataFrame) -> Predictions:
        """Answer a frame that has the signature's columns in order. Raises InvalidRequest when the model refuses it."""
        return self._said(*self.answer_frame(frame))

    def _said(self, values: np.ndarray, probabilities: np.ndarray | None) -> Predictions:
        return Predictions(values.tolist(), None if probabilities is None else probabilities.tolist(), self.classes)

    def answer_frame(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """As :meth:`predict_frame`: predictions (rows) and probabilities (rows, classes), None for regression."""
        import numpy as np

        try:
            values, probabilities = self._predict(frame)
        except Exception as error:
            raise InvalidRequest(f"the model refused the rows: {type(error).__name__}: {error}") from error
        values = np.asarray(values)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if len(values) != len(frame):
            raise InvalidRequest(f"the model gave {len(values)} predictions for {len(frame)} rows")
        for array in (values, probabilities):
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise InvalidRequest(f"the model gave no finite number for row {row}", [{"row": row}])
        return values, probabilities

    def _frame(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
        """The rows with the columns, order and types that the model was trained on.

        Text of all columns becomes one array, of which each column is a slice: pandas takes longer to
        make an array than to fill it.
        """
        import numpy as np
        import pandas as pd

        given = list(zip(*rows, strict=True))
        if not self.columns:
            return pd.DataFrame(dict(zip(columns, map(list, given), strict=True)))
        if tuple(columns) != self.columns:
            position = {name: i for i, name in enumerate(columns)}
            missing = [name for name in self.columns if name not in position]
            if missing:
                raise InvalidRequest(f"the model needs columns that are missing: {', '.join(missing)}")
            given = [given[position[name]] for name in self.columns]
        if self._doubles is not None:
            return pd.DataFrame(_doubles(given), columns=self._doubles, copy=False)
        texts = [values for values, dtype in zip(given, self._dtypes, strict=True) if dtype == "object"]
        size, taken = len(rows), 0
        text = pd.array([value for values in texts for value in values], dtype="str") if texts else None
        arrays: dict[str, Any] = {}
        for name, values, dtype in zip(self.columns, given, self._dtypes, strict=True):
            try:
                if text is not None and dtype == "object":
                    arrays[name] = text[taken : taken + size]
                    taken += size
                elif dtype.startswith("datetime64"):
                    arrays[name] = np.array(values, dtype="datetime64[us]")
                elif None not in values:
                    arrays[name] = np.array(values, dtype=dtype)
                else:
                    # What pandas itself reads from a file with nulls in such a column.
                    arrays[name] = np.array(values, dtype="object" if dtype == "bool" else "float64")
            except (TypeError, ValueError, OverflowError) as error:
                raise InvalidRequest(f"column {name} has a value that is no {dtype}: {error}") from error
        return pd.DataFrame(arrays, copy=False)


def _doubles(columns: Sequence[Sequence[Any]]) -> Any:
    """An array of doubles with a row per row. Raises InvalidRequest when a value is none."""
    import numpy as np

    try:
        return np.array(columns, dtype="float64").T
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"a value is no double: {error}") from error


def _sklearn_predict(estimator: Any) -> tuple[Callable[[Any], tuple[Any, Any]], list[Any] | None]:
    """How to ask ``estimator`` for predictions and probabilities with the least work, and its classes."""
    import numpy as np

    if not hasattr(estimator, "predict_proba") or isinstance(estimator.classes_, list):
        return lambda frame: (estimator.predict(frame), None), None
    prepare, final = _split(estimator)
    classes = np.asarray(final.classes_)

    def by_vote(frame: Any) -> tuple[Any, Any]:
        probabilities = final.predict_proba(prepare(frame))
        return classes.take(np.argmax(probabilities, axis=1)), probabilities

    def both(frame: Any) -> tuple[Any, Any]:
        prepared = prepare(frame)
        return final.predict(prepared), final.predict_proba(prepared)

    return by_vote if _predicts_by_vote(final) else both, classes.tolist()


def _split(estimator: Any) -> tuple[Callable[[Any], Any], Any]:
    """What a pipeline does before its last step, to do it once for both questions, and the last step."""
    import sklearn
    from sklearn.pipeline import Pipeline

    if type(estimator) is not Pipeline or len(estimator.steps) < 2 or sklearn.get_config()["enable_metadata_routing"]:
        return lambda frame: frame, estimator
    return estimator[:-1].transform, estimator.steps[-1][1]


def _predicts_by_vote(estimator: Any) -> bool:
    """True when ``predict`` is by its definition the class with the highest ``predict_proba``.

    That is so for forests and trees alone. Others decide on a score before it is turned into a
    probability, where rounding can make another class win a tie.
    """
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

    return type(estimator) in (
        RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier, ExtraTreeClassifier,
    )  # fmt: skip
