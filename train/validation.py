"""How good a learned scheduler is: against the best heuristic of every validation run, in the compiled loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import Bound, get, parse_list
from llmsched.train.systems import Course, World
from llmsched_env.requests import Requests

RIVALS = (
    "static:batch=16,static:batch=32,static:batch=64,dynamic,multibin,multibin:select=oldest,longest-queue,sjf,"
    "sjf:batch=16,sjf:batch=32,sjf:batch=64,least-slack,timeout:batch=16:wait=1000,multibin-fixed:batch=8,"
    "multibin-fixed:batch=16"
)
"""The heuristics that are beaten or not, none of them clairvoyant."""

LOADS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
FLOOR = 0.005
"""Misses that are added on both sides before their ratio is taken: a tenth of what capacity allows."""


@dataclass(frozen=True)
class Run:
    """One run to be scored: arrivals of a course at a load, and what the best heuristic misses on them."""

    course: Course
    load: float
    world: World
    requests: Requests
    best: float
    rival: str


def runs_of(
    courses: Sequence[Course], seeds: Sequence[int], requests: int, loads: Sequence[float] = LOADS, rivals: str = RIVALS
) -> list[Run]:
    """Runs of every course at every load with every seed of the split "validation"."""
    against = parse_list(rivals)
    found = []
    for course in courses:
        world = course.world(requests)
        for load in loads:
            for seed in seeds:
                drawn = course.arrivals(load * course.capacity, requests).draw(seed, "validation")
                misses = [world.misses(rival, drawn) for rival in against]
                place = int(np.argmin(misses))
                found.append(Run(course, load, world, drawn, misses[place], against[place].text))
    return found


def scheduler() -> Bound:
    """The policy whose weights are given at every run."""
    return get("network").bind()


@dataclass(frozen=True)
class Score:
    """``mean`` log ratio of misses to the best heuristic's (below 0: better), and rows by course and load."""

    mean: float
    rows: list[dict[str, Any]]


def scored(runs: Sequence[Run], params: NDArray[np.float64]) -> Score:
    """The score of packed weights."""
    policy = scheduler()
    rows = []
    for run in runs:
        misses = run.world.misses(policy, run.requests, params)
        ratio = math.log((misses + FLOOR) / (run.best + FLOOR))
        name = run.course.name
        rows.append(
            {"course": name, "load": run.load, "misses": misses, "best": run.best, "rival": run.rival, "log": ratio}
        )
    return Score(float(np.mean([row["log"] for row in rows])), rows)


def by_load(score: Score) -> dict[float, tuple[float, float]]:
    """Mean misses, of the scheduler and of the best heuristics, by load."""
    loads = sorted({row["load"] for row in score.rows})
    chosen = {load: [row for row in score.rows if row["load"] == load] for load in loads}
    return {
        load: (float(np.mean([r["misses"] for r in rows])), float(np.mean([r["best"] for r in rows])))
        for load, rows in chosen.items()
    }
