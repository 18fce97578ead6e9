"""Random systems and workloads for the engine `continuous`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.continuous_reference.options import Options

INF = math.inf

SPLIT = {"d0": 20.0, "d1": 0.7, "d2": 3e-3, "p0": 15.0, "p1": 0.11, "p2": 2e-4}
TOKENS = {"w0": 9.0, "e0": 4.0, "w1": 0.3, "a_p": 1e-3, "a_d": 2e-3}
# on the lattice every duration is a multiple of 1/8 s whatever the order of the sums
LATTICE = {"d0": 1000.0, "d1": 0.0, "d2": 0.0, "p0": 1000.0, "p1": 0.0, "p2": 0.0}
FINE_LATTICE = {"d0": 500.0, "d1": 250.0, "d2": 125.0, "p0": 1000.0, "p1": 125.0, "p2": 125.0}
TOKENS_LATTICE = {"w0": 1000.0, "e0": 500.0, "w1": 250.0, "a_p": 125.0, "a_d": 125.0}


@dataclass(frozen=True)
class Case:
    """A configuration whose engine part is kept beside it, and the requests."""

    config: SimConfig
    options: Options
    requests: Requests = field(repr=False)


def profile(form: str, coefficients: dict[str, float], noise_sigma: float = 0.0) -> Profile:
    """A profile without a memory limit of its own."""
    return Profile(form, form, coefficients, 1e9, noise_sigma=noise_sigma)


def workloads(draw: Callable, lattice: bool) -> Requests:
    """A few dozen requests; on the lattice arrivals are whole seconds, so that events coincide."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    gaps = rng.integers(0, 3, n).astype(float)
    if not lattice:
        gaps = rng.exponential(draw(st.sampled_from([0.01, 0.05, 0.4])), n)
    output = rng.integers(1, draw(st.sampled_from([3, 12, 40, 90])), n)
    spread = draw(st.sampled_from([0.0, 0.3, 1.0]))
    predicted = np.maximum(1, np.rint(output * np.exp(spread * rng.standard_normal(n)))).astype(int)
    prompt = rng.integers(1, draw(st.sampled_from([5, 40, 120])), n)
    return Requests.checked(np.cumsum(gaps), prompt, output, predicted, rng.integers(0, 2, n).astype(np.int8))


def profiles(draw: Callable, lattice: bool) -> Profile:
    """On the lattice without noise, which would leave it."""
    if lattice:
        form = draw(st.sampled_from([LATTICE, LATTICE, FINE_LATTICE, TOKENS_LATTICE]))
        return profile("tokens" if form is TOKENS_LATTICE else "split", form)
    form = draw(st.sampled_from([SPLIT, SPLIT, TOKENS]))
    return profile("tokens" if form is TOKENS else "split", form, draw(st.sampled_from([0.0, 0.0, 0.2])))


@st.composite
def cases(draw, lattice: bool = False, drained: bool = False) -> Case:
    """Servers alike and unlike, ample and tight memory, every discipline, rule, mode, routing and timer."""
    etas = draw(st.sampled_from([[INF], [160.0, 250.0], [90.0, 170.0, 400.0], [INF, 130.0], [17.0, 120.0]]))
    servers = tuple(
        Server(profiles(draw, lattice), draw(st.sampled_from(etas))) for _ in range(draw(st.integers(1, 4)))
    )
    discipline = draw(
        st.sampled_from(["fifo", "fifo", "fifo", "sjf", "oracle-sjf", "edf", "slack", "priority", "srpt", "srpt"])
    )
    timers = [INF, INF, 1.0, 3.0]
    queueing: dict[str, Any] = {
        "edges": tuple(sorted(draw(st.lists(st.integers(2, 40), max_size=4)))),
        "discipline": "fifo" if discipline == "srpt" else discipline,
        "hold_s": draw(st.sampled_from(timers)),
        "tick_s": draw(st.sampled_from(timers)),
    }
    config = SimConfig(
        servers,
        Queueing(**queueing),
        max_batch=draw(st.sampled_from([1, 2, 3, 5, 8, 24])),
        slos=(SLO(e2e_s=5.0, share=0.5), SLO(ttft_s=2.0, share=0.5, name="fast")),
        controller=Controller(
            tbt_s=draw(st.sampled_from([0.03, 0.05, 2.5])),
            b_min=1,
            alpha=draw(st.sampled_from([2.0, 16.0])),
            eps_memory=draw(st.sampled_from([0.05, 0.3])),
        ),
        overhead_s=draw(st.sampled_from([0.0, 0.0, 0.5 if lattice else 0.003])),
        horizon_s=INF if drained else draw(st.sampled_from([INF, INF, INF, 9.0])),
    )
    prefill = draw(st.sampled_from(["chunked", "chunked", "first"]))
    token_budget = draw(st.sampled_from([1, 2, 5, 16, 64, 2048, INF]))
    options = Options(
        admission=draw(st.sampled_from(["predicted", "prompt"])),
        prefill=prefill,
        token_budget=max(token_budget, config.max_batch) if prefill == "chunked" else token_budget,
        routing=draw(st.sampled_from(["pull", "pull", "round-robin", "least-outstanding", "join-shortest-kv"])),
        watermark=draw(st.sampled_from([0.01, 0.01, 0.0, 0.3])),
        window_s=draw(st.sampled_from([0.25, 1.0, 4.0])),
        srpt=discipline == "srpt",
    )
    return Case(config, options, workloads(draw, lattice))


def script(draw: Callable, config: SimConfig) -> list[tuple[int, int]]:
    """Answers of all kinds: waits, empty bins, sizes above the cap."""
    sizes = st.one_of(st.integers(0, config.max_batch + 2), st.integers(max(1, config.max_batch - 1), 30))
    answers = st.tuples(st.integers(0, config.queueing.num_bins), sizes)
    return draw(st.lists(answers, min_size=1, max_size=30))
