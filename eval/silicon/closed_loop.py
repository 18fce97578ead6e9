"""A closed loop: c clients, each of which sends its next request when its last one ends.

The arrivals depend on the completions.  They are found by running the same open run again and again, every time with
the completions of the run before as arrivals, until nothing moves: then each request arrives at the very instant at
which the one before it ended.  The j-th completion lets request number c + j arrive, whichever client it was.  With n
requests a client this takes about n runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import parse
from llmsched_env.config import SLO, Continuous, Server, SimConfig
from llmsched_env.options.words import MAX_BATCH_LIMIT
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator

Floats = NDArray[np.float64]

EACH = 10
"""Requests of a client: the benchmark sends ten times as many requests as there are clients, all clients at once."""

MOST_RUNS = 60
STILL_S = 1e-6
"""Largest move of an arrival at which the loop counts as closed, s."""


@dataclass(frozen=True)
class LoopRules:
    """How the engine schedules: ``prefill`` as the option says, tokens of an iteration; and what the clients send:
    lengths are uniform from ``shortest`` times the nominal ones, which the rows do not state."""

    prefill: str
    token_budget: float
    shortest: float = 0.8


@dataclass(frozen=True)
class Loop:
    """One measured operating point: nominal prompt and output, tokens, and clients."""

    prompt: int
    output: int
    clients: int


@dataclass(frozen=True)
class LoopTimes:
    """Mean TTFT and mean TPOT in ms, over all requests, and the arrivals (N,), s, from which another run can start."""

    ttft_ms: float
    tpot_ms: float
    arrivals: Floats


def lengths(loop: Loop, shortest: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prompts and outputs (N,), the same at every call."""
    rng, n = np.random.default_rng(0), loop.clients * EACH
    draws = []
    for nominal in (loop.prompt, loop.output):
        least = max(1, int(np.ceil(shortest * nominal)))
        draws.append(rng.integers(least, nominal + 1, n))
    return draws[0], draws[1]


def close_loop(profile: Profile, loop: Loop, rules: LoopRules, start: Floats | None = None) -> LoopTimes:
    """The closed loop on one server with ``profile``; ``start``: arrivals of a similar loop.

    ``ValueError`` when the arrivals do not come to rest in MOST_RUNS runs.
    """
    prompts, outputs = lengths(loop, rules.shortest)
    most = min(loop.clients, MAX_BATCH_LIMIT)
    budget = max(rules.token_budget, most)
    config = SimConfig(
        servers=(Server(profile),),
        max_batch=most,
        slos=(SLO(e2e_s=1e9),),
        engine="continuous",
        continuous=Continuous(admission="prompt", prefill=rules.prefill, token_budget=budget, watermark=0.0),
    )
    ready = parse(f"static:batch={most}").ready(config)
    simulator = Simulator(ready.config, len(prompts))
    params, memory, rng = np.asarray(ready.params, dtype=np.float64), np.zeros(8), np.random.default_rng(0)
    arrivals = _guess(profile, loop) if start is None else start
    for _ in range(MOST_RUNS):
        simulator.load(0, Requests.checked(arrivals, prompts, outputs))
        simulator.run(ready.decide, params, memory, rng)
        rows = simulator.finish()
        ends = np.sort(rows["completion"])
        following = np.concatenate([np.zeros(loop.clients), ends[: len(ends) - loop.clients]])
        moved = float(np.abs(following - arrivals).max())
        if moved <= STILL_S:
            several = outputs > 1
            after_first = (rows["completion"] - rows["first_token"])[several] / (outputs[several] - 1)
            ttft = rows["first_token"] - rows["arrival"]
            return LoopTimes(1e3 * float(ttft.mean()), 1e3 * float(after_first.mean()), arrivals)
        arrivals = following
    raise ValueError(f"{loop} on {profile.name}: arrivals still move by {moved:g} s after {MOST_RUNS} runs")


def _guess(profile: Profile, loop: Loop) -> Floats:
    """Arrivals as if every request took a full batch's time."""
    held = loop.clients * (loop.prompt + 0.5 * loop.output)
    whole = 1e-3 * profile.decode_step_ms(loop.clients, held) * loop.output
    waves = [wave * whole + np.linspace(0.0, whole, loop.clients, endpoint=False) for wave in range(EACH - 1)]
    return np.concatenate([np.zeros(loop.clients), *waves])
