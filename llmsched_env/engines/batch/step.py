"""The compiled step of the engine `batch`; compiled, or read from disk, when this file is first imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import entry_of, fingerprint, part
from llmsched_env.core.controllers import current_target
from llmsched_env.core.queueing.queues import controller_row
from llmsched_env.core.step import STEP_SIGNATURE, step_arrays, step_loop
from llmsched_env.engines.batch.events import advance, apply
from llmsched_env.engines.batch.record import write_record

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def batch_target(state: State, choice):
    """The controllers' batch size of ``choice``."""
    return current_target(state, state.bins[controller_row(state.params, choice)])


@part
def write_no_entries(record, image, at):
    """The common entries are all."""


_loop = step_loop(
    advance_of=advance,
    apply_of=apply,
    write_record_of=write_record,
    target_of=batch_target,
    write_entries_of=write_no_entries,
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
