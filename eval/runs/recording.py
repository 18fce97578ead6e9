"""A run decision by decision: the record that the policy was given, and whether its decision was to wait."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.runner import Cell
from llmsched_env.config import SimConfig
from llmsched_env.core.layout import BAD_BIN, BAD_SIZE, DECIDE, RECORD
from llmsched_env.requests import Requests
from llmsched_env.simulation.compiled_calls import call_compiled
from llmsched_env.simulation.metrics import seen_by_clients
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import Simulator, log_rows, policy_failure
from llmsched_env.workload.streams import streams


@dataclass(frozen=True)
class Recording:
    """A run and its D decisions: ``free`` (D,), servers; ``waited`` (D,), whether the decision was to wait; and, where
    they were kept, ``records`` (D,) layout.RECORD and ``memories`` (D, M), the policy's memory before the decision."""

    result: RunResult
    free: NDArray[np.int64]
    waited: NDArray[np.bool_]
    records: NDArray
    memories: NDArray[np.float64]


def record_run(cell: Cell, requests: Requests, *, keep: bool = False) -> Recording:
    """The run of ``cell`` one decision at a time, batches logged; ``keep``: with the records.

    Bit by bit the run of runs.runner; only the costly fields of the record are always written.
    """
    ready = cell.policy.ready(cell.scenario.config)
    config = ready.config
    rngs = streams(cell.seed, cell.split)
    simulator = Simulator(config, len(requests), log=log_rows(config, len(requests)), gaps=True)
    warmup = cell.scenario.workload.warmup
    simulator.load(0, requests, noise_key=int(rngs["noise"].integers(2**63)), warmup=warmup)
    memory, lane, row = np.zeros(max(1, ready.memory_size)), simulator.lane[0], simulator.record
    run, asked = simulator.engine.run_lane, (ready.decide, np.asarray(ready.params), memory, rngs["policy"])
    free, waited, records, memories = [], [], [], []
    waits = 0
    while True:
        before = memory.copy() if keep else memory
        try:
            status, _, _ = call_compiled(run, simulator.arrays, row, *asked, True, 1)
        except Exception as error:
            raise policy_failure(error, float(lane["now"])) from None
        if status != DECIDE:
            break
        free.append(int(row[0]["free_servers"]))
        waited.append(int(lane["counts"]["waits"]) > waits)
        waits = int(lane["counts"]["waits"])
        if keep:
            records.append(row[0].copy())
            memories.append(before)
    if status in (BAD_BIN, BAD_SIZE):
        raise ValueError(f"{cell.label}: the policy answered a bin or a size that does not exist.")
    return Recording(
        simulator.result(warmup=warmup),
        np.array(free, np.int64),
        np.array(waited, np.bool_),
        np.array(records, RECORD),
        np.array(memories, np.float64).reshape(len(memories), len(memory)),
    )


@dataclass(frozen=True)
class Sharing:
    """How a run divided its servers, by bin, and last for the overdue queue where there is one (queues,).

    ``time``, share of all server time; mean ``batch`` (NaN: none); ``missed`` (K,), share of the requests whose
    predicted length belongs there (NaN: none).  A batch of `any` counts in the bins of its members, in proportion.
    """

    time: NDArray[np.float64]
    batch: NDArray[np.float64]
    missed: NDArray[np.float64]


def sharing_of(result: RunResult) -> Sharing:
    """The sharing of a run whose batches were logged."""
    batches, weights = result.batches, batch_weights(result)
    spent = weights.T @ (batches["end"] - batches["start"])
    number = weights.sum(axis=0)
    with np.errstate(invalid="ignore"):
        batch = weights.T @ batches["size"] / number
    whole = float(result.lane["now"]) * len(result.servers)
    return Sharing(spent / whole, batch, missed_by_length(result))


def batch_weights(result: RunResult) -> NDArray[np.float64]:
    """The share of every batch that belongs to every bin, and last to the overdue queue where there is one, (batches,
    queues)."""
    queueing, batches, requests = result.config.queueing, result.batches, result.requests
    bins, queues = queueing.num_bins, queueing.num_queues
    weights = np.zeros((len(batches), queues))
    served = requests[requests["batch"] >= 0]
    np.add.at(weights, (served["batch"], served["bin"]), 1.0)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    chosen = batches["choice"]
    own = chosen != bins
    weights[own] = np.eye(queues)[np.minimum(chosen[own], bins)]
    return weights


def missed_by_length(result: RunResult) -> NDArray[np.float64]:
    """The share of the scored requests of every bin of predicted length that missed their SLO, (num_bins,)."""
    scored = result.requests[result.warmup :]
    _, met = seen_by_clients(scored, result.config)
    queueing = result.config.queueing
    place = np.searchsorted(np.asarray(queueing.edges), scored["predicted"], side="right")
    arrived = np.bincount(place, minlength=queueing.num_bins)
    with np.errstate(invalid="ignore"):
        return np.bincount(place, weights=~met, minlength=queueing.num_bins) / arrived


def bin_names(config: SimConfig) -> list[str]:
    """Names of the queues of ``config`` as they stand in legends: predicted output tokens of every bin, then the
    overdue queue where there is one."""
    bounds = [0, *config.queueing.edges]
    names = [f"{low} to {high - 1}" for low, high in pairwise(bounds)]
    names.append(f"{bounds[-1]} and more" if len(bounds) > 1 else "all")
    return names + ["overdue"] * config.queueing.has_overdue
