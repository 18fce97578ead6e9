"""Engine `batch`: what it asks of a configuration, and the object by which the rest of the project knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import IN_SERVICE, NONE
from llmsched_env.engines.engine import Engine

if TYPE_CHECKING:
    from llmsched_env.config import SimConfig


def check(config: SimConfig) -> None:
    """``ValueError`` for what only another engine can do."""
    if config.queueing.discipline == "oracle-srpt":
        raise ValueError("discipline='oracle-srpt' preempts between iterations: give engine='continuous'.")


def usable_tokens(eta: float) -> float:
    """All of the KV memory."""
    return eta


def groups(config: SimConfig) -> int:
    """One set of bins, which all servers share."""
    return 1


def blocks(config: SimConfig) -> int:
    """No prefix cache."""
    return 0


def set_size(config: SimConfig) -> int:
    """No running sets."""
    return 0


def parameters(config: SimConfig) -> dict[str, Any]:
    """No constants of its own."""
    return {}


def in_service(rows: NDArray, servers: NDArray) -> NDArray[np.bool_]:
    """Members of batches that have not ended (their status stays IN_SERVICE after the end, which touches no member)."""
    numbers = servers["batch"]["number"]
    return (rows["status"] == IN_SERVICE) & np.isin(rows["batch"], numbers[numbers != NONE])


ENGINE = Engine(
    name="batch",
    env_id="LLMSched-v0",
    log_rows=2,
    logs_batches=True,
    asks_busy=False,
    routes=False,
    stamps_ahead=True,
    cache_entries=(),
    entries=(),
    check=check,
    usable_tokens=usable_tokens,
    groups=groups,
    set_size=set_size,
    blocks=blocks,
    parameters=parameters,
    in_service=in_service,
)
