"""Random systems and workloads for the engine `continuous`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.grids import Grids
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.continuous.options import Options

INF = math.inf

Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of several; what a random case is made with."""

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


# the host binds while few tokens are held; the table has points that a small request passes, and a fall
EXPERTS = {"d0": 6.0, "d1": 0.4, "d2": 3e-2, "p0": 15.0, "p1": 0.11, "p2": 2e-4, "e0": 9.0, "e1": 0.2, "h0": 12.0}
GRIDS = Grids(
    batch=(1, 2, 6, 16),
    context=(8, 20, 50, 110),
    decode_ms=((9.0, 10.0, 13.0, 15.0), (9.5, 9.2, 14.0, 19.0), (12.0, 15.0, 22.0, 40.0), (14.0, 20.0, 41.0, 90.0)),
    tokens=(1, 16, 64, 256),
    prefill_ms=(9.0, 9.5, 14.0, 40.0),
)
LAWS = {"split": SPLIT, "floor": SPLIT, "tokens": TOKENS, "experts": EXPERTS, "table": {"p2": 2e-4}}


def profile(form: str, coefficients: dict[str, float], noise_sigma: float = 0.0) -> Profile:
    """A profile without a memory limit of its own."""
    grids = GRIDS if form == "table" else None
    return Profile(form, form, coefficients, 1e9, noise_sigma=noise_sigma, grids=grids)


def workload(pick: Pick, lattice: bool, cached: bool = False) -> Requests:
    """A few dozen requests; on the lattice arrivals are whole seconds, so that events coincide."""
    n = pick([40, 1, 2, 3, 5, 10, 20, 60, 90])
    rng = np.random.default_rng(pick(range(2**16)))
    gaps = rng.integers(0, 3, n).astype(float)
    if not lattice:
        gaps = rng.exponential(pick([0.01, 0.05, 0.4]), n)
    output = rng.integers(1, pick([90, 3, 12, 40]), n)
    spread = pick([1.0, 0.0, 0.3])
    predicted = np.maximum(1, np.rint(output * np.exp(spread * rng.standard_normal(n)))).astype(int)
    prompt = rng.integers(1, pick([40, 5, 20, 120]), n)
    classes = rng.integers(0, 2, n).astype(np.int8)
    requests = Requests.checked(np.cumsum(gaps), prompt, output, predicted, classes)
    if not cached:
        return requests
    hashes, hashed, span = contents(rng, requests, pick([16, 16, 32, 64, 512]))
    return replace(requests, hashes=hashes, hashed_tokens=hashed, hash_tokens=span)


def contents(rng: np.random.Generator, requests: Requests, span: int) -> tuple[NDArray, NDArray, int]:
    """Hashes of sequences that begin alike: each leaves another, or one of a few beginnings, at some block."""
    chains: list[list[int]] = [[1000 * k + j for j in range(4)] for k in range(3)]
    hashes, hashed = [], []
    for i in range(len(requests)):
        p, o = int(requests.prompt_tokens[i]), int(requests.output_tokens[i])
        covered = int(rng.choice([p, p + o, int(rng.integers(0, p + o + 1))]))
        other = chains[int(rng.integers(len(chains)))]
        kept = int(rng.integers(len(other) + 1))
        count = -(-covered // span)
        chain = (other[:kept] + [10**6 * (i + 1) + j for j in range(count)])[:count]
        chains.append(chain)
        hashes += chain
        hashed.append(covered)
    return np.array(hashes, np.int64), np.array(hashed, np.int32), span


def latency(pick: Pick, lattice: bool) -> Profile:
    """A profile; on the lattice without noise, which would leave it."""
    if lattice:
        form = pick([LATTICE, LATTICE, FINE_LATTICE, TOKENS_LATTICE])
        return profile("tokens" if form is TOKENS_LATTICE else "split", form)
    form = pick(list(LAWS))
    return profile(form, LAWS[form], pick([0.0, 0.0, 0.2]))


ETAS = ([250.0, 400.0], [160.0, 250.0], [90.0, 170.0, 400.0], [INF, 130.0], [17.0, 120.0], [800.0], [INF])
DISCIPLINES = ("fifo", "fifo", "fifo", "srpt", "srpt", "sjf", "oracle-sjf", "edf", "slack", "priority")
OVERDUE_FACTORS = (*(None,) * 5, 0.0, 0.5, 1.0, 1.5, 2.0, 8.0, 16.0)
"""Factors of the overdue queue; times on the lattice stay dyadic."""
EDGES = ((), (), (10,), (5, 20), (3, 3, 12, 30), (2, 8, 16, 40))


def make_case(pick: Pick, lattice: bool, drained: bool, cached: bool = False) -> Case:
    """Servers alike and unlike, ample and tight memory, every discipline, rule, mode, routing and timer."""
    etas = [eta for eta in pick(ETAS) if eta < INF or not cached] or [200.0]
    servers = tuple(Server(latency(pick, lattice), pick(etas)) for _ in range(pick([1, 2, 3, 4])))
    discipline = pick([one for one in DISCIPLINES if one != "srpt"] if cached else DISCIPLINES)
    timers = [INF, INF, 1.0, 3.0]
    queueing = Queueing(
        pick(EDGES),
        "fifo" if discipline == "srpt" else discipline,
        overdue_factor=None if discipline == "srpt" else pick(OVERDUE_FACTORS),
        hold_s=pick(timers),
        tick_s=pick(timers),
        aging_s=pick([INF, INF, 0.125, 0.5]) if discipline == "sjf" else INF,
    )
    ordered = queueing.keyed and queueing.overdue_factor is None
    config = SimConfig(
        servers,
        queueing,
        max_batch=pick([24, 1, 2, 3, 5, 8, 12, 60]),
        slos=(SLO(e2e_s=5.0, share=0.5), SLO(ttft_s=2.0, share=0.5, name="fast")),
        controller=Controller(tbt_s=pick([0.03, 0.05, 2.5]), alpha=pick([2.0, 16.0]), eps_memory=pick([0.05, 0.3])),
        overhead_s=pick([0.0, 0.0, 0.5 if lattice else 0.003]),
        horizon_s=INF if drained else pick([INF, INF, INF, 30.0 if lattice else 4.0]),
    )
    prefill, token_budget = pick(["chunked", "chunked", "first", "whole"]), pick([16, 1, 2, 5, 64, 2048, INF])
    srpt = discipline == "srpt"  # it goes with none of the rules that let prompts lose what they have for ever
    options = Options(
        admission=pick(["prompt", "predicted"] if srpt else ["prompt", "predicted", "chunk"]),
        prefill=prefill,
        token_budget=max(token_budget, config.max_batch) if prefill != "first" else token_budget,
        routing=pick(["pull", "pull", "round-robin", "least-outstanding", "join-shortest-kv"]),
        watermark=pick([0.0, 0.0, 0.01, 0.3]),
        window_s=pick([0.25, 1.0, 4.0]),
        srpt=srpt,
        scheduling=pick(["sync", "async"]),
        prefix_cache="on" if cached else "off",
        max_chunk=INF if srpt or prefill == "first" else pick([INF, INF, 1, 2, 5, 20]),
        victim="newest" if srpt else pick(["newest", "newest", "last-class", "least-computed"]),
        returned=pick(["first", "first", "first", "ordered"]) if ordered and not srpt else "first",
    )
    return Case(config, options, workload(pick, lattice, cached))


def with_losses(pick: Pick, queueing: Queueing, lattice: bool, deadlines: bool = True) -> Queueing:
    """``queueing`` with refusals of all kinds and impatient clients; ``deadlines``: requests may become overdue."""
    unit = 1.0 if lattice else 0.25
    factor = pick([1.0, queueing.overdue_factor, 2.0, None]) if deadlines else None
    rate = pick([INF, INF, 0.5 / unit, 2.0 / unit])
    return replace(
        queueing,
        overdue_factor=factor,
        overdue_batch_factor=None if factor is None else queueing.overdue_batch_factor,
        overdue="wait" if factor is None else pick(["refuse", "refuse", "wait"]),
        patience_s=pick([4.0 * unit, INF, 0.5 * unit, unit, 16.0 * unit]),
        queue_cap=pick([None, None, 5, 1, 2, 12]),
        accept_rate=rate,
        accept_burst=1.0 if rate == INF else pick([1.0, 2.5, 8.0]),
        refusals=pick(["on", "off"]),
        class_priority=pick(["none", "none", "strict"]) if deadlines else "none",
    )


def make_script(pick: Pick, config: SimConfig) -> list[tuple[int, int]]:
    """Answers of all kinds: waits, empty bins, sizes below the running set and above the cap."""
    choices = range(config.queueing.num_bins + 1 + config.queueing.has_overdue)
    sizes = range(-3 if config.queueing.refusals == "on" else 0, config.max_batch + 3)
    large = range(max(1, config.max_batch // 2), config.max_batch + 3)
    return [(pick(choices), pick(pick([large, sizes]))) for _ in range(pick([1, 2, 3, 5, 10, 20]))]


def chooser(draw: Callable) -> Pick:
    """Choices that Hypothesis makes and shrinks."""
    return lambda options: draw(st.sampled_from(options))


def dice(seed: int) -> Pick:
    """Choices by lot, half of them the first option: those make for many requests in little memory."""
    rng = np.random.default_rng(seed)
    return lambda options: options[0 if rng.random() < 0.5 else int(rng.integers(len(options)))]


@st.composite
def cases(draw, lattice: bool = False, drained: bool = False) -> Case:
    """Cases that shrink."""
    return make_case(chooser(draw), lattice, drained)
