"""The walk of many rows through a forest, compiled by Numba. Import it where it is used: Numba takes a while.

Eight rows go down a tree at a time, each to the end of the deepest branch, so that no step depends on a guess of
the processor and eight loads are under way at once; a block of rows takes one tree after the other, so that the
tree stays in the nearest cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

BLOCK = 512
"""Rows that take a tree before the next one."""


@njit
def _next(x: Any, row: int, nodes: Any, missing_right: Any, i: int) -> int:
    """Where a row goes from node ``i``; a leaf leads to itself, as no value is beyond its threshold."""
    value = x[row, nodes[i].feature]
    if missing_right is None:
        return nodes[i].child + np.uint32(value > nodes[i].threshold)
    missing = value != value
    return nodes[i].child + np.uint32((value > nodes[i].threshold) | (missing & missing_right[i]))


def _walk(x: Any, nodes: Any, missing_right: Any, values: Any, roots: Any, depths: Any, sums: Any) -> None:
    """Add to ``sums`` (rows, targets) the ``values`` (nodes, targets) of the leaves that the rows of ``x`` come to.

    ``missing_right`` says of each node whether NaN goes right; None, which is quicker: there is none in ``x``.
    """
    rows, targets = sums.shape
    for begin in range(0, rows, BLOCK):
        end = min(rows, begin + BLOCK)
        paired = end - (end - begin) % 8
        for tree in range(roots.shape[0]):
            root, depth = roots[tree], depths[tree]
            for r in range(begin, paired, 8):
                a = b = c = d = e = f = g = h = root
                for _ in range(depth):
                    a = _next(x, r, nodes, missing_right, a)
                    b = _next(x, r + 1, nodes, missing_right, b)
                    c = _next(x, r + 2, nodes, missing_right, c)
                    d = _next(x, r + 3, nodes, missing_right, d)
                    e = _next(x, r + 4, nodes, missing_right, e)
                    f = _next(x, r + 5, nodes, missing_right, f)
                    g = _next(x, r + 6, nodes, missing_right, g)
                    h = _next(x, r + 7, nodes, missing_right, h)
                for t in range(targets):
                    sums[r, t] += values[a, t]
                    sums[r + 1, t] += values[b, t]
                    sums[r + 2, t] += values[c, t]
                    sums[r + 3, t] += values[d, t]
                    sums[r + 4, t] += values[e, t]
                    sums[r + 5, t] += values[f, t]
                    sums[r + 6, t] += values[g, t]
                    sums[r + 7, t] += values[h, t]
            for r in range(paired, end):
                a = root
                for _ in range(depth):
                    a = _next(x, r, nodes, missing_right, a)
                for t in range(targets):
                    sums[r, t] += values[a, t]


def _compiled() -> Any:
    try:
        # Kept beside this file, or in the user's cache: a new process reads it in a tenth of a second.
        return njit(nogil=True, cache=True)(_walk)
    except RuntimeError:
        # Neither can be written here.
        return njit(nogil=True)(_walk)


walk = _compiled()
