"""The compiled step of the engine `continuous`; compiled, or read from disk, when this file is first imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import entry_of, fingerprint, part
from llmsched_env.core.queueing.queues import controller_row
from llmsched_env.core.step import STEP_SIGNATURE, step_arrays, step_loop
from llmsched_env.engines.continuous.controllers import server_target
from llmsched_env.engines.continuous.events import advance, apply
from llmsched_env.engines.continuous.record import write_record, write_running

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def running_target(state: State, choice):
    """The controllers' size of ``choice`` on the asked server."""
    row = state.bins[controller_row(state.params, choice)]
    return server_target(state.params, row, state.servers[max(state.lane.asked, 0)])


_loop = step_loop(
    advance_of=advance,
    apply_of=apply,
    write_record_of=write_record,
    target_of=running_target,
    write_entries_of=write_running,
)


def entry(sources: str) -> Callable:
    """The compiled entry; ``sources`` (parts.fingerprint) is a closure variable and so part of its cache key."""

    @entry_of(STEP_SIGNATURE)
    def step_lanes(words, scale, low, high):
        """Lanes low, ..., high - 1 as core.step.step_loop describes it; ``words`` say where the arrays lie."""
        sources  # noqa: B018
        arrays, record, actions, ladder, mode, outcome, image, valid, order = step_arrays(words)
        _loop(arrays, record, actions, ladder, mode, outcome, image, valid, order, scale, low, high)

    return step_lanes


step_lanes = entry(fingerprint())
