"""The trees of a graph on their own, for many rows at once: an ONNX runtime walks them several times slower."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

NODE = [("threshold", "f8"), ("child", "u4"), ("feature", "u4")]
"""A row goes from a node to ``child``, or to the node behind it where its ``feature`` is beyond ``threshold``.
A leaf is its own child, and its threshold infinite."""
FEWEST = 32
"""Rows from which on the walk is quicker than the graph, whose answer begins sooner."""
SHARE = 256
"""Rows that are worth a thread of their own."""


@dataclass(frozen=True, eq=False)
class Forest:
    """The trees of an ensemble one behind the other, and what the graph does before and after them.

    ``missing_right`` (nodes) says where a row without the value goes, ``values`` (nodes, targets) are added up
    to ``base`` (targets); ``roots`` and ``depths`` have a number for each tree. ``before`` is the graph from the
    model's inputs to the matrix of doubles that the trees take, ``after`` the one from their sums to the answer,
    empty where the sums are the answer.
    """

    nodes: np.ndarray
    missing_right: np.ndarray
    values: np.ndarray
    base: np.ndarray
    roots: np.ndarray
    depths: np.ndarray
    before: bytes
    after: bytes

    def packed(self) -> str:
        """The forest as text, as it goes with a graph."""
        import numpy as np

        content = io.BytesIO()
        graphs = {name: np.frombuffer(getattr(self, name), dtype="u1") for name in ("before", "after")}
        np.savez_compressed(content, **{**vars(self), **graphs})
        return base64.b64encode(content.getvalue()).decode("ascii")

    @classmethod
    def unpacked(cls, text: str) -> Forest:
        """The forest of :meth:`packed`."""
        import numpy as np

        with np.load(io.BytesIO(base64.b64decode(text))) as arrays:
            read = {name: arrays[name] for name in arrays.files}
        return cls(**{**read, "before": read["before"].tobytes(), "after": read["after"].tobytes()})


class Walk:
    """Answers many rows of a graph's inputs by a walk through its trees. Safe to use from several threads."""

    def __init__(self, forest: Forest, session: Callable[[bytes], Any], threads: int) -> None:
        """Compile the walk, or read it as it was compiled before. ``session`` opens a graph.

        Raises ImportError where Numba is not installed.
        """
        from shared.models.forest_kernel import walk

        self._walk = walk
        self._forest = forest
        self._before = session(forest.before)
        self._after = session(forest.after) if forest.after else None
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "forest") if threads > 1 else None
        self._sums(self._zeros(1))

    def __call__(self, feed: Mapping[str, Any]) -> np.ndarray:
        """What the graph answers to ``feed``. Raises what its runtime raises."""
        sums = self._sums(self._before.run(None, feed)[0])
        if self._after is None:
            return sums
        (name,) = (given.name for given in self._after.get_inputs())
        answer: np.ndarray = self._after.run(None, {name: sums})[0]
        return answer

    def _sums(self, x: np.ndarray) -> np.ndarray:
        """The sums (rows, targets) for a matrix of doubles."""
        import numpy as np

        forest = self._forest
        missing = forest.missing_right if np.isnan(x).any() else None
        sums = np.empty((len(x), len(forest.base)))
        sums[:] = forest.base

        def walked(part: slice) -> None:
            self._walk(x[part], forest.nodes, missing, forest.values, forest.roots, forest.depths, sums[part])

        share = max(SHARE, -(-len(x) // self._threads))
        parts = [slice(begin, begin + share) for begin in range(0, len(x), share)]
        if self._pool is None or len(parts) == 1:
            walked(slice(None))
        else:
            list(self._pool.map(walked, parts))
        return sums

    def _zeros(self, rows: int) -> np.ndarray:
        import numpy as np

        return np.zeros((rows, int(self._forest.nodes["feature"].max(initial=0)) + 1))
