"""Engine `continuous`: memory controllers learn from every completion, SLA controllers from windows of time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.controllers import update_memory, update_sla

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

COMPLETION_WEIGHT = 0.1
"""Share of `ema` that a single completion weighs in the memory controller of the engine `continuous`."""


@part
def feed_completion(params, row, length, output):
    """Update one memory controller with a completed request of ``length`` tokens in all, ``output`` of them decoded."""
    row.batches += 1
    weight = max(1.0 / row.batches, COMPLETION_WEIGHT * params.ema)
    update_memory(params, row, 1, length, length * length, output - 1, weight)


@part
def feed_window(state: State, server):
    """Algorithm 2 for one server of the engine `continuous`, where its window is over and it has decoded in it."""
    own, now = server.set, state.lane.now
    if own.window_steps == 0.0 or now - own.window_start < state.params.window:
        return
    update_sla(state.params, own, own.window_steps, own.window_time, own.window_members, 1.0)
    own.window_start = now
    own.window_time = own.window_steps = own.window_members = 0.0


@part
def server_target(params, row, server):
    """Batch size that a scheduler reads on ``server`` of the engine `continuous`: at least what decodes there."""
    sla = math.floor((server.set.low + server.set.high) / 2.0)
    target = max(min(sla, row.memory_target), params.b_min, server.set.decoding)
    return int(min(target, params.max_batch))
