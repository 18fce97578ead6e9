"""Arrays that compiled code takes from a list of addresses."""

import numpy as np
import pytest
from numba import njit, typeof, types

from llmsched_env.compiler.addresses import ADDRESSES, addresses, arrays_at

PAIR = np.dtype([("a", "f8"), ("b", "i4")], align=True)
KINDS = (types.float64[:, ::1], typeof(np.zeros(1, PAIR)), types.int8[:, :, ::1])
_at = arrays_at(KINDS)


@njit(types.float64(ADDRESSES, types.int64))
def _change(words, i):
    plane, pairs, cube = _at(words)
    plane[i, 2] += 1.0
    pairs[i].b = 7
    cube[i, 1, 3] = 5
    return plane.sum() + pairs[0].a + pairs.shape[0] + cube.shape[1] * cube.shape[2]


def test_the_arrays_at_the_addresses_are_the_arrays() -> None:
    """Values and shapes are read, and what is written stands in the arrays."""
    rng = np.random.default_rng(0)
    plane, pairs, cube = rng.random((4, 3)), np.zeros(5, PAIR), np.zeros((4, 2, 6), np.int8)
    pairs["a"] = rng.random(5)
    expected = plane.sum() + 1.0 + pairs["a"][0] + 5 + 12
    before = plane.copy()
    assert _change(addresses((plane, pairs, cube), KINDS), 3) == pytest.approx(expected, rel=1e-12)
    before[3, 2] += 1.0
    np.testing.assert_array_equal(plane, before)
    assert pairs["b"].tolist() == [0, 0, 0, 7, 0]
    assert cube[3, 1, 3] == 5 and np.count_nonzero(cube) == 1


@pytest.mark.parametrize("bad", [np.zeros((4, 6))[:, ::2], np.zeros((4, 3), np.float32), np.zeros(12)])
def test_an_array_of_another_kind_is_refused(bad: np.ndarray) -> None:
    """Not contiguous, smaller elements, another number of axes."""
    with pytest.raises(TypeError, match="is not a"):
        addresses((bad, np.zeros(5, PAIR), np.zeros((4, 2, 6), np.int8)), KINDS)
