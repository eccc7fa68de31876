"""Numbers that stay an array are to everybody what a list of them is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared import fast_json
from shared.scoring.number_array import FEWEST, NumberArray, sequence

KINDS = st.sampled_from(["f8", "i8", "u4", "i4", "?"])


@given(KINDS.flatmap(lambda kind: arrays.arrays(kind, st.tuples(st.integers(0, 40), st.integers(1, 4)))))
def test_its_json_its_values_and_its_columns_are_those_of_the_list(array: np.ndarray) -> None:
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
    numbers, values = NumberArray(array), array.tolist()
    assert json.loads(fast_json.dumps({"rows": numbers})) == {"rows": values}
    assert numbers == values
    assert list(numbers) == values
    assert len(numbers) == len(values)
    assert numbers[1:3] == values[1:3]
    assert numbers.column(0) == [row[0] for row in values]
    assert json.loads(fast_json.dumps(numbers.column(0))) == [row[0] for row in values]
    assert numbers.largest() == [max(row) for row in values]


def test_what_numpy_makes_of_it_is_the_array() -> None:
    array = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(np.asarray(NumberArray(array)), array)
    assert NumberArray(array) != NumberArray(array.T)
    assert NumberArray(array) != 3


@pytest.mark.parametrize(
    ("array", "stays"),
    [
        (np.zeros(FEWEST), True),
        (np.zeros(FEWEST - 1), False),
        (np.full(FEWEST, "Yes"), False),
        (np.full(FEWEST, None), False),
    ],
)
def test_few_values_and_those_that_are_no_numbers_are_a_list(array: np.ndarray, stays: bool) -> None:
    assert isinstance(sequence(array), NumberArray) is stays
    assert list(sequence(array)) == array.tolist()
