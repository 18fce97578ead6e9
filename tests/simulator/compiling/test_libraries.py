"""Parts that are linked into an entry, and named tuples that are passed by reference."""

from __future__ import annotations

import re
from collections import namedtuple

import numpy as np
import pytest
from numba import njit, typeof, types

from llmsched_env.compiler.borrow import borrow
from llmsched_env.compiler.by_reference import by_reference
from llmsched_env.compiler.libraries import EntryCompiler
from llmsched_env.compiler.parts import apart, jit_is_off, part

pytestmark = pytest.mark.skipif(jit_is_off(), reason="nothing is compiled (NUMBA_DISABLE_JIT=1)")

ROW = np.dtype([("count", np.int32), ("time", np.float64)])
Pair = namedtuple("Pair", ["rows", "grid", "first"])


@apart
def shared(x):
    """What two others call."""
    return x * 3 + 1


@part
def never(x):
    """A caller whose call is dropped by LLVM, not by Numba."""
    return shared(x) if x < x else x


@part
def always(x):
    """A caller."""
    return shared(x) + shared(x + 1)


@part
def both(x):
    """The callers in one part, whose code is linked as a whole."""
    return never(x + 1) + always(x) + never(x)


def test_a_function_whose_first_caller_drops_it_is_in_the_entry() -> None:
    """Nothing of ours is only declared: LLVM would call address 0."""

    @njit(types.int64(types.int64), pipeline_class=EntryCompiler)
    def entry(x):
        return both(x)

    code = entry.inspect_llvm(entry.signatures[0])
    assert not re.findall(r"^declare .*test_libraries", code, re.MULTILINE)
    assert entry(5) == 6 + 16 + 19 + 5


@part
def change(pair, i, j):
    """Write into every array of the tuple that is passed by reference."""
    pair.rows[i].count += j
    pair.grid[i, j] = len(pair.rows) * pair.grid.shape[1] + pair.first.time
    return pair.grid[i].sum() + pair.rows[i].time


def test_what_is_passed_by_reference_is_the_tuple() -> None:
    """Records, one axis and two axes: values, lengths, slices; writes are seen by the owner."""
    rows, grid = np.zeros(3, ROW), np.arange(12.0).reshape(3, 4)
    rows["time"] = [0.25, 0.5, 0.75]

    @njit(types.float64(typeof(rows), typeof(grid), types.int64, types.int64), pipeline_class=EntryCompiler)
    def entry(rows, grid, i, j):
        pair = by_reference(Pair(borrow(rows), borrow(grid), borrow(rows)[0]))
        return change(pair, i, j)

    assert entry(rows, grid, 2, 1) == 8.0 + (3 * 4 + 0.25) + 10.0 + 11.0 + 0.75
    assert grid[2, 1] == 12.25
    assert rows["count"].tolist() == [0, 0, 1]


@apart
def length_of(pair):
    """One function for several types of its argument."""
    return len(pair.rows)


def test_symbols_are_short_and_differ_by_type() -> None:
    """A record of 60 fields in the arguments is a digest in the symbol; another record is another function."""

    @njit
    def lengths(wide, narrow):
        return length_of(Pair(wide, wide, wide)) * 100 + length_of(Pair(narrow, narrow, narrow))

    wide, narrow = np.zeros(3, [(f"field_{k}", np.float64) for k in range(60)]), np.zeros(5, ROW)
    assert lengths(wide, narrow) == 305
    symbols = [found.fndesc.mangled_name for found in length_of.overloads.values()]
    assert len(set(symbols)) == len(symbols) == 2
    assert max(map(len, symbols)) < 300
