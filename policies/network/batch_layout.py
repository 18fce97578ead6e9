"""What the network of the engine `batch` reads, which weights it has, and what its scores mean.

The network scores every choice (a bin, `any`, or the overdue queue) with every batch size, and waiting.  T is
the deadline of the SLO.  The inputs are computed in llmsched.policies.network.batch_features.
"""

from __future__ import annotations

from typing import Any

from llmsched_env.core.view.observation import GLOBAL, PER_BIN

SHARED = len(GLOBAL)
"""Entries of the observation that exist once."""

OWN = len(PER_BIN)
"""Entries of the observation that every choice has."""

DERIVED = (
    "on_time",  # share of the waiting requests that a full batch launched now would complete in time
    "hits_per_time",  # their number per T of service time, log2(1 + x) / 10
    "batch",  # requests in a full batch, log2(1 + x) / 7
    "time_per_request",  # service time of a full batch / its requests, in % of T, log2(1 + x) / 10
    "slack_near",  # slack in T, clipped to -1 to 1
    "due",  # 1 when no slack is left, 0 from 0.2 T on (logistic)
    "due_soon",  # the same around 0.3 T, less steep
    "share",  # waiting requests of this choice / all waiting requests
    "any",  # 1 for the choice `any`
)
"""Inputs computed from the entries of a choice."""

SIZED = (
    "part",  # share of the choice's waiting requests that the batch takes
    "size",  # requests in the batch, log2 / 7
    "all",  # 1 when the batch takes all of them
    "target",  # 1 when the size is the controllers' target
    "on_time",  # share of the batch that would complete in time (batch_features.FIXED_SHARE)
    "hits_per_time",  # their number per T of service time, log2(1 + x) / 10
    "hits",  # their number, log2(1 + x) / 7
    "time",  # service time of the batch, x / (x + T)
)
"""Inputs computed from a batch size of a choice."""

SIZES = len(SIZED)
"""Inputs of a batch size."""

CHOICE = OWN + len(DERIVED)
"""Inputs of a choice: its entries of the observation, then DERIVED."""

CONTEXT = SHARED + 2 * CHOICE
"""Inputs that all choices share: the entries that exist once, then the largest and the mean of each input of a choice,
over the bins, or the overdue queue, that hold requests."""

SERVED = [name for name, *_ in PER_BIN].index("served")
"""Place, among the inputs of a choice, of the entry that is 1 when requests wait there."""

OVERDUE = [name for name, *_ in PER_BIN].index("overdue")
"""Place of the entry that is 1 for the overdue queue, and for `any` when it stands for the overdue queue."""

LAYOUT: dict[str, Any] = {
    "global": [f"{name} [{unit}] {scale}" for name, _, unit, scale in GLOBAL],
    "per_bin": [f"{name} [{unit}] {scale}" for name, _, unit, scale in PER_BIN],
    "derived": list(DERIVED),
    "sized": list(SIZED),
    "actions": "wait; then for every bin, any, the overdue queue: 1, 2, 4, ... below max_batch, max_batch, target",
}
"""The description that a checkpoint carries in its JSON; a checkpoint with another one is refused."""


def shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a network with ``hidden`` hidden units, in the order in which they are packed."""
    return {
        "bias": (hidden,),  # hidden layer of a choice with a size
        "context": (hidden, CONTEXT),
        "choice": (hidden, CHOICE),
        "size": (hidden, SIZES),
        "out": (hidden,),
        "straight": (CHOICE + SIZES,),  # past the hidden layer
        "wait_bias": (hidden,),  # hidden layer of waiting
        "wait_context": (hidden, CONTEXT),
        "wait_out": (hidden,),
        "wait_straight": (CONTEXT,),
        "wait_offset": (1,),
    }
