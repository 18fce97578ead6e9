"""What every scheduler decides: on records filled by hand, and in whole runs."""

from __future__ import annotations

import builtins
import math
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from numba import config as numba_config
from numpy.typing import NDArray

from llmsched.policies import Bound, get, names, parse
from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.core.layout import COMPLETED, RECORD
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from tests.oracles import reference

EVERY = (
    *("static", "dynamic", "multibin", "multibin-fixed", "timeout", "adaptive-memory", "window", "priority"),
    *("longest-queue", "sjf", "edf", "least-slack", "aimd", "random", "oracle-sjf", "weighted-queue"),
)
CONTINUOUS = ("fcfs", "sarathi", "iterative", "oracle-srpt")
"""Those of the engine `continuous` alone."""
STAMPS = ("dispatch", "first_token", "last_token", "completion")
SERVER = Server(load_profile("h100-80gb_llama2-70b_tp4"))


class Asked:
    """A policy with its memory and stream, asked about records that are filled by hand."""

    def __init__(self, text: str, memory: int | None = None, seed: int = 0) -> None:
        self.bound = parse(text)
        self.ready = self.bound.ready(SimConfig((SERVER,), engine=self.bound.policy.engines[0]))
        self.memory = np.zeros(max(1, self.ready.memory_size if memory is None else memory))
        self.rng = np.random.default_rng(seed)

    def __call__(self, lengths: tuple[int, ...] = (1,), **fields) -> tuple[int, int]:
        """The answer where bin k holds ``lengths[k]`` requests; heads get older from bin to bin unless given."""
        k = len(lengths)
        row = np.zeros(1, RECORD)
        row["late_bin"] = -1
        values = {
            "num_bins": k,
            "max_batch": 128,
            "can_wait": 1,
            "waiting": sum(lengths),
            "queue_length": (*lengths, sum(lengths)),
            "head_number": [-1 if n == 0 else 100 - i for i, n in enumerate(lengths)],
            "target": range(10, 10 * (k + 2), 10),
            **fields,
        }
        for name, value in values.items():
            if RECORD[name].shape:
                row[name][0, : len(value)] = value
            else:
                row[name] = value
        record = row.view(np.recarray)[0] if numba_config.DISABLE_JIT else row[0]
        choice, size = self.ready.decide(record, self.ready.params, self.memory, self.rng)
        return int(choice), int(size)


# One policy at a time -------------------------------------------------------------------------------------------


def test_static_and_dynamic() -> None:
    assert Asked("static")((3, 1)) == (2, 8)
    assert Asked("static:batch=16")((3, 1)) == (2, 16)
    assert Asked("dynamic")((3, 1)) == (2, 30)


def test_multibin_round_robin() -> None:
    ask = Asked("multibin")
    assert [ask(lengths) for lengths in ((1, 0, 1, 1), (1, 1, 1, 1), (1, 1, 0, 1), (1, 1, 0, 0), (1, 0, 0, 0))] == [
        (0, 10),
        (1, 20),
        (3, 40),
        (0, 10),
        (0, 10),
    ]


def test_multibin_longest_and_oldest() -> None:
    ask = Asked("multibin:select=longest:cap=15")
    assert [ask((2, 5, 1)), ask((0, 1, 4)), ask((0, 4, 4))] == [(1, 15), (2, 15), (2, 15)]
    assert ask((4, 4, 4), head_number=(7, 5, 9)) == (1, 15)
    ask = Asked("multibin:select=oldest")
    assert [ask((9, 1, 0)), ask((9, 1, 1), head_number=(3, 8, 5))] == [(1, 20), (0, 10)]


def test_longest_queue() -> None:
    ask = Asked("longest-queue")
    assert [ask((0, 1, 2)), ask((0, 3, 2)), ask((0, 3, 3)), ask((3, 3, 0), head_number=(4, 6, -1))] == [
        (2, 30),
        (1, 20),
        (2, 30),
        (0, 10),
    ]


def test_weighted_queue() -> None:
    ask = Asked("weighted-queue:power=1")
    assert ask.bound.details
    assert ask((4, 3, 0), batch_time=(2.0, 3.0, 0.0)) == (1, 20)
    assert ask((4, 2, 0), batch_time=(2.0, 3.0, 0.0)) == (0, 10)
    assert ask((3, 2, 1), batch_time=(2.0, 3.0, 6.0), head_number=(5, 3, 4)) == (1, 20)
    assert Asked("weighted-queue:power=0")((3, 4, 0), batch_time=(9.0, 1.0, 0.0)) == (1, 20)


def test_least_slack() -> None:
    ask = Asked("least-slack")
    assert ask.bound.details
    assert ask((1, 1, 0), slack=(2.0, 3.0, -9.0)) == (0, 10)
    assert ask((1, 1, 1), slack=(2.0, -3.0, math.inf)) == (1, 20)
    assert ask((1, 1, 1), slack=(2.0, 2.0, 2.0), head_number=(5, 3, 4)) == (1, 20)
    assert ask((1, 1, 1), slack=(math.inf,) * 3, head_number=(5, 4, 3)) == (2, 30)


@pytest.mark.parametrize("name", ["sjf", "edf", "oracle-sjf"])
def test_orders(name: str) -> None:
    ask = Asked(name)
    assert [ask((2, 2)), Asked(f"{name}:batch=5")((2, 2))] == [(2, 30), (2, 5)]
    assert ask.bound.configure(SimConfig((SERVER,))).queueing.discipline == name
    assert ask.bound.clairvoyant == name.startswith("oracle-")


def test_timeout_compares_the_sum() -> None:
    ask = Asked("timeout")
    assert ask((4,), now=0.0) == (1, 4)
    assert ask((3,), now=0.0) == (1, 0)
    assert ask((3,), now=0.0, can_wait=0) == (1, 4)
    arrivals = np.random.default_rng(0).uniform(0.0, 3.0, 200)
    assert (arrivals + 0.5 - arrivals < 0.5).any()  # there the age would be too small at the timer
    for arrival in arrivals:
        due = arrival + 0.5
        assert ask((3,), now=due, oldest_arrival=arrival) == (1, 4)
        assert ask((3,), now=math.nextafter(due, 0.0), oldest_arrival=arrival) == (1, 0)
    assert Asked("timeout")((2,), now=0.0, max_batch=2) == (1, 2)


def test_window() -> None:
    ask = Asked("window:every=2000")
    assert [ask((3,)), ask((3,), at_tick=1), ask((3,), can_wait=0)] == [(1, 0), (1, 128), (1, 128)]
    assert ask.bound.configure(SimConfig((SERVER,))).queueing.tick_s == 2.0


def test_priority() -> None:
    bound = parse("priority:sequences=6:tokens=300:wait=700")
    assert Asked("priority:sequences=6")((9,)) == (1, 6)
    assert bound.configure(SimConfig((SERVER,))).queueing == Queueing(
        discipline="priority", max_tokens=300.0, max_wait_s=0.7
    )


def test_multibin_fixed_serves_in_the_order_of_formation() -> None:
    ask = Asked("multibin-fixed:batch=4")
    assert ask((3, 3, 0)) == (3, 0)
    assert ask((3, 4, 0)) == (1, 4)  # formed while a server is free: served at once
    assert ask((4, 0, 7)) == (2, 4)  # both formed while all were busy: the older head
    assert ask((4, 8, 3)) == (0, 4)  # bin 0 formed before bin 1
    assert ask((4, 8, 4)) == (1, 4)
    assert ask((4, 4, 4)) == (1, 4)  # bin 1's second was there before those of bins 0 and 2
    assert ask((4, 4, 4)) == (2, 4)  # 0 and 2 were seen together: the older head; bin 1's third comes behind them
    assert ask((4, 4, 0)) == (0, 4)
    assert ask((3, 4, 3)) == (1, 4)
    assert ask((3, 3, 3)) == (3, 0)
    assert ask((3, 0, 3), can_wait=0, head_number=(8, -1, 9)) == (0, 4)


def test_multibin_fixed_with_a_full_ring() -> None:
    ask = Asked("multibin-fixed:batch=2", memory=2 + 2 + 3)  # room for three batches
    lengths = [4, 6]
    served = []
    for _ in range(5):
        choice, size = ask(tuple(lengths))
        served.append(choice)
        lengths[choice] -= size
    assert served == [1, 0, 1, 1, 0]
    assert not ask.memory[[1, 2, 3]].any()
    assert ask((1, 1)) == (2, 0)


def test_multibin_fixed_is_bounded_by_the_largest_batch() -> None:
    assert Asked("multibin-fixed:batch=64")((5, 8), max_batch=8) == (1, 8)


def test_adaptive_memory() -> None:
    ask = Asked("adaptive-memory:start=8:min=7:max=10:threshold=0.5")
    assert ask((7,)) == (1, 0)
    assert ask((8,)) == (1, 8)
    assert ask((8,), server=1) == (1, 8)
    used = {"last_kv_share": 0.5}
    assert ask((20,), server_batches=1) == (1, 10)
    assert ask((20,), server_batches=1) == (1, 10)  # the same batch is not counted twice
    assert ask((20,), server_batches=2) == (1, 10)
    assert ask((20,), server_batches=3, **used) == (1, 9)
    assert ask((20,), server=1, server_batches=1, **used) == (1, 7)
    assert ask((20,), server=1, server_batches=2, **used) == (1, 7)
    assert ask((1,), now=6.5, oldest_arrival=4.5) == (1, 9)
    assert ask((1,), now=6.5, oldest_arrival=4.6) == (1, 0)
    assert ask((1,), can_wait=0) == (1, 9)
    assert ask((5,), max_batch=5) == (1, 5)


def test_aimd() -> None:
    ask = Asked("aimd:share=0.5")
    met, missed = {"slo_e2e": 4.0, "last_service": 2.0}, {"slo_e2e": 4.0, "last_service": 2.1}
    assert ask(slo_e2e=4.0) == (1, 1)
    assert [ask(server_batches=n, **met)[1] for n in range(1, 11)] == list(range(2, 12))
    assert ask(server_batches=10, **missed) == (1, 11)  # the same batch is not counted twice
    assert [ask(server_batches=n, **missed)[1] for n in (11, 12)] == [9, 8]  # 11, 9.9, 8.91
    assert ask(server=3, server_batches=1, **missed) == (1, 1)
    assert ask(server_batches=13, max_batch=4, **met) == (1, 4)
    absolute = Asked("aimd:objective=1000")
    assert absolute(server_batches=1, slo_e2e=0.1, last_service=1.0) == (1, 2)
    assert absolute(server_batches=2, slo_e2e=9.0, last_service=1.1) == (1, 1)
    assert Asked("aimd")(server_batches=1, slo_e2e=math.inf, last_service=99.0) == (1, 2)


def test_random_is_uniform_over_what_is_there() -> None:
    ask = Asked("random")
    drawn = np.array([ask((1, 0, 2, 0), max_batch=3) for _ in range(9000)])
    choices, counts = np.unique(drawn[:, 0], return_counts=True)
    assert choices.tolist() == [0, 2, 4]
    assert counts.min() > 2800  # 3000 expected, standard deviation 45
    sizes, counts = np.unique(drawn[:, 1], return_counts=True)
    assert sizes.tolist() == [1, 2, 3]
    assert counts.min() > 2800


def test_random_draws_from_its_stream_only() -> None:
    before = str(np.random.get_state())  # noqa: NPY002  (it must not move)
    ask, again, other = Asked("random", seed=0), Asked("random", seed=0), Asked("random", seed=1)
    runs = [[policy((4, 4, 4)) for _ in range(20)] for policy in (ask, again, other)]
    assert runs[0] == runs[1] != runs[2]
    assert str(np.random.get_state()) == before  # noqa: NPY002
    assert ask.rng.bit_generator.state == again.rng.bit_generator.state != np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize("name", [name for name in EVERY if name != "random"])
def test_the_others_draw_nothing(name: str) -> None:
    ask = Asked(name)
    for now in (0.0, 5.0):
        ask((9, 9), now=now)
    assert ask.rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


# Whole runs ------------------------------------------------------------------------------------------------------


def requests(n: int = 500, gap_s: float = 0.3, seed: int = 1) -> Requests:
    """Poisson arrivals, lognormal lengths, noisy predictions, two classes."""
    rng = np.random.default_rng(seed)
    output = np.maximum(1, rng.lognormal(5.0, 0.8, n)).astype(int)
    return Requests.checked(
        np.cumsum(rng.exponential(gap_s, n)),
        np.maximum(1, rng.lognormal(6.0, 0.8, n)).astype(int),
        output,
        np.maximum(1, np.rint(output * np.exp(0.3 * rng.standard_normal(n)))).astype(int),
    )


def config(servers: int = 1, edges: tuple[int, ...] = (100, 150, 250), **fields) -> SimConfig:
    """Servers of one kind with four bins."""
    server = Server(SERVER.profile, fields.pop("kv_tokens", None))
    return SimConfig((server,) * servers, Queueing(edges), controller=Controller(tbt_s=0.05), **fields)


def run(bound: Bound, config: SimConfig, requests: Requests, seed: int = 0) -> RunResult:
    """One run of a policy."""
    rng = np.random.default_rng(seed)
    ready = bound.ready(config)
    return simulate(ready.config, requests, ready.decide, rng=rng, log_batches=True, **ready.options)


def stamps(result: RunResult) -> NDArray[np.float64]:
    """All stamps of all requests, (4, N)."""
    return np.stack([result.requests[name] for name in STAMPS])


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("name", EVERY)
def test_no_policy_deadlocks(name: str, servers: int) -> None:
    """500 requests, with memory to spare and without, bins that fill and one queue: all come to an end."""
    for fields in ({}, {"kv_tokens": 9000.0}, {"edges": ()}, {"max_batch": 3}, {"edges": (1, 10**6, 10**7)}):
        result = run(parse(name), config(servers, **fields), requests())
        assert result.lane["completed"] + result.lane["rejected"] + result.lane["dropped"] == 500
        assert result.lane["completed"] >= 490
        assert result.lane["empty_choices"] == 0


@pytest.mark.parametrize("name", EVERY)
def test_a_single_request(name: str) -> None:
    """The smallest workload, where nothing can be waited for."""
    assert run(parse(name), config(), requests(1)).lane["completed"] == 1


@pytest.mark.parametrize("kv_tokens", [None, 9000.0])
@pytest.mark.parametrize("text", ["multibin", "multibin:select=longest", "multibin:select=oldest", "longest-queue"])
def test_one_bin_is_one_queue(text: str, kv_tokens: float | None) -> None:
    """With K = 1 a multi-bin policy equals `dynamic` bit for bit."""
    scenario = config(2, edges=(), kv_tokens=kv_tokens)
    ours, plain = (run(parse(name), scenario, requests()) for name in (text, "dynamic"))
    assert stamps(ours).tobytes() == stamps(plain).tobytes()
    assert len({int(size) for size in plain.batches["size"]}) > 3  # not a trivial run


def test_longest_queue_is_multibin_longest() -> None:
    ours, theirs = (run(parse(name), config(2), requests()) for name in ("longest-queue", "multibin:select=longest"))
    assert stamps(ours).tobytes() == stamps(theirs).tobytes()
    assert ours.batches.tobytes() == theirs.batches.tobytes()


def test_edf_with_one_class_is_fifo() -> None:
    for edges in ((), (100, 150, 250)):
        ours, fifo = (
            run(parse(name), config(2, edges, kv_tokens=9000.0), requests()) for name in ("edf:batch=8", "static")
        )
        assert stamps(ours).tobytes() == stamps(fifo).tobytes()


def test_edf_orders_by_the_deadline_that_a_policy_sees() -> None:
    """The smaller of the TTFT and E2E targets; who has neither comes last."""
    slos = (SLO(e2e_s=30.0, ttft_s=1.0, share=0.5), SLO(e2e_s=20.0, share=0.25), SLO(tpot_s=1.0, share=0.25))
    drawn = Requests.checked([0.0, 0.1, 0.2, 0.3], [9] * 4, [40] * 4, slo_class=[1, 2, 1, 0])
    rows = run(parse("edf:batch=1"), config(servers=1, slos=slos), drawn).requests
    assert list(np.argsort(rows["dispatch"])) == [0, 3, 2, 1]


def test_edf_with_two_classes_is_not() -> None:
    slos = (SLO(e2e_s=5.0, share=0.5), SLO(e2e_s=60.0, share=0.5, name="slow"))
    drawn = requests(gap_s=0.1)
    drawn = Requests.checked(
        drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens, drawn.predicted_tokens, np.arange(500) % 2
    )
    ours, fifo = (run(parse(name), config(slos=slos), drawn) for name in ("edf:batch=8", "static"))
    waits = [result.requests["dispatch"] - drawn.arrival_s for result in (ours, fifo)]
    assert waits[0][::2].mean() < 0.5 * waits[1][::2].mean()


def test_timeout_launches_at_arrival_plus_wait() -> None:
    """Requests too far apart to meet: each is launched alone, at the very sum."""
    drawn = requests(200, gap_s=60.0, seed=3)
    for text, wait_s in (("timeout", 0.5), ("timeout:wait=123.4", 123.4 / 1000.0), ("adaptive-memory", 2.0)):
        result = run(parse(text), config(2), drawn)
        due = drawn.arrival_s + wait_s
        lone = np.r_[True, np.diff(drawn.arrival_s) > 30.0] & np.r_[np.diff(drawn.arrival_s) > 30.0, False]
        assert lone.sum() > 50
        np.testing.assert_array_equal(result.requests["dispatch"][lone], due[lone])


def test_timeout_launches_a_full_batch_at_once() -> None:
    drawn = requests(80, gap_s=0.01)
    first = run(parse("timeout:batch=4:wait=60000"), config(), drawn).batches[0]
    assert (first["size"], first["start"]) == (4, drawn.arrival_s[3])


def test_window_launches_at_ticks() -> None:
    result = run(parse("window:every=700"), config(2), requests(200, gap_s=2.0))
    ticks = result.batches["start"][:-1] / 0.7  # the last batch finds nothing to wait for
    np.testing.assert_allclose(ticks, np.rint(ticks), atol=1e-9)
    assert len(ticks) > 50
    for server in (0, 1):  # never overwrites a running batch
        mine = result.batches[result.batches["server"] == server]
        assert (mine["start"][1:] >= mine["end"][:-1]).all()


def test_multibin_fixed_launches_full_batches_of_one_bin() -> None:
    result = run(parse("multibin-fixed:batch=8"), config(2), requests())
    sizes = result.batches["size"]
    assert (sizes == 8).sum() >= 60
    assert (sizes[sizes != 8] < 8).sum() <= 4
    assert (sizes[:-4] == 8).all()
    assert (result.batches["choice"] < 4).all()


def test_multibin_fixed_equals_the_exact_order_while_servers_are_free() -> None:
    """The reference sees the arrival that filled each batch; with servers to spare the policy must agree with it."""
    scenario = config(12)
    drawn = requests(gap_s=0.25)
    ours = run(parse("multibin-fixed:batch=4"), scenario, drawn)
    slow = reference.ReferenceSimulator(scenario, drawn, reference.multibin_fixed(4)).run()
    np.testing.assert_allclose(ours.requests["dispatch"], slow.dispatch, rtol=1e-9)


def test_adaptive_memory_adapts() -> None:
    """Where memory is short the size stays below what plenty of it allows."""
    drawn = requests(gap_s=0.05)
    short, plenty = (run(parse("adaptive-memory"), config(kv_tokens=kv), drawn) for kv in (6000.0, None))
    assert short.batches["size"][20:-1].mean() < 12
    assert (plenty.batches["size"][14:-1] == 32).all()


def test_priority_keeps_its_token_limit() -> None:
    drawn = requests(gap_s=0.05)
    result = run(parse("priority:tokens=600:wait=1e8"), config(), drawn)
    tokens = np.bincount(result.requests["batch"], weights=drawn.predicted_tokens)
    members = np.bincount(result.requests["batch"])
    assert (tokens[members > 1] <= 600).all()
    assert members.max() > 3
    impatient = run(parse("priority:tokens=600:wait=1"), config(), drawn)
    assert np.bincount(impatient.requests["batch"]).max() == 16


def test_clairvoyance_helps_and_is_marked() -> None:
    """Sorted by the truth, the mean latency is lowest; only the oracle may use it."""
    drawn = requests(gap_s=0.1)
    mean = {}
    for name in ("oracle-sjf", "sjf", "static"):
        bound = parse("static" if name == "static" else f"{name}:batch=8")
        rows = run(bound, config(), drawn).requests
        mean[name] = float((rows["completion"] - rows["arrival"])[rows["status"] == COMPLETED].mean())
    assert mean["oracle-sjf"] < mean["sjf"] < mean["static"]
    assert [name for name in names() if get(name).clairvoyant] == ["oracle-sjf", "oracle-srpt"]


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("oracle-")])
def test_nobody_peeks(name: str) -> None:
    """Other true lengths behind the same predictions leave every decision before the first completion as it was."""
    drawn = requests(60, gap_s=0.01)
    other = Requests.checked(
        drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens[::-1], drawn.predicted_tokens, drawn.slo_class
    )
    ours, theirs = (run(parse(name), config(2, horizon_s=2.0), requests) for requests in (drawn, other))
    before = min(ours.batches["end"].min(initial=2.0), theirs.batches["end"].min(initial=2.0))
    first, second = (result.batches[result.batches["start"] < before] for result in (ours, theirs))
    assert len(first) > 0
    for field in ("server", "choice", "start"):
        np.testing.assert_array_equal(first[field], second[field])


# The functions themselves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*EVERY, *CONTINUOUS])
def test_functions_stand_alone(name: str) -> None:
    """The compiled function is kept on disk and compared with its own file only: it may use nothing of ours beside."""
    policy = get(name)
    used = vars(sys.modules[policy.function.__module__])
    for word in policy.function.__code__.co_names:
        if word in used:
            assert isinstance(used[word], ModuleType), f"{word} lies in another file"
            assert used[word].__name__ in ("math", "numpy")
        else:
            assert hasattr(builtins, word) or word in (RECORD.names or ()) or word in ("random", "isfinite")


def test_importing_compiles_nothing_and_stays_below() -> None:
    """`import policies` compiles no scheduler and imports neither experiments nor training."""
    code = (
        "import sys\nfrom llmsched import policies\n"
        "assert not any('decide' in vars(policies.get(name)) for name in policies.names())\n"
        "bad = {'llmsched.eval', 'llmsched.train', 'torch', 'gymnasium.envs.classic_control'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
