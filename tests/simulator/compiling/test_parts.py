"""Parts: one version each, called or inlined, min and max of two numbers, and parts in plain Python."""

from __future__ import annotations

import gc
import itertools
import math
import re
from collections import namedtuple
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numba import njit, typeof, types

from llmsched_env.compiler.borrow import borrow
from llmsched_env.compiler.by_reference import by_reference
from llmsched_env.compiler.libraries import CAN_CHOOSE, EntryCompiler
from llmsched_env.compiler.parts import RARE, apart, jit_is_off, part, plain, rare_collections
from llmsched_env.core.controllers import reset_controller
from llmsched_env.core.layout import BIN, PARAMS

compiled = pytest.mark.skipif(jit_is_off(), reason="nothing is compiled (NUMBA_DISABLE_JIT=1)")

Pair = namedtuple("Pair", ["counts", "times"])


@part
def weight(pair, scale):
    """Whole numbers in a tuple, and one alone."""
    return scale * (pair[0] + pair[1])


@part
def weights(x, narrow):
    """Constants, a narrow number and a wide one."""
    return weight((1, 0.5), 2) + weight((x, 0.5), narrow) + weight((narrow, 0.5), x)


@compiled
def test_one_version_serves_all_constants_and_widths() -> None:
    """Three calls, one function."""

    @njit(types.float64(types.int64, types.int32), pipeline_class=EntryCompiler)
    def entry(x, narrow):
        return weights(x, narrow)

    assert entry(5, 3) == 2 * 1.5 + 3 * 5.5 + 5 * 3.5
    (kinds,) = weight.overloads
    assert kinds[1] == types.int64 and tuple(kinds[0]) == (types.int64, types.float64)


@part
def add(state, i, number):
    """Inlined, in what is inlined and in what is not."""
    state.counts[i] += number
    state.times[i] += 0.5 * number
    return len(state.counts)


@apart
def add_twice(state, i, number):
    """Called by what is not inlined."""
    return add(state, i, number) + add(state, i + 1, number)


@apart
def add_often(state, i):
    """Called; LLVM would not take it for small enough to inline it."""
    total = 0
    for number in range(1, 100):
        if state.counts[i] % 7 == 3:
            total += add_twice(state, i, number)
        elif state.times[i] < 20.0:
            total += add(state, 0, number) * int(math.floor(10.0 * math.sin(float(total)) + math.exp(state.times[i])))
        else:
            total -= add(state, i, 1) + int(math.log(state.times[0]) + math.cos(state.times[1]))
    return total


@part
def through(state, i):
    """Inlined, around what is not."""
    return add_often(state, i) + add(state, i, 2)


def in_python(counts: np.ndarray, times: np.ndarray, i: int) -> int:
    """The same in plain Python."""
    state = Pair(counts, times)
    return int(plain(through)(state, i) + plain(add)(state, 1, 1))


@compiled
def test_what_is_not_inlined_works_on_the_same_arrays() -> None:
    """The results of plain Python, from a function that is called with a copy of the tuple of arrays."""

    @njit(types.int64(types.int64[::1], types.float64[::1], types.int64), pipeline_class=EntryCompiler)
    def entry(counts, times, i):
        state = by_reference(Pair(borrow(counts), borrow(times)))
        return through(state, i) + add(state, 1, 1)

    ours, theirs = [(np.zeros(4, np.int64), np.zeros(4)) for _ in range(2)]
    assert entry(*ours, 2) == in_python(*theirs, 2)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(own, other)
    assert not next(iter(add_often.overloads.values())).fndesc.inline
    assert next(iter(through.overloads.values())).fndesc.inline
    if CAN_CHOOSE:
        code = entry.inspect_llvm(entry.signatures[0])
        assert len(re.findall(r"= alloca \{ \{", code)) == 1  # the copy; LLVM took the other one apart


@part
def extremes(a, b, c):
    """Two and three numbers, and constants."""
    return min(a, b), max(a, b), min(a, b, c), max(c, 0, b), max(min(a, 2), b)


@cache
def compiled_extremes() -> Callable:
    """For Python."""

    @njit(pipeline_class=EntryCompiler)
    def entry(a, b, c):
        return extremes(a, b, c)

    return entry


NUMBERS = (-3, 0, 4, -0.0, 0.0, 2.5, math.nan, math.inf, -math.inf)


@compiled
@pytest.mark.parametrize(("first", "second"), list(itertools.product(NUMBERS, repeat=2)))
def test_extremes_are_those_of_python(first: float, second: float) -> None:
    """To the bit, for the mixtures of whole numbers, fractions, infinities and NaN."""
    for own, other in zip(compiled_extremes()(first, second, 1), plain(extremes)(first, second, 1), strict=True):
        assert np.float64(own).tobytes() == np.float64(other).tobytes()


@pytest.mark.parametrize("peer", [0, 1])
def test_a_part_in_plain_python_is_the_part(peer: int) -> None:
    """The state of a controller before the first batch, both ways."""
    params = np.zeros(1, PARAMS)
    params["b_min"], params["max_batch"], params["eta_min"], params["peer"] = 3, 100, 33_333.5, peer
    ours, theirs = np.ones(1, BIN), np.ones(1, BIN)
    plain(reset_controller)(params.view(np.recarray)[0], ours.view(np.recarray)[0])
    if jit_is_off():
        return

    @njit(types.void(typeof(params), typeof(theirs)), pipeline_class=EntryCompiler)
    def entry(params, rows):
        reset_controller(params[0], rows[0])

    entry(params, theirs)
    assert ours.tolist() == theirs.tolist() != np.ones(1, BIN).tolist()  # between the fields lies anything


def test_garbage_is_looked_for_at_the_pace_of_before() -> None:
    """After a compilation, and after one that failed; who looks for none, or less often, is left alone."""
    before = gc.get_threshold()
    try:
        for own, inside in (((700, 10, 10), RARE), ((0, 10, 10), (0, 10, 10)), ((90_000, 2, 2), (90_000, 2, 2))):
            gc.set_threshold(*own)
            with pytest.raises(KeyError), rare_collections():
                assert gc.get_threshold() == inside
                raise KeyError
            assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)
