"""Traps: requests that do not fit, admission by true lengths, records that know the truth, bins, windows, timers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_env.config import Queueing, Server, SimConfig
from llmsched_env.core.layout import COMPLETED, DROPPED, REJECTED
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.simulator import Simulator
from llmsched_env.workload import Workload
from tests.simulator.traps.tools import H100, IDEAL, run

# ---- admission


@pytest.mark.parametrize("policy", ["static", "dynamic", "multibin", "multibin-fixed:batch=4", "sjf"])
def test_an_oversized_request_at_the_head_loses_nobody(policy: str) -> None:
    """In the peer one request above the memory at the head of the queue lost 1,900 of 2,000 others."""
    rng = np.random.default_rng(3)
    n = 2000
    prompt, output = rng.integers(10, 300, n), rng.integers(10, 200, n)
    prompt[[0, 500]] = 5000  # larger than any server: rejected
    prompt[[1, 501]], output[[1, 501]] = 3990, 500  # enters alone, outgrows the memory alone: dropped
    predicted = output.copy()
    predicted[[2, 502]] = 10_000  # only believed to be too large: served
    requests = Requests.checked(np.linspace(0.0, 10.0, n), prompt, output, predicted)
    config = SimConfig((Server(H100, 3000.0), Server(H100, 4000.0)), Queueing((50, 100, 150)))
    result = run(config, requests, policy)
    status = result.requests["status"]
    assert status[[0, 500]].tolist() == [REJECTED] * 2
    assert status[[1, 501]].tolist() == [DROPPED] * 2
    assert (np.delete(status, [0, 1, 500, 501]) == COMPLETED).all()
    assert summarize(result)["submitted"] == n


def test_admission_goes_by_the_prediction_not_by_the_truth() -> None:
    """Who is let in may depend on what was predicted, and on nothing else: the peer packed by true lengths."""
    n = 64
    prompt, ones = np.full(n, 100), np.ones(n, int)

    def first_batch(output: NDArray[np.int64], predicted: NDArray[np.int64]) -> int:
        requests = Requests.checked(np.zeros(n), prompt, output, predicted)
        return int(run(SimConfig((Server(H100, 3000.0),)), requests, "static:batch=64").batches["size"][0])

    assert first_batch(50 * ones, 200 * ones) == first_batch(400 * ones, 200 * ones) == 10
    assert first_batch(50 * ones, 50 * ones) == first_batch(400 * ones, 50 * ones) == 20


def test_the_record_does_not_know_the_truth() -> None:
    """Whatever the true outputs are, the first decision of every scheduler sees the same record."""
    n = 64
    seen = []
    for output in (5, 500):
        requests = Requests.checked(np.zeros(n), np.full(n, 100), np.full(n, output), np.arange(1, n + 1))
        config = SimConfig((Server(H100, 9000.0),) * 2, Queueing((20, 40)))
        simulator = Simulator(config, n)
        simulator.load(0, requests)
        with pytest.raises(ValueError, match="bin 99"):  # stopped at its second decision
            simulator.run(STOP, np.zeros(1), np.zeros(1), np.random.default_rng(0), details=True)
        seen.append(simulator.record[0].copy())
    for name in seen[0].dtype.names:
        if name not in ("last_size", "server_batches"):  # where the kernel leaves the refused answer
            assert seen[0][name].tobytes() == seen[1][name].tobytes(), name


def stop(record, params, memory, rng):
    """One batch of ten, then an answer that is refused."""
    memory[0] += 1
    return (record.num_bins, 10) if memory[0] == 1 else (99, 1)


STOP = compile_policy(stop)


def test_a_prediction_below_the_first_edge_is_of_the_first_bin() -> None:
    """It fell into the last one, among the longest."""
    predicted = [1, 63, 64, 65, 255, 256, 10**6]
    n = len(predicted)
    requests = Requests.checked(np.arange(n, dtype=float), np.ones(n, int), np.ones(n, int), predicted)
    result = run(SimConfig((Server(IDEAL),), Queueing((64, 256))), requests, "multibin")
    assert result.requests["bin"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert result.batches["choice"].tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_fixed_batch_is_cut_to_the_memory() -> None:
    """Without a memory check a batch of 128 "wins": 51 % of the peer's batches held more than the GPU."""
    workload = Workload("azure-conv", requests=5000, rate=5.0)
    result = run(SimConfig((Server(H100, 20_000.0),)), workload.draw(4), "static:batch=128")
    assert result.batches["kv_peak"].max() <= 20_000.0
    assert result.batches["size"].max() < 128
    assert result.counts["completed"] == 5000


# ---- a window never overwrites a running batch


def test_a_window_does_not_overwrite_a_running_batch() -> None:
    """In a public engine it did, and its requests were gone: 4 of 15 served, in the mean."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        arrival = np.cumsum(rng.integers(1, 6, 15)).astype(float)
        output = rng.integers(1000, 20_000, 15)  # 1 to 20 s; the window is 5 s
        requests = Requests.checked(arrival, np.ones(15, int), output)
        result = run(SimConfig((Server(IDEAL),)), requests, "window:every=5000")
        assert (result.requests["status"] == COMPLETED).all()
        assert (result.batches["start"][1:] >= result.batches["end"][:-1]).all()
        waits = result.requests["dispatch"] % 5.0
        assert (waits[result.requests["dispatch"] < arrival[-1]] == 0.0).all()


def test_a_timer_is_due_at_the_sum_not_at_the_age() -> None:
    """0.7 s + 0.1 s is 0.7999999999999999 s: the age is below 0.1 s, and a policy that compares it waits for ever."""
    assert (0.7 + 0.1) - 0.7 < 0.1
    requests = Requests.checked([0.7, 9.0], [1, 1], [1, 1])
    result = run(SimConfig((Server(IDEAL),)), requests, "timeout:batch=4:wait=100")
    assert result.requests["dispatch"].tolist() == [0.7 + 0.1, 9.0 + 0.1]
    assert result.counts["decisions"] == 4
