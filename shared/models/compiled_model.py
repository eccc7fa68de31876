"""A model version in its compiled form: the same answers as the original, without the libraries that trained it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.domain.compiled import MISSING_TEXT
from shared.models.forest import FEWEST, Forest, Walk
from shared.models.served_model import Predictions, ServedModel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LIMITS = {"double": 3.4028234663852886e38, "long": float(2**53), "integer": float(2**31), "boolean": 1.0}
"""Largest sizes that are answered: what single precision holds, where trees round to it, and what is exact in a double.
"""
METADATA, FOREST = "landfall", "landfall.forest"

_logger = logging.getLogger(__name__)


def runtime() -> Any:
    """The package onnxruntime, silenced: since 1.29 it reports every graph that it loads to its maker unless it is
    told not to before it is imported.

    Raises ImportError where it is not installed.
    """
    from shared.settings import export

    export({"ORT_DISABLE_TELEMETRY": "1"})
    import onnxruntime

    return onnxruntime


class NotCovered(Exception):
    """The rows hold something that the compiled form was not proven for."""


class CompiledModel:
    """Answers with the graph what it was proven for, and all else with the original, which is loaded then.

    So it never answers what the original would refuse. Safe to use from several threads.
    """

    def __init__(self, graph: Graph, original: Callable[[], ServedModel]) -> None:
        self._graph = graph
        self._load = original
        self._loading = threading.Lock()
        self._loaded: ServedModel | None = None
        self.columns = graph.columns
        self.classes = graph.classes

    def predict(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Predictions:
        """See :meth:`ServedModel.predict`."""
        try:
            return self._graph.predict(columns, rows)
        except NotCovered:
            return self._original().predict(columns, rows)

    def answer(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`ServedModel.answer`."""
        try:
            return self._graph.answer(columns, rows)
        except NotCovered:
            return self._original().answer(columns, rows)

    def predict_frame(self, frame: pd.DataFrame) -> Predictions:
        """See :meth:`ServedModel.predict_frame`; the frame need not be typed."""
        try:
            return self._graph.predict_frame(frame)
        except NotCovered:
            original = self._original()
            return original.predict_frame(original.typed(frame))

    def answer_frame(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`ServedModel.answer_frame`; the frame need not be typed."""
        try:
            return self._graph.answer_frame(frame)
        except NotCovered:
            original = self._original()
            return original.answer_frame(original.typed(frame))

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """See :meth:`ServedModel.typed`; the graph gives its columns their types itself."""
        return frame[list(self.columns)]

    def _original(self) -> ServedModel:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded


class Graph:
    """An ONNX graph in this process. Its metadata tell the columns with their MLflow types, and the classes; and its
    trees, if a walk through them was proven, too: many rows go that way.
    """

    def __init__(self, content: bytes, *, threads: int = 1, fewest: int = FEWEST) -> None:
        """Load a graph. ``threads``: how many work on one call, of which a call with few rows makes no use.

        ``fewest``: rows from which on a walk through the trees answers. It is made ready when they first come: in
        the background where they come by rows, and the graph answers meanwhile; a frame waits for it.
        Raises ImportError where onnxruntime is not installed.
        """
        import numpy as np

        onnxruntime = runtime()

        def session(content: bytes) -> Any:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        self._session = session(content)
        # What it cannot answer is an error to the runtime, and everyday to us: the original answers.
        self._quietly = onnxruntime.RunOptions()
        self._quietly.log_severity_level = 4
        metadata = self._session.get_modelmeta().custom_metadata_map
        known = json.loads(metadata[METADATA])
        self._bulk = _Bulk(metadata[FOREST], session, threads) if FOREST in metadata else None
        self._fewest = fewest
        self.classes: list[Any] | None = known["classes"]
        self._labels = None if self.classes is None else np.asarray(self.classes)
        self.columns: tuple[str, ...] = tuple(column["name"] for column in known["columns"])
        kinds = [column["type"] for column in known["columns"]]
        optional = [not column["required"] for column in known["columns"]]
        self._outputs = [self._session.get_outputs()[-1].name]
        # A graph with one matrix of all numbers takes its rows as they are.
        self._matrix = self._session.get_inputs()[0].name if known["matrix"] else ""
        self._texts = [i for i, kind in enumerate(kinds) if kind == "string"]
        self._numbers = [i for i, kind in enumerate(kinds) if kind != "string"]
        self._limits = np.array([[LIMITS[kinds[i]]] for i in self._numbers])
        self._nullable = np.array([[optional[i] and kinds[i] != "boolean"] for i in self._numbers])
        self._whole = [place for place, i in enumerate(self._numbers) if kinds[i] in ("long", "integer", "boolean")]
        self._needed_texts = [i for i in self._texts if not optional[i]]

    def predict(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Predictions:
        """Answer rows of JSON values. Raises NotCovered."""
        return self._said(self._asked(columns, rows))

    def answer(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray | None]:
        """As :meth:`predict`: predictions (rows) and probabilities (rows, classes), None for regression."""
        return self._arrays(self._asked(columns, rows))

    def _asked(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> np.ndarray:
        import numpy as np

        if tuple(columns) != self.columns:
            place = {name: i for i, name in enumerate(columns)}
            if not place.keys() >= set(self.columns):
                raise NotCovered
            order = [place[name] for name in self.columns]
            rows = [[row[i] for i in order] for row in rows]
        try:
            if not self._texts:
                numbers = np.asarray(rows, dtype="float64").T
                return self._run(self._feed(numbers, []), len(rows))
            given = list(zip(*rows, strict=True))
            numbers = np.array([given[i] for i in self._numbers], dtype="float64").reshape(-1, len(rows))
        except (TypeError, ValueError, OverflowError) as error:
            raise NotCovered from error
        feed = self._feed(numbers, [self._text(i, given[i]) for i in self._texts])
        return self._run(feed, len(rows))

    def predict_frame(self, frame: pd.DataFrame) -> Predictions:
        """Answer a frame. Raises NotCovered."""
        return self._said(self._asked_frame(frame))

    def answer_frame(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """As :meth:`predict_frame`: predictions (rows) and probabilities (rows, classes), None for regression."""
        return self._arrays(self._asked_frame(frame))

    def _asked_frame(self, frame: pd.DataFrame) -> np.ndarray:
        import numpy as np

        try:
            numbers = np.array([frame[self.columns[i]].to_numpy("float64") for i in self._numbers])
        except (TypeError, ValueError) as error:
            raise NotCovered from error
        texts = [self._text(i, _nones(frame[self.columns[i]])) for i in self._texts]
        return self._run(self._feed(numbers.reshape(-1, len(frame)), texts), len(frame), wait=True)

    def walks(self) -> bool:
        """Make the walk through its trees ready, and tell whether it is."""
        return self._bulk is not None and self._bulk.walk(wait=True) is not None

    def covers(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows of a frame it may answer."""
        import numpy as np

        covered = np.ones(len(frame), dtype=bool)
        for i in self._texts:
            values = _nones(frame[self.columns[i]])
            covered &= [
                value != MISSING_TEXT and (value is not None or i not in self._needed_texts) for value in values
            ]
        if self._numbers:
            numbers = np.array([frame[self.columns[i]].to_numpy("float64", na_value=np.nan) for i in self._numbers])
            covered &= ~self._uncovered(numbers).any(axis=0)
        return covered

    def _uncovered(self, numbers: np.ndarray) -> np.ndarray:
        import numpy as np

        missing = np.isnan(numbers)
        fits = (np.abs(numbers) <= self._limits) | (missing & self._nullable)
        if self._whole:
            whole = numbers[self._whole]
            fits[self._whole] &= (whole == np.trunc(whole)) | missing[self._whole]
        return ~fits

    def _feed(self, numbers: np.ndarray, texts: list[Any]) -> dict[str, Any]:
        import numpy as np

        if numbers.shape[:1] != (len(self._numbers),):
            raise NotCovered
        if (not (np.abs(numbers) <= self._limits).all() or self._whole) and self._uncovered(numbers).any():
            raise NotCovered
        if self._matrix:
            return {self._matrix: np.ascontiguousarray(numbers.T)}
        feed = {self.columns[i]: values.reshape(-1, 1) for i, values in zip(self._numbers, numbers, strict=True)}
        feed.update((self.columns[i], values) for i, values in zip(self._texts, texts, strict=True))
        return feed

    def _text(self, column: int, values: Sequence[Any]) -> Any:
        """The text of a column as an array of objects. Raises NotCovered."""
        import numpy as np

        kinds = set(map(type, values))
        if not kinds <= {str, type(None)} or MISSING_TEXT in values:
            raise NotCovered
        if type(None) in kinds:
            if column in self._needed_texts:
                raise NotCovered
            values = [MISSING_TEXT if value is None else value for value in values]
        # A graph would see what is before the zero only.
        if "\0" in "".join(values):
            raise NotCovered
        array = np.empty((len(values), 1), dtype=object)
        array[:, 0] = values
        return array

    def _run(self, feed: dict[str, Any], rows: int, *, wait: bool = False) -> np.ndarray:
        import numpy as np

        walk = self._bulk.walk(wait=wait) if self._bulk is not None and rows >= self._fewest else None
        try:
            answer = self._session.run(self._outputs, feed, self._quietly)[0] if walk is None else walk(feed)
        except Exception as error:
            _logger.debug("a graph could not answer, the original does: %s", error)
            raise NotCovered from error
        if not np.isfinite(answer).all():
            raise NotCovered
        return answer

    def _said(self, answer: np.ndarray) -> Predictions:
        values, probabilities = self._arrays(answer)
        return Predictions(values.tolist(), None if probabilities is None else probabilities.tolist(), self.classes)

    def _arrays(self, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if self._labels is None:
            return answer.ravel(), None
        return self._labels.take(answer.argmax(axis=1)), answer


class _Bulk:
    """The walk through a graph's trees, which takes a second to be ready and not every process needs."""

    def __init__(self, forest: str, session: Callable[[bytes], Any], threads: int) -> None:
        self._forest = forest
        self._session = session
        self._threads = threads
        self._begin = threading.Lock()
        self._making: threading.Thread | None = None
        self._walk: Walk | None = None

    def walk(self, *, wait: bool) -> Walk | None:
        """The walk, None while it is not ready, and where it cannot be: the graph answers then."""
        if self._walk is None:
            with self._begin:
                if self._making is None:
                    self._making = threading.Thread(target=self._make, name="forest", daemon=True)
                    self._making.start()
            if wait:
                self._making.join()
        return self._walk

    def _make(self) -> None:
        try:
            self._walk = Walk(Forest.unpacked(self._forest), self._session, self._threads)
        except ImportError:
            _logger.warning("many rows are answered as few are, slower than could be: numba is not installed")
        except Exception:
            _logger.exception("many rows are answered as few are: the walk through the trees cannot be made ready")
        self._forest = ""


def _nones(column: pd.Series) -> list[Any]:
    values: list[Any] = column.astype("object").where(column.notna(), None).tolist()
    return values


def load(folder: Path, compiled: Path | None, *, threads: int | None = 1) -> CompiledModel | ServedModel:
    """The model in ``folder``, in its compiled form where there is one and onnxruntime is installed.

    ``threads``: how many work on one call. Raises whatever keeps it from being loaded.
    """
    if compiled is not None and compiled.exists():
        try:
            return CompiledModel(Graph(compiled.read_bytes(), threads=threads or 1), lambda: ServedModel(folder))
        except ImportError:
            _logger.warning("%s is served as it was trained: onnxruntime is not installed", folder)
        except Exception as error:  # noqa: BLE001 - what the runtime raises for a graph that it cannot run here is its own
            _logger.warning("%s is served as it was trained: its compiled form cannot be loaded: %s", folder, error)
    return ServedModel(folder)
