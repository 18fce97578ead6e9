"""What the policy `rollout` is given and keeps: places in its parameters and in its memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core.constants import LAW_NUMBERS, MAX_BINS, MAX_SERVERS
from llmsched_env.simulation.templates import hardware_rows

FUTURES, AHEAD, POWER, CAUTION, SOFT, OVERHEAD, TARGET, FACTOR, BATCH_FACTOR, SERVERS = range(10)
"""Places of the parameters; behind them, per server, the form, whether lengths count prompts, memory, then the law."""

HEAD = SERVERS + 1
ROW = 3 + LAW_NUMBERS
"""Numbers of a server."""

SCALE_S = 30.0
"""Target (s) where the SLO has no E2E target."""

KEPT = 64
"""Requests whose lengths are kept per bin."""

LAST_HEAD, LAST_LENGTH, TAKEN, ARRIVED, SEEN, TIME, RATIO = range(7)
"""Numbers that are kept per bin: number of the last head, waiting requests at the last decision, how many of them it
took, arrivals so far (old ones count less), heads so far, time of a large batch in s, measured / predicted time of
batches (minus 1).  Behind them (prompt, predicted output) of KEPT heads."""

FIRST_KEPT = RATIO + 1
BIN_ROW = FIRST_KEPT + 2 * KEPT

BIN, EXPECTED, BATCHES = range(3)
"""Numbers that are kept per server: 1 + the bin of its batch (0: not known), the predicted time of the batch in s, and
the batches that the server had completed when it began."""

OF_SERVERS = MAX_BINS * BIN_ROW
SERVER_ROW = 3
MEMORY = OF_SERVERS + MAX_SERVERS * SERVER_ROW


def packed(config: SimConfig, numbers: list[float]) -> NDArray[np.float64]:
    """The parameters (P,) of a run: ``numbers`` from FUTURES to SOFT, then what is known of ``config``."""
    queueing, target_s = config.queueing, config.slos[0].e2e_s
    if not math.isfinite(target_s):
        target_s = SCALE_S
    own = [config.overhead_s, target_s, queueing.overdue_factor, queueing.overdue_batch_factor, len(config.servers)]
    rows = hardware_rows(config)
    servers = [np.concatenate([[row["form"], row["total_length"], row["eta"]], row["c"]]) for row in rows]
    return np.concatenate([numbers, own, *servers])


class Law(NamedTuple):
    """A server as core.latency reads it: the fields of layout.HARDWARE of the same names."""

    form: int
    total_length: bool
    eta: float
    c: NDArray[np.float64]


@njit
def law_of(params, server):
    """The Law of a server."""
    at = HEAD + server * ROW
    return Law(int(params[at]), params[at + 1] == 1.0, params[at + 2], params[at + 3 : at + ROW])
