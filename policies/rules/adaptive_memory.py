"""A batch size that grows slowly until memory is used (the dynamic mode of a public GPT-2 benchmark)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llmsched.policies.parameters import Value, number, setting
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import wait
from llmsched_env.core.constants import MAX_SERVERS


def check_order(values: Mapping[str, Value]) -> None:
    """``ValueError`` unless min <= start <= max."""
    low, start, high = (values[name] for name in ("min", "start", "max"))
    if not low <= start <= high:  # type: ignore[operator]
        raise ValueError(f"adaptive-memory: min={low}, start={start}, max={high} contradict: give min <= start <= max.")


@policy(
    "adaptive-memory",
    engines=("batch",),
    params={
        "start": setting("max_batch", 8),
        "min": setting("max_batch", 4),
        "max": setting("max_batch", 32),
        "threshold": number(0.8, 0, 1),
        "wait": wait(2000),
    },
    queueing=lambda params: {"hold_s": params["wait"]},
    memory=2 * MAX_SERVERS,
    check=check_order,
)
def adaptive_memory(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Size - 1 after a batch that used threshold of the memory, else + 2; waits at most wait ms (a GPT-2 benchmark).

    Per server, ``memory`` holds the number of its batches seen so far and its size.  The wait counts from arrival; the
    original counts it from its last look at the queue and so never reaches it.
    """
    seen, mine = 2 * record.server, 2 * record.server + 1
    if memory[mine] == 0:
        memory[mine] = params[0]
    if record.server_batches > memory[seen]:
        memory[seen] = record.server_batches
        step = -1 if record.last_kv_share >= params[3] else 2
        memory[mine] = min(max(memory[mine] + step, params[1]), params[2])
    size = min(int(memory[mine]), record.max_batch)
    due = record.now >= record.oldest_arrival + params[4]
    if record.waiting >= size or due or not record.can_wait:
        return record.num_bins, size
    return record.num_bins, 0
