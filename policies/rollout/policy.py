"""The policy `rollout`: it tries its candidates in simulated futures and takes the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmsched.policies.network.settings import OVERDUE_BATCH_FACTOR, OVERDUE_FACTOR
from llmsched.policies.parameters import Value, number
from llmsched.policies.registry import Floats, Function, policy
from llmsched.policies.rollout.places import MEMORY, packed
from llmsched.policies.rollout.seen import look, took
from llmsched.policies.rollout.trials import choose, list_candidates, try_all, write_rule
from llmsched.policies.sources import sources_of
from llmsched_env.config import SimConfig

MOST_CANDIDATES = 64


def build_function(sources: str) -> Function:
    """The decide function; ``sources`` says which source it was compiled from (policies.network.policy)."""

    def rollout(record, params, memory, rng):
        """The decision after which fewest requests miss, tried in simulated futures (slow; docs/results/rollout.md)."""
        sources  # noqa: B018
        look(record, memory)
        bins = record.num_bins
        weights, sizes = np.ones(bins), np.ones(bins, np.int64)
        best = write_rule(record, params, memory, weights, sizes)
        if best < 0:
            best = record.overdue if record.overdue >= 0 else bins
            return best, record.target[best]
        choices, takes = np.empty(MOST_CANDIDATES, np.int64), np.empty(MOST_CANDIDATES, np.int64)
        count, chosen = list_candidates(record, best, sizes, choices, takes), 0
        if count > 1:
            costs = try_all(record, params, memory, rng, choices[:count], takes[:count], weights, sizes)
            chosen = choose(params, costs)
        took(record, memory, choices[chosen], takes[chosen])
        return choices[chosen], takes[chosen]

    return rollout


def adapt(config: SimConfig, values: Mapping[str, Value]) -> SimConfig:
    """``config`` with first come first served bins and the overdue queue that `network` sets."""
    queueing = replace(
        config.queueing,
        discipline="fifo",
        overdue_factor=OVERDUE_FACTOR["batch"],
        overdue_batch_factor=OVERDUE_BATCH_FACTOR,
    )
    return replace(config, queueing=queueing)


def load(values: Mapping[str, Value], config: SimConfig) -> tuple[Floats, int]:
    """(parameters (P,), numbers of memory)."""
    numbers = [float(values[name] or 0) for name in ("futures", "ahead", "power", "caution", "soft")]
    return packed(adapt(config, values), numbers), MEMORY


policy(
    "rollout",
    engines=("batch",),
    params={
        "futures": number(32, 2, 1000, whole=True),
        "ahead": number(2, 0.1, 10),
        "power": number(0.3, 0, 2),
        "caution": number(2, 0, 10),
        "soft": number(0.1, 0.001, 1),
    },
    adapt=adapt,
    load=load,
    details=True,
)(build_function(sources_of(Path(__file__).parent)))
