"""What the tests of the batch oracle share: profiles, a run on a few requests, what it shows.

Most tests use UNIT: prefill 1 s, every decode step 1 s, whatever the batch; so a batch whose longest
member produces L tokens takes L seconds and all times are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmsched_env.config import Queueing, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.batch import Decide, ReferenceResult, ReferenceSimulator, View

INF = math.inf
NAN = math.nan
PLAIN = Queueing()


def split(**coefficients: float) -> Profile:
    """A profile of the form `split`, zero where nothing is said."""
    return Profile("split", "split", {"d0": 0, "d1": 0, "d2": 0, "p0": 0, "p1": 0, "p2": 0} | coefficients, INF)


UNIT = split(d0=1000, p0=1000)
RICH = split(d0=1000, d1=500, d2=125, p0=2000, p1=250, p2=125)
AFFINE = Profile("affine", "affine", RICH.coefficients, INF)
FLOOR = Profile("floor", "floor", RICH.coefficients, INF)
TOKENS = Profile("tokens", "tokens", {"w0": 1000, "e0": 500, "w1": 250, "a_p": 125, "a_d": 125}, INF)
LENGTH = Profile("length", "batch-length", {"a": 1000, "beta": 500, "g": 0.5}, INF)
TOTAL = Profile("total", "batch-length", {"a": 1000, "beta": 500, "g": 0.5}, INF, length="total")


def simulate(
    decide: Decide,
    arrival: Sequence[float],
    output: Sequence[int],
    *,
    prompt: int | Sequence[int] = 1,
    predicted: Sequence[int] | None = None,
    etas: Sequence[float] = (INF,),
    profile: Profile = UNIT,
    queueing: Queueing = PLAIN,
    noise: Sequence[float] = (),
    **options: Any,
) -> ReferenceResult:
    """Run a policy on a few requests; one server per entry of ``etas``."""
    prompts = [prompt] * len(arrival) if isinstance(prompt, int) else prompt
    requests = Requests.checked(arrival, prompts, output, predicted)
    servers = tuple(Server(profile, eta) for eta in etas)
    config = SimConfig(servers, queueing, **options)
    return ReferenceSimulator(config, requests, decide, noise=noise, tbt_s=0.05).run()


def members(result: ReferenceResult) -> list[tuple[float, int, tuple[int, ...]]]:
    """Every batch as (dispatch, server, members)."""
    return [(batch.dispatch, batch.server, batch.members) for batch in result.batches]


def times(result: ReferenceResult) -> list[float]:
    """When servers were asked."""
    return [decision.time for decision in result.decisions]


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


OVERFLOW: dict[str, Any] = {"prompt": 5, "predicted": [2, 2], "etas": (20,)}
