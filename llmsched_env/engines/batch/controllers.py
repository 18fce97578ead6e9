"""Engine `batch`: the controllers learn from a batch that has ended."""

from __future__ import annotations

from llmsched_env.compiler.parts import part
from llmsched_env.core.controllers import set_target, update_memory, update_sla
from llmsched_env.core.peer_controllers import update_peer_memory, update_peer_sla


@part
def feed(params, row, batch):
    """Update one controller with the RUNNING_BATCH that a server has just completed."""
    if batch.completing > 0:
        row.batches += 1
        if params.peer:
            update_peer_memory(params, row, batch.completing, batch.sum_l)
        else:
            weight = params.ema if row.batches > 1 else 1.0
            update_memory(params, row, batch.completing, batch.sum_l, batch.sum_l2, batch.steps, weight)
    if batch.steps > 0:
        if params.peer:
            update_peer_sla(params, row, batch.steps, batch.decode_s, batch.member_steps)
        else:
            weight = params.ema if row.sla_updates > 0 else 1.0
            update_sla(params, row, batch.steps, batch.decode_s, batch.member_steps, weight)
    set_target(params, row)
