"""The two halves of a trace share no row, and keep the trace's own clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmsched.train.retuning.parts import FEWEST, HELD_OUT, as_trace, split
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.replay import replayed_gap_s
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload

ROWS = 2_000


def numbered(rows: int = ROWS, seed: int = 0) -> Trace:
    """A trace whose row i has a prompt of i + 1 tokens, so that a request says which row it is."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(0.5, rows))
    outputs = rng.integers(1, 500, rows).astype(np.int32)
    return Trace(times - times[0], np.arange(1, rows + 1, dtype=np.int32), outputs, "numbered")


def trace_of(workload: Workload) -> Trace:
    """The trace that a workload replays."""
    assert isinstance(workload.origin, Trace)
    return workload.origin


def rows_drawn(workload: Workload) -> set[int]:
    """Rows of the trace that come in some draws of both splits."""
    draws = [workload.draw(seed, name) for seed in range(3) for name in ("test", "validation")]
    return {int(prompt) - 1 for drawn in draws for prompt in drawn.prompt_tokens}


def test_no_row_that_is_judged_on_was_searched_on() -> None:
    """Every window replays its own rows alone; all windows come before all held-out parts; no row is left over."""
    found = split(as_trace(Workload(numbered(), predictor="oracle"), 0))
    for part in (*found.trained, *found.held_out):
        assert rows_drawn(part.workload) == set(range(part.first, part.last))
    assert max(part.last for part in found.trained) <= min(part.first for part in found.held_out)
    both = [*found.trained, *found.held_out]
    assert [part.first for part in both] == [0, *(part.last for part in both[:-1])] and both[-1].last == ROWS
    assert len(found.held_out) == HELD_OUT


def test_what_is_searched_on_does_not_depend_on_the_second_half() -> None:
    """Other rows there: the same windows, and the same bins."""
    trace = numbered()
    changed = replace(
        trace, output_tokens=np.where(np.arange(ROWS) < ROWS // 2, trace.output_tokens, 7).astype(np.int32)
    )
    ours, theirs = (Workload(source, rate_scale=2.0) for source in (trace, changed))
    assert bin_edges(ours, 4) == bin_edges(theirs, 4)
    for a, b in zip(split(as_trace(ours, 0)).trained, split(as_trace(theirs, 0)).trained, strict=True):
        assert a.name == b.name
        one, other = a.workload.draw(1), b.workload.draw(1)
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("rate", [{}, {"rate": 7.0}, {"rate_scale": 3.0}])
def test_parts_keep_the_clock_of_the_whole(rate: dict[str, Any]) -> None:
    """All times are those of the trace, divided by the same number: busy parts stay busier than quiet ones."""
    trace = numbered()
    whole = Workload(trace, **rate)
    speed = whole.mean_rate * replayed_gap_s(trace)
    for part in split(as_trace(whole, 0)).held_out:
        own = part.workload
        assert own.mean_rate == pytest.approx(speed / replayed_gap_s(trace_of(own)))
        assert trace_of(own).arrival_s[-1] == pytest.approx(
            trace.arrival_s[part.last - 1] - trace.arrival_s[part.first]
        )
        assert part.at(1.1).workload.mean_rate == pytest.approx(1.1 * own.mean_rate)


def test_a_number_of_requests_cuts_the_trace() -> None:
    """The rest is neither searched nor judged on."""
    found = split(as_trace(Workload(numbered(), requests=1_200), 0))
    assert found.held_out[-1].last == 1_200


def test_a_generator_is_drawn_once() -> None:
    """At its rate; another seed, another trace."""
    law = Workload("azure-conv", requests=1_500, rate=5.0)
    one, same, other = (trace_of(as_trace(law, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.arrival_s, same.arrival_s) and not np.array_equal(one.arrival_s, other.arrival_s)
    first = split(as_trace(law, 1)).held_out[0].workload
    assert first.mean_rate == pytest.approx(1.0 / replayed_gap_s(trace_of(first)))


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        (Workload(numbered(FEWEST - 1)), "999 rows are too few"),
        (Workload(numbered(), concurrency=4, requests=100), "closed loops cannot be retuned on"),
        (Workload(numbered(), duration_s=100.0), "--duration is not known here"),
        (Workload("azure-conv", requests=2_000, shared_prefix="20:100"), "--shared-prefix is not known here"),
    ],
)
def test_what_cannot_be_split_is_refused(workload: Workload, reason: str) -> None:
    """In one line with a remedy."""
    with pytest.raises(ValueError, match=reason):
        split(as_trace(workload, 0))
