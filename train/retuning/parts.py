"""A trace in time: its first part, on which weights are searched, and later parts, on which they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmsched_env.workload.replay import replayed_gap_s
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload

TRAINED = 0.5
"""Share of the rows, at the front of a trace, that weights are searched on."""

HELD_OUT = 10
"""Parts that the rest is cut into: the interval is over them."""

WINDOW = 1_500
"""About how many rows a window of the first part has."""

FEWEST_WINDOWS = 4

FEWEST = 1_000
"""Fewest rows: 50 in every part that is held out."""


@dataclass(frozen=True)
class Part:
    """Rows ``first`` to ``last`` (excluded) of a trace, as a workload of their own."""

    first: int
    last: int
    workload: Workload

    @property
    def name(self) -> str:
        """The rows in words, from 1 on."""
        return f"rows {self.first + 1:,} to {self.last:,}"

    def at(self, factor: float) -> Part:
        """The same rows on a clock that is ``factor`` times as fast."""
        return replace(self, workload=replace(self.workload, rate_scale=self.workload.rate_scale * factor))


@dataclass(frozen=True)
class Split:
    """What the search sees, and what it does not see: no row is in both."""

    trained: Sequence[Part]
    held_out: Sequence[Part]


def as_trace(workload: Workload, seed: int) -> Workload:
    """``workload`` as a trace of which each row comes once: a generator is drawn once, with ``seed``.

    ``ValueError`` where arrivals depend on answers, or where a duration ends the run.
    """
    if workload.linked:
        raise ValueError(
            "sessions and closed loops cannot be retuned on: when their requests arrive depends on the scheduler; give "
            "a trace with a time for every request."
        )
    if workload.duration_s is not None:
        raise ValueError("--duration is not known here: give --requests, the number of rows.")
    if workload.prefixes is not None:
        raise ValueError("--shared-prefix is not known here: give a trace with hashes of its prompts.")
    origin, count = workload.origin, workload.requests
    if isinstance(origin, Trace):
        scale = workload.mean_rate * replayed_gap_s(origin)
        kept = origin if count is None or count >= len(origin) else rows_of(origin, 0, count)
    else:
        drawn, scale = workload.draw(seed), 1.0
        kept = Trace(drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens, origin.name)
    return replace(workload, source=kept, requests=None, rate=None, rate_scale=scale, burstiness=None)


def rows_of(trace: Trace, first: int, last: int) -> Trace:
    """Rows ``first`` to ``last`` (excluded) of a trace; the first of them comes at 0 s."""
    rows = np.arange(first, last)
    return Trace(
        trace.arrival_s[rows] - trace.arrival_s[first],
        trace.prompt_tokens[rows],
        trace.output_tokens[rows],
        trace.name,
        contents=trace.contents and trace.contents.rows(rows),
        classes=trace.classes and trace.classes.rows(rows),
    )


def split(workload: Workload) -> Split:
    """The parts of a trace (`as_trace`), in order of time; ``ValueError`` where it is too short."""
    trace = workload.origin
    assert isinstance(trace, Trace)
    if len(trace) < FEWEST:
        raise ValueError(
            f"trace {trace.name}: {len(trace):,} rows are too few to search weights on one half and to judge them on "
            f"the other: give at least {FEWEST:,}."
        )
    cut = round(TRAINED * len(trace))
    windows = max(FEWEST_WINDOWS, round(cut / WINDOW))
    return Split(pieces(workload, 0, cut, windows), pieces(workload, cut, len(trace), HELD_OUT))


def pieces(workload: Workload, first: int, last: int, count: int) -> list[Part]:
    """Rows ``first`` to ``last`` (excluded) in ``count`` parts of about equal length, on the clock of ``workload``."""
    trace = workload.origin
    assert isinstance(trace, Trace)
    ends = np.linspace(first, last, count + 1).round().astype(int).tolist()
    return [
        Part(low, high, replace(workload, source=rows_of(trace, low, high)))
        for low, high in zip(ends, ends[1:], strict=False)
    ]
