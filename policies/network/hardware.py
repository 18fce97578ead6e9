"""What the network of the engine `continuous` is told about the hardware, beside its weights.

The numbers follow the packed weights: the tokens of an iteration, then the time of a prompt token on every server.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network.settings import adapt_continuous, prompt_token_s
from llmsched_env.config import SimConfig

MOST_TOKENS = 1e9
"""Tokens of an iteration without a limit."""


def with_hardware(packed: NDArray[np.float64], config: SimConfig, budget: float | None = None) -> NDArray[np.float64]:
    """The numbers (P,) of a run in the system ``config``: ``packed`` weights, in `continuous` with the hardware's.

    ``budget``: tokens of an iteration where they are given.
    """
    if config.engine != "continuous":
        return packed
    tokens = min(adapt_continuous(config, budget).continuous.token_budget, MOST_TOKENS)
    return np.concatenate([packed, [tokens], [prompt_token_s(server) for server in config.servers]])
