"""Engine `continuous`: memory controllers learn from every completion, SLA controllers from windows of time."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import exposed
from llmsched_env.core.controllers import update_memory, update_sla

COMPLETION_WEIGHT = 0.1
"""Share of `ema` that a single completion weighs in the memory controller of the engine `continuous`."""


@exposed
def feed_completion(lane, row, length, output):
    """Update one memory controller with a completed request of ``length`` tokens in all, ``output`` of them decoded."""
    row.batches += 1
    weight = max(1.0 / row.batches, COMPLETION_WEIGHT * lane.ema)
    update_memory(lane, row, 1, length, length * length, output - 1, weight)


@exposed
def feed_window(lane, server):
    """Algorithm 2 for one server of the engine `continuous`, where its window is over and it has decoded in it."""
    if server.window_steps == 0.0 or lane.now - server.window_start < lane.window:
        return
    update_sla(lane, server, server.window_steps, server.window_time, server.window_members, 1.0)
    server.window_start = lane.now
    server.window_time = server.window_steps = server.window_members = 0.0


@exposed
def server_target(lane, row, server):
    """Batch size that a scheduler reads on ``server`` of the engine `continuous`: at least what decodes there."""
    sla = math.floor((server.low + server.high) / 2.0)
    target = max(min(sla, row.memory_target), lane.b_min, server.decoding)
    return int(min(target, lane.max_batch))
