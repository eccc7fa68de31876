"""Many numbers that stay one array on their way through the loop, up to the bytes of their JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shared import fast_json

if TYPE_CHECKING:
    import numpy as np

FEWEST = 32
"""Values from which on an array is quicker than a list of them."""


class NumberArray(Sequence[Any], fast_json.Written):
    """The values of an array, or its rows as lists of values. numpy takes it as the array; it must not be changed."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: int | slice) -> Any:
        return self._array[index].tolist()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._array.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(self._array.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        import numpy as np

        return np.array(self._array, dtype=dtype, copy=copy)

    def column(self, index: int) -> NumberArray:
        """One value of each row."""
        return NumberArray(self._array[:, index])

    def largest(self) -> NumberArray:
        """The largest value of each row."""
        return NumberArray(self._array.max(axis=1))

    def json(self) -> bytes:
        """The values on one line."""
        import numpy as np
        import orjson

        return orjson.dumps(np.ascontiguousarray(self._array), option=orjson.OPT_SERIALIZE_NUMPY)


def sequence(array: np.ndarray) -> Sequence[Any]:
    """``array`` as a list where it is short or no numbers, else as a NumberArray."""
    return NumberArray(array) if len(array) >= FEWEST and array.dtype.kind in "biuf" else array.tolist()
