"""What the network of the engine `continuous` reads, which weights it has, and what its scores mean.

The network scores the head (the first request) of every bin: should it join the running set of the asked server now?
The inputs are computed in llmsched.policies.network.continuous_features, from the record and from what the hardware
takes for a prompt token (llmsched.policies.network.hardware).
"""

from __future__ import annotations

from typing import Any

FEATURES = (
    "room",  # 1 - (size of the running set with the head) / controllers' target of `any`, at least -2
    "crowded",  # size of the running set with the head / largest running set
    "step",  # time between tokens in the last window / TPOT target, at most 3
    "step_of_head",  # predicted service time of the head here / its tokens / TPOT target, at most 3
    "age",  # time that the head has waited / TTFT target, at most 3
    "prompt",  # the head's prompt / mean tokens of a completed request, x / (x + 1)
    "output",  # the head's predicted output / the same mean, x / (x + 1)
    "backlog",  # prompt tokens left to prefill on this server / the same mean, x / (x + 1)
    "memory",  # share of the KV memory held with the head's prompt, 0 without limit
    "memory_promised",  # the same once the whole running set has the head's predicted length, at most 3
    "waiting",  # requests per server that wait and are not overdue, x / (x + 4)
    "overdue_waiting",  # overdue requests per server, x / (x + 4)
    "overdue",  # 1 for the overdue queue
    "lost",  # 1 for the overdue queue when its head is past its deadline
    "rate",  # arrivals expected within the TTFT target, per server, x / (x + 8)
    "above_mean",  # (running set here - mean running set of all servers) / target, -1 to 1
    "share",  # requests in this bin / all that wait and are not overdue
    "room_for_tokens",  # as room, with the middle of the bounds of the server's SLA controller as the target
    "first",  # 1 for the bin whose head is that of `any`
    "urgency",  # (deadline of the head - end of its prefill after those that are left) / TTFT target, -2 to 2
    "prefill_ahead",  # time of the prefills that are left, with the head's / TTFT target, x / (x + 1)
    "prefill_steps",  # time of the head's prefill / TPOT target, x / (x + 4)
    "step_next",  # predicted decode step with the head / TPOT target, at most 3
    "chunk",  # time of an iteration's budget of prompt tokens / TPOT target, x / (x + 4)
    "prefill_load",  # tokens that arrive in a second x time of a prompt token / servers, at most 3
)
"""Inputs computed from the head of a bin, as if it were admitted now."""

INPUTS = len(FEATURES)

LAYOUT: dict[str, Any] = {
    "features": list(FEATURES),
    "actions": "admit the head of the bin that scores highest, and ask again; wait where all score 0 or less",
}
"""The description that a checkpoint carries in its JSON; a checkpoint with another one is refused."""


def shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a network with ``hidden`` hidden units, in the order in which they are packed."""
    return {
        "bias": (hidden,),
        "features": (hidden, INPUTS),
        "out": (hidden,),
        "straight": (INPUTS,),  # past the hidden layer
        "offset": (1,),
    }
