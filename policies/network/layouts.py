"""What the network of the engine `continuous` is fed and made of (llmsched.policies.network.continuous computes it)."""

from __future__ import annotations

from typing import Any

FEATURES = (
    "room",  # 1 - (members with this one) / controllers' target of `any`, at least -2
    "crowded",  # members with this one / largest running set
    "step",  # time between tokens of the last window / TPOT target, at most 3
    "step_of_head",  # predicted service time of the head here / its tokens / TPOT target, at most 3
    "age",  # time that the head has waited / TTFT target, at most 3
    "prompt",  # the head's prompt / mean tokens of a completed request, x / (x + 1)
    "output",  # the head's predicted output / the same, x / (x + 1)
    "backlog",  # prompt tokens left to prefill here / the same, x / (x + 1)
    "memory",  # share of the KV memory held with the head's prompt, 0 without limit
    "memory_promised",  # ... when all members and the head have reached the head's predicted length, at most 3
    "waiting",  # requests per server that are not late, x / (x + 4)
    "late_waiting",  # late requests per server, x / (x + 4)
    "late",  # 1 for the late bin
    "lost",  # 1 for the late bin when its head's deadline has passed
    "rate",  # arrivals expected in the TTFT target per server, x / (x + 8)
    "above_mean",  # (members here - mean of all servers) / target, -1 to 1
    "share",  # of all that waits and is not late, in this bin
    "room_for_tokens",  # as room, with the middle of the bounds of the server's SLA controller in place of the target
    "first",  # 1 for the bin whose head is that of `any`
)
"""What is computed of the head of every bin, were it admitted now."""

INPUTS = len(FEATURES)

LAYOUT: dict[str, Any] = {
    "features": list(FEATURES),
    "actions": "admit the head of the bin that scores highest, and ask again; wait where all score 0 or less",
}
"""What the weights are multiplied with and what the scores mean; a checkpoint of another layout is refused."""


def shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a network with so many hidden units, in the order in which they are packed."""
    return {
        "bias": (hidden,),
        "features": (hidden, INPUTS),
        "out": (hidden,),
        "straight": (INPUTS,),  # past the hidden layer
        "offset": (1,),
    }
