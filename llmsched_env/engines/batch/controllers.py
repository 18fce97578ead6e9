"""Engine `batch`: the controllers learn from a batch that has ended."""

from __future__ import annotations

from llmsched_env.compiler.parts import exposed
from llmsched_env.core.controllers import set_target, update_memory, update_sla
from llmsched_env.core.peer_controllers import update_peer_memory, update_peer_sla


@exposed
def feed(lane, row, server):
    """Update one controller with the batch that ``server`` has just completed."""
    if server.completing > 0:
        row.batches += 1
        if lane.peer:
            update_peer_memory(lane, row, server.completing, server.sum_l)
        else:
            weight = lane.ema if row.batches > 1 else 1.0
            update_memory(lane, row, server.completing, server.sum_l, server.sum_l2, server.steps, weight)
    if server.steps > 0:
        if lane.peer:
            update_peer_sla(lane, row, server.steps, server.decode_s, server.member_steps)
        else:
            weight = lane.ema if row.sla_updates > 0 else 1.0
            update_sla(lane, row, server.steps, server.decode_s, server.member_steps, weight)
    set_target(lane, row)
