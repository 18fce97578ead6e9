"""The stub of the rows says what the rows are, and the arrays of a simulator are those of the table."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import numpy as np

from llmsched_env.core import layout, state

ROOT = Path(__file__).resolve().parents[2]


def test_the_stub_is_made_of_the_rows() -> None:
    """llmsched_env/core/rows.pyi is what docs/tools/make_state_stub.py makes today."""
    module = runpy.run_path(str(ROOT / "docs" / "tools" / "make_state_stub.py"))
    text = (ROOT / "llmsched_env" / "core" / "rows.pyi").read_text(encoding="utf-8")
    assert text == module["text"](), "the rows have changed: run python docs/tools/make_state_stub.py"


def test_arrays_follow_the_table() -> None:
    """Every axis has the length that its name says, every element its type, and everything begins at 0."""
    sizes = state.Sizes(2, 3, 5, 7, 11, 13, queues=4, keyed=7, expiring=7, set_servers=3, set_size=13, log=17, gaps=19)
    arrays, axes = state.allocate(sizes), {"one": 1, **vars(sizes)}
    assert arrays._fields == tuple(spec.name for spec in state.TABLE) and state.State._fields[:-1] == arrays._fields
    for spec, array in zip(state.TABLE, arrays, strict=True):
        assert array.shape == tuple(axes[name] for name in spec.shape), spec.name
        assert array.dtype.type is np.dtype(spec.kind).type or array.dtype.fields == np.dtype(spec.kind).fields
        assert not any(np.ascontiguousarray(array).tobytes())


def test_the_view_of_a_lane_follows_the_table() -> None:
    """Every array stands in its own place of a State, and an array of lanes is read at the lane."""
    source = inspect.getsource(getattr(state.lane_state, "py_func", state.lane_state))
    parts = re.findall(r"^ {8}(?:borrow\(arrays\.)?(\w+)(.*),$", source.split("State(")[1], re.MULTILINE)
    assert [name for name, _ in parts] == [*state.NAMES, "lane"]
    for spec, (name, place) in zip(state.TABLE, parts, strict=False):
        row = ")[0]" if spec.shape == ("one",) else ")"
        assert place == ("" if name == "lane" else "[i])" if spec.by_lane else row), name


def test_parameters_and_counts_are_no_state() -> None:
    """A word stands in one of the rows of a lane: what stays, what is counted, and what is."""
    own = [set(row.names or ()) for row in (layout.PARAMS, layout.COUNTS, layout.LANE)]
    assert not own[0] & own[1] and not own[0] & own[2] and not own[1] & own[2]
    assert not set(layout.HARDWARE.names or ()) & set(layout.SERVER.names or ())
    assert not set(layout.RUNNING_SET.names or ()) & set(layout.SERVER.names or ())
