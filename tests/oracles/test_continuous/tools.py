"""What the tests of the continuous oracle share.

UNIT takes 1 s for every iteration, whatever is in it; RICH has coefficients of which every duration is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.continuous import ContinuousResult, ContinuousSimulator, Decide, Options, View

INF = math.inf
NAN = math.nan


def split(**coefficients: float) -> Profile:
    """A profile of the form `split`, zero where nothing is said."""
    return Profile("split", "split", {"d0": 0, "d1": 0, "d2": 0, "p0": 0, "p1": 0, "p2": 0} | coefficients, INF)


UNIT = split(d0=1000, p0=1000)
RICH = split(d0=1000, d1=500, d2=125, p0=2000, p1=250, p2=125)
TOKENS = Profile("tokens", "tokens", {"w0": 1000, "e0": 500, "w1": 250, "a_p": 125, "a_d": 125}, INF)
WHOLE = Options(token_budget=INF)
PROMPT = Options(admission="prompt", token_budget=INF)


def run(
    decide: Decide,
    arrival: Sequence[float],
    output: Sequence[int],
    *,
    prompt: int | Sequence[int] = 1,
    predicted: Sequence[int] | None = None,
    etas: Sequence[float] = (INF,),
    profile: Profile = UNIT,
    options: Options = WHOLE,
    tbt_s: float = 0.05,
    **config: Any,
) -> ContinuousResult:
    """Run a policy on a few requests; one server per entry of ``etas``."""
    prompts = [prompt] * len(arrival) if isinstance(prompt, int) else prompt
    requests = Requests.checked(arrival, prompts, output, predicted)
    simulated = SimConfig(tuple(Server(profile, eta) for eta in etas), **config)
    return ContinuousSimulator(simulated, requests, decide, options, tbt_s=tbt_s).run()


def watch(decide: Decide) -> tuple[list[View], Decide]:
    """A policy and the list of what it was shown."""
    views: list[View] = []

    def watched(view: View) -> tuple[int, int]:
        views.append(view)
        return decide(view)

    return views, watched


def equal(actual: object, expected: object) -> None:
    """Exact equality in which NaN equals NaN."""
    np.testing.assert_array_equal(actual, expected)


def asked(result: ContinuousResult) -> list[tuple[float, int, tuple[int, ...]]]:
    """Every decision as (time, server, the admitted)."""
    return [(decision.time, decision.server, decision.admitted) for decision in result.decisions]
