"""The engine `continuous`: what must hold whatever the policy, theory, and equality with the engine `batch` of one."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.policies import names, parse
from llmsched_env.config import SLO, Continuous, Controller, Queueing, Server, SimConfig
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.layout import COMPLETED, DROPPED, IN_SERVICE, PENDING, REJECTED, WAITING
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from llmsched_env.simulation.streaming import simulate_stream
from tests.simulator.test_streaming import pieces
from tests.simulator.test_theory import assert_meets, constant, exponential, interval, lognormal, pollaczek_khinchine

H100 = load_profile("h100-80gb_llama2-70b_tp4")
STAMPS = ("dispatch", "first_token", "last_token", "completion")


def split(**coefficients: float) -> Profile:
    """A profile of the form `split` without memory limit; what is not given (ms) is 0."""
    zero = dict.fromkeys(("d0", "d1", "d2", "p0", "p1", "p2"), 0.0)
    return dataclasses.replace(H100, name="split", coefficients=zero | coefficients, kv_tokens=math.inf)


def azure_like(n: int, rate: float, seed: int = 1) -> Requests:
    """Poisson arrivals, lognormal lengths, noisy predictions."""
    rng = np.random.default_rng(seed)
    output = np.maximum(1, rng.lognormal(5.0, 0.8, n)).astype(int)
    return Requests.checked(
        np.cumsum(rng.exponential(1.0 / rate, n)),
        np.maximum(1, rng.lognormal(6.5, 0.9, n)).astype(int),
        output,
        np.maximum(1, np.rint(output * np.exp(0.3 * rng.standard_normal(n)))).astype(int),
    )


def run(config: SimConfig, requests: Requests, policy: str = "sarathi", **options) -> RunResult:
    """One run of a registered policy."""
    bound = parse(policy)
    rng = np.random.default_rng(0)
    ready = bound.ready(config)
    return simulate(ready.config, requests, ready.decide, rng=rng, **ready.options, **options)


def continuous(servers: int = 2, profile: Profile = H100, kv_tokens: float | None = None, **fields: Any) -> SimConfig:
    """Servers of one kind in the engine `continuous`, four bins."""
    common = {"queueing": Queueing((80, 150, 300)), "max_batch": 64, "controller": Controller(tbt_s=0.08)}
    return SimConfig((Server(profile, kv_tokens),) * servers, engine="continuous", **{**common, **fields})


# What must hold ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", ["pull", "round-robin", "least-outstanding", "join-shortest-kv"])
@pytest.mark.parametrize("name", names("continuous"))
def test_nothing_is_lost_and_memory_holds(name: str, routing: str) -> None:
    """With memory for a few requests only: every request ends once, stamps are in order, no block is over-booked."""
    config = continuous(2, kv_tokens=4000.0, continuous=Continuous(routing=routing))
    requests = azure_like(600, 6.0)
    result = run(config, requests, name, log_batches=True)
    rows, lane = result.requests, result.lane
    ended = {status: int(np.count_nonzero(rows["status"] == status)) for status in (COMPLETED, REJECTED, DROPPED)}
    assert sum(ended.values()) == 600 and ended[COMPLETED] > 500 and ended[REJECTED] > 0
    assert (lane["counts"]["completed"], lane["counts"]["rejected"], lane["counts"]["dropped"]) == tuple(ended.values())
    assert lane["waiting"] == lane["in_service"] == 0 and lane["free"] == 2
    assert rows["preemptions"].sum() == lane["counts"]["preempted"]
    done = rows[rows["status"] == COMPLETED]
    assert (done["arrival"] <= done["dispatch"]).all() and (done["dispatch"] < done["first_token"]).all()
    assert (done["first_token"] <= done["last_token"]).all() and (done["last_token"] == done["completion"]).all()
    assert (done["first_token"][done["output"] == 1] == done["last_token"][done["output"] == 1]).all()
    for server in result.servers:
        assert 0 < server["peak_ever"] <= 4000 // BLOCK_TOKENS * BLOCK_TOKENS
        for field in ("reserved", "waiting", "queued_tokens"):
            assert server[field] == 0, field
        for field in ("running", "decoding", "blocks", "backlog", "promised"):
            assert server["set"][field] == 0, field
        assert not server["set"]["residue"].any()
    assert result.batches["kv_peak"].max() <= 4000
    assert lane["counts"]["itl_count"] == (done["output"] - 1).sum()  # no gap is lost or counted twice


def test_preemption_happens_and_costs() -> None:
    """Tight memory and admission by the prompt: requests are preempted, keep their first token, and still end."""
    tight, roomy = (run(continuous(1, kv_tokens=k), azure_like(300, 4.0), "fcfs") for k in (5000.0, None))
    assert tight.counts["preempted"] > 20 and roomy.counts["preempted"] == 0
    hit = tight.requests[(tight.requests["preemptions"] > 0) & (tight.requests["status"] == COMPLETED)]
    assert (hit["generated"] > 0).any() and (hit["first_token"] < hit["last_token"]).all()
    assert summarize(tight)["mean_e2el_ms"] > summarize(roomy)["mean_e2el_ms"]


def test_oracle_reservations_are_never_preempted() -> None:
    """Who reserves the true length has room for it."""
    requests = azure_like(400, 6.0)
    requests = dataclasses.replace(requests, predicted_tokens=requests.output_tokens)
    for name in ("static:batch=64", "dynamic", "multibin", "sjf"):
        assert run(continuous(2, kv_tokens=6000.0), requests, name).lane["counts"]["preempted"] == 0


def test_a_cut_off_run_counts_what_had_not_ended() -> None:
    """At the horizon: submitted = completed + rejected + dropped + unfinished, and the unfinished are misses."""
    config = continuous(1, horizon_s=20.0, slos=(SLO(e2e_s=1e9),))
    result = run(config, azure_like(400, 8.0))
    summary = summarize(result)
    assert summary["unfinished"] == np.isin(result.requests["status"], (WAITING, IN_SERVICE)).sum() > 0
    assert summary["submitted"] == (result.requests["status"] != PENDING).sum()
    assert summary["slo_attainment"] == pytest.approx(summary["completed"] / summary["submitted"])
    assert summary["gpu_utilization"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("discipline", ["fifo", "sjf"])
@pytest.mark.parametrize("routing", ["pull", "join-shortest-kv"])
def test_chunks_equal_one_run(routing: str, discipline: str) -> None:
    """A streamed run, with preemptions and half-prefilled prompts at the seams, is the run in one piece."""
    config = continuous(
        2,
        kv_tokens=6000.0,
        queueing=Queueing((80, 150), discipline),
        continuous=Continuous("prompt", routing=routing, token_budget=256),
    )
    requests, ready = azure_like(1500, 8.0), parse("static:batch=64").ready(config)
    whole = simulate(config, requests, ready.decide, **ready.options)
    assert whole.counts["preempted"] > 0
    for size in (41, 700):
        parts = list(simulate_stream(config, pieces(requests, size), ready.decide, **ready.options))
        together = np.sort(np.concatenate([part.requests for part in parts]), order="arrival")
        for stamp in (*STAMPS, "preemptions", "status"):
            np.testing.assert_array_equal(together[stamp], whole.requests[stamp], err_msg=stamp)
        np.testing.assert_array_equal(parts[-1].itl_histogram, whole.itl_histogram)


@pytest.mark.parametrize("name", ["multibin", "multibin:select=longest", "longest-queue"])
def test_one_bin_is_one_queue(name: str) -> None:
    """With K = 1 a multi-bin policy equals `dynamic` bit for bit."""
    config = continuous(2, kv_tokens=8000.0, queueing=Queueing())
    ours, plain = (run(config, azure_like(500, 8.0), policy) for policy in (name, "dynamic"))
    for stamp in STAMPS:
        np.testing.assert_array_equal(ours.requests[stamp], plain.requests[stamp])


def test_edf_with_one_class_is_fifo() -> None:
    """One deadline for all orders by arrival."""
    config = continuous(2, slos=(SLO(e2e_s=20.0),))
    ours, plain = (run(config, azure_like(500, 8.0), policy) for policy in ("edf", "dynamic"))
    np.testing.assert_array_equal(ours.requests["completion"], plain.requests["completion"])


def test_prompts_of_others_show_in_the_gaps() -> None:
    """The same load: prompts that go first stall decoding, so the tail of the gaps is longer than with chunks."""
    requests = azure_like(2000, 8.0)
    first, chunked = (summarize(run(continuous(2), requests, name)) for name in ("fcfs", "sarathi:budget=256"))
    assert first["p99_itl_ms"] > 1.5 * chunked["p99_itl_ms"]
    assert first["median_itl_ms"] < chunked["p99_itl_ms"]


def test_srpt_serves_the_short_first() -> None:
    """Where one request fits at a time, the mean stay is least under SRPT (recomputation is almost free here)."""
    requests = azure_like(400, 0.9)
    config = continuous(1, split(d0=5.0, p0=0.001), max_batch=1)
    mean = {}
    for name in ("static:batch=1", "sjf:batch=1", "oracle-sjf:batch=1", "oracle-srpt:batch=1"):
        result = run(config, requests, name)
        mean[name] = float((result.requests["completion"] - result.requests["arrival"]).mean())
        assert (result.counts["preempted"] > 0) == name.startswith("oracle-srpt")
    order = [mean[name] for name in ("oracle-srpt:batch=1", "oracle-sjf:batch=1", "sjf:batch=1", "static:batch=1")]
    assert order == sorted(order) and order[0] < 0.9 * order[-1]


DIGEST = """
import hashlib
from tests.simulator.test_continuous import Continuous, Queueing, azure_like, continuous, run
digest = hashlib.sha256()
for name, overdue in (("fcfs", 1.0), ("sarathi:budget=64", None), ("oracle-srpt", None), ("least-slack", 1.0)):
    queueing = Queueing((80, 140), overdue_factor=overdue)
    config = continuous(2, kv_tokens=4000.0, continuous=Continuous(routing="join-shortest-kv"), queueing=queueing)
    result = run(config, azure_like(50, 6.0), name)
    for stamp in ("dispatch", "first_token", "completion"):
        digest.update(result.requests[stamp].tobytes())
    digest.update(result.itl_histogram.tobytes())
print(digest.hexdigest())
"""


def test_the_kernel_without_its_compiler_is_the_same_kernel() -> None:
    """NUMBA_DISABLE_JIT=1 runs the same source in Python: equal bytes."""
    found = [
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "NUMBA_DISABLE_JIT": off},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for off in ("0", "1")
    ]
    assert found[0] == found[1] and len(found[0]) == 65


# The engine `batch` of one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefill", ["first", "chunked"])
@pytest.mark.parametrize("kv_tokens", [None, 1600.0])
@pytest.mark.parametrize("profile", ["h100-80gb_llama2-70b_tp4", "a100-80gb_bloom-176b_tp8"])
def test_one_slot_is_a_batch_of_one(profile: str, kv_tokens: float | None, prefill: str) -> None:
    """One slot, whole prompts: every stamp is that of run-to-completion batches of one, drops included.

    The engine `batch` keeps room for the token to come, so it needs a token more.
    """
    made = continuous(
        3, load_profile(profile), kv_tokens, max_batch=1, continuous=Continuous(prefill=prefill, token_budget=math.inf)
    )
    requests = azure_like(500, 1.0)
    ours = run(made, requests, "static:batch=1")
    roomier = tuple(dataclasses.replace(server, kv_tokens=server.eta + 1) for server in made.servers)
    theirs = run(dataclasses.replace(made, engine="batch", servers=roomier), requests, "static:batch=1")
    np.testing.assert_array_equal(ours.requests["status"], theirs.requests["status"])
    assert (ours.counts["dropped"] > 0) == (kv_tokens is not None)
    done = ours.requests["status"] == COMPLETED
    for stamp in STAMPS:
        np.testing.assert_allclose(ours.requests[stamp][done], theirs.requests[stamp][done], rtol=1e-9)
    assert ours.counts["itl_sum"] == pytest.approx(float(theirs.counts["itl_sum"]), rel=1e-9)


# Theory ---------------------------------------------------------------------------------------------------------------

TOKENS, STEP_MS = 400, 10.0


def poisson(seed: int, load: float, service, n: int = 40_000) -> Requests:
    """Poisson arrivals of outputs with a mean of TOKENS decode steps and the law ``service``, one-token prompts."""
    rng = np.random.default_rng(seed)
    mean_s = TOKENS * STEP_MS / 1000.0
    output = 1 + np.maximum(1, np.rint(TOKENS * service(rng, n))).astype(np.int64)
    return Requests.checked(np.cumsum(rng.exponential(mean_s / load, n)), np.ones(n, np.int64), output)


def mean_stay(config: SimConfig, seed: int, load: float, service) -> float:
    """Mean time in the system over the mean time of a request served alone, the first tenth left out."""
    requests = poisson(seed, load, service)
    rows = run(config, requests, f"static:batch={config.max_batch}").requests[len(requests) // 10 :]
    return float((rows["completion"] - rows["arrival"]).mean()) / (TOKENS * STEP_MS / 1000.0)


@pytest.mark.parametrize("service", [exponential, constant])
def test_one_slot_is_m_g_1(service) -> None:
    """One slot: the Pollaczek-Khinchine formula."""
    config = continuous(1, split(d0=STEP_MS, p0=1e-6), max_batch=1, queueing=Queueing())
    second = 2.0 if service is exponential else 1.0
    values = [mean_stay(config, seed, 0.7, service) for seed in range(12)]
    assert_meets(values, 1.0 + pollaczek_khinchine(0.7, second), 0.12)


@pytest.mark.parametrize("service", [exponential, constant, lognormal])
def test_steps_in_proportion_to_the_members_share_the_processor(service) -> None:
    """A step of d1 b: every member gets 1/b of the server, so the mean stay is 1/(1 - load) for every law of lengths.

    A stay is longer by up to two steps of the present size: the request joins at a boundary, and the last step is
    not shared out finer than by token.  That bias is at most two tokens of 400.
    """
    config = continuous(1, split(d1=STEP_MS, p0=1e-6), max_batch=1024, queueing=Queueing())
    config = dataclasses.replace(config, continuous=Continuous(token_budget=math.inf))
    values = [mean_stay(config, seed, 0.6, service) for seed in range(12)]
    mean, half = interval(values)
    theory = 1.0 / (1.0 - 0.6)
    assert half < 0.08 * theory
    assert abs(mean - theory) <= half + 2.0 * theory / TOKENS


def test_steps_that_cost_nothing_more_are_a_server_for_everyone() -> None:
    """A step of d0, whatever decodes: M/G/inf.  A stay is its length and the wait for a boundary, at most a step."""
    config = continuous(1, split(d0=STEP_MS, p0=1e-6), max_batch=1024, queueing=Queueing())
    config = dataclasses.replace(config, continuous=Continuous(token_budget=math.inf))
    requests = poisson(1, 30.0, exponential)
    rows = run(config, requests, "static:batch=1024").requests
    excess = rows["completion"] - rows["arrival"] - (requests.output_tokens - 1) * STEP_MS / 1000.0
    assert excess.min() > 0 and excess.max() < 2.0 * STEP_MS / 1000.0


# Errors at the border -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engine": "orca"}, "engine='orca' is not known. Choose one of batch, continuous"),
        ({"profile": load_profile("synthetic")}, "'batch-length', which knows no iterations"),
        ({"controller": Controller(kind="peer")}, "controller='peer' belongs to the engine 'batch'"),
        ({"kv_tokens": 15.0}, "less than a block"),
        ({"continuous": Continuous(token_budget=8)}, "token_budget=8 is less than max_batch=64"),
    ],
)
def test_refusals(fields: dict, message: str) -> None:
    """What cannot be simulated says why, and what would do."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        dataclasses.replace(continuous(**{k: v for k, v in fields.items() if k != "engine"}), **_engine(fields))


def _engine(fields: dict) -> dict:
    return {"engine": fields["engine"]} if "engine" in fields else {}


@pytest.mark.parametrize("field", ["admission", "prefill", "routing"])
def test_words_that_are_not_known(field: str) -> None:
    """An unknown word names those that are known."""
    wrong: dict[str, Any] = {field: "none"}
    with pytest.raises(ValueError, match=f"{field}='none' is not known. Choose one of"):
        Continuous(**wrong)


def test_srpt_belongs_to_the_engine_continuous() -> None:
    """Run-to-completion batches cannot be preempted by choice."""
    with pytest.raises(ValueError, match="preempts between iterations"):
        SimConfig((Server(H100),), Queueing(discipline="oracle-srpt"))
