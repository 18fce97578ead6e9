"""A profile from measured closed loops: coefficients that make the simulated loops as fast as the measured ones.

Simulated times are nearly linear in the coefficients, because what runs together hardly depends on them.  So the fit
simulates every point at the present coefficients and at coefficients moved one at a time, solves the linear problem
(relative errors, no coefficient below 0), and repeats.  A point that is left out is predicted by the coefficients of
the linear problem without it, and simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from llmsched.eval.silicon.closed_loop import Loop, LoopRules, LoopTimes, close_loop
from llmsched.eval.silicon.points import Point
from llmsched_env.profiles import Profile

Floats = NDArray[np.float64]

NAMES = ("d0", "d1", "d2", "p0", "p1", "p2", "e0", "offset", "steps")
"""What is fitted: coefficients of the form `experts`, and the ms by which a client sees the first token later."""

OFFSET, STEPS = NAMES.index("offset"), NAMES.index("steps")

ROUNDS = 3
MOVE = 0.1
"""Share of a point's time by which a coefficient is moved, for the derivative."""

TTFT_WEIGHT = 0.35
"""Weight of a relative error in TTFT beside one in TPOT: it is noisier, and depends on more than the profile."""

TOLERANCE = 0.1
"""Relative error from which on the loss grows linearly, so that a point where another limit binds does not decide."""

PRIOR = 1e-3
"""Weight that holds a coefficient which the points do not tell at its start."""


@dataclass(frozen=True)
class Fitted:
    """Coefficients by NAMES (8,), ms and tokens, and simulated (TTFT, TPOT) of every point, ms (N, 2)."""

    values: Floats
    simulated: Floats


@dataclass(frozen=True)
class FitProblem:
    """The points of a configuration, its rules, the share of experts of a token, and its KV memory, tokens."""

    points: Sequence[Point]
    rules: LoopRules
    share: float
    kv_tokens: float

    def profile(self, values: Floats) -> Profile:
        """The profile of coefficients by NAMES."""
        return profile_of(values, self.share, self.kv_tokens)

    @property
    def measured(self) -> Floats:
        """TTFT and TPOT of every point, ms (N, 2)."""
        return np.array([(point.ttft_ms, point.tpot_ms) for point in self.points])

    def free(self) -> list[int]:
        """Places of the coefficients that the configuration has."""
        return [k for k, name in enumerate(NAMES) if name != "e0" or self.share > 0]


def profile_of(values: Floats, share: float, kv_tokens: float, name: str = "fitted") -> Profile:
    """A profile of the form `experts`, or `split` for a dense model."""
    own = dict(zip(NAMES, np.maximum(values, 0.0).tolist(), strict=True))
    del own["offset"], own["steps"]
    if share == 0.0:
        del own["e0"]
        return Profile(name, "split", own, kv_tokens)
    return Profile(name, "experts", own | {"e1": share, "h0": 0.0}, kv_tokens)


def simulate_point(problem: FitProblem, values: Floats, loop: Loop, start: Floats | None = None) -> LoopTimes:
    """The loop at these coefficients, TTFT as the client sees it."""
    found = close_loop(problem.profile(values), loop, problem.rules, start)
    seen = found.ttft_ms + values[OFFSET] + values[STEPS] * found.tpot_ms
    return LoopTimes(seen, found.tpot_ms, found.arrivals)


def scales(points: Sequence[Point]) -> Floats:
    """Moves of the coefficients (8,) that change a typical point by about MOVE."""
    step = float(np.median([point.tpot_ms for point in points]))
    clients = float(np.median([point.loop.clients for point in points]))
    context = float(np.median([point.loop.prompt + 0.5 * point.loop.output for point in points]))
    prompt = float(np.median([point.loop.prompt for point in points]))
    first = float(np.median([point.ttft_ms for point in points]))
    sizes = (
        step,
        step / clients,
        step / clients / context,
        step,
        first / prompt,
        first / prompt**2,
        step,
        first,
        first / step,
    )
    return MOVE * np.array(sizes)


def start_values(problem: FitProblem) -> Floats:
    """Coefficients from a formula in place of the loop: a decode step, plus the share of prompts beside it."""
    loops = [point.loop for point in problem.points]
    rows = []
    for loop in loops:
        c, isl, osl = loop.clients, loop.prompt, loop.output
        touched = 1.0 - (1.0 - problem.share) ** c
        beside = c * isl / osl
        rows.append([1.0, c, c * (isl + 0.5 * osl), 0.0, beside, beside * isl, touched, 0.0, 0.0])
    tpot = _relative(np.array(rows, dtype=np.float64), problem.measured[:, 1])
    times = [
        [0.0, 0.0, 0.0, 0.0, point.loop.prompt, point.loop.prompt**2, 0.0, 1.0, point.tpot_ms]
        for point in problem.points
    ]
    ttft = TTFT_WEIGHT * _relative(np.array(times, dtype=np.float64), problem.measured[:, 0])
    rows_all = np.vstack([tpot, ttft])
    target = np.concatenate([np.ones(len(tpot)), np.full(len(ttft), TTFT_WEIGHT)])
    free = problem.free()
    size = np.maximum(np.abs(rows_all[:, free]).max(axis=0), 1e-300)
    values = np.zeros(len(NAMES))
    values[free] = nnls(rows_all[:, free] / size, target)[0] / size
    values[3] = min(values[0] + values[6], float(problem.measured[:, 0].min()))
    return values


def _relative(rows: Floats, measured: Floats) -> Floats:
    return rows / measured[:, None]


@dataclass
class Linearised:
    """The points near ``values``: simulated times (N, 2), and derivatives (N, 2, 8) by coefficient."""

    values: Floats
    times: Floats
    slopes: Floats


def linearise(problem: FitProblem, values: Floats, tick: Callable[[], None]) -> Linearised:
    """Simulate every point at ``values`` and at each coefficient moved."""
    moves, free = scales(problem.points), problem.free()
    times = np.zeros((len(problem.points), 2))
    slopes = np.zeros((len(problem.points), 2, len(NAMES)))
    for i, point in enumerate(problem.points):
        base = simulate_point(problem, values, point.loop)
        times[i] = base.ttft_ms, base.tpot_ms
        for k in free:
            if k in (OFFSET, STEPS):
                slopes[i, :, k] = 1.0 if k == OFFSET else base.tpot_ms, 0.0
                continue
            moved = values.copy()
            moved[k] += moves[k]
            other = simulate_point(problem, moved, point.loop, base.arrivals)
            slopes[i, :, k] = (np.array([other.ttft_ms, other.tpot_ms]) - times[i]) / moves[k]
        tick()
    return Linearised(values, times, slopes)


def solve(problem: FitProblem, near: Linearised, kept: Sequence[int]) -> Floats:
    """Coefficients that fit the points ``kept`` best by the linear problem: relative errors, none below 0."""
    measured, free = problem.measured[list(kept)], problem.free()
    weight = np.array([TTFT_WEIGHT, 1.0])
    slopes = near.slopes[list(kept)][:, :, free]
    constant = near.times[list(kept)] - slopes @ near.values[free]
    rows = (slopes / measured[:, :, None] * weight[None, :, None]).reshape(-1, len(free))
    target = ((1.0 - constant / measured) * weight[None, :]).reshape(-1)
    moves = scales(problem.points)[free] / MOVE
    hold, held = PRIOR * np.diag(1.0 / moves), PRIOR * near.values[free] / moves
    robust = np.ones(len(rows))
    found = near.values[free]
    for _ in range(8):
        matrix = np.vstack([rows * robust[:, None], hold])
        size = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
        found = nnls(matrix / size, np.concatenate([target * robust, held]))[0] / size
        errors = np.abs(rows @ found - target)
        robust = 1.0 / np.sqrt(np.maximum(1.0, errors / TOLERANCE))
    values = near.values.copy()
    values[free] = found
    return values


def simulate_all(problem: FitProblem, values: Floats) -> Floats:
    """Simulated TTFT and TPOT of every point, ms (N, 2)."""
    found = [simulate_point(problem, values, point.loop) for point in problem.points]
    return np.array([(times.ttft_ms, times.tpot_ms) for times in found])


def fit(problem: FitProblem, tick: Callable[[], None] = lambda: None) -> tuple[Fitted, Floats]:
    """The fit, and simulated TTFT and TPOT, ms (N, 2), of every point by coefficients that have not seen it."""
    values = start_values(problem)
    every = range(len(problem.points))
    for _ in range(ROUNDS):
        near = linearise(problem, values, tick)
        values = solve(problem, near, every)
    left_out = np.zeros((len(problem.points), 2))
    for i, point in enumerate(problem.points):
        without = solve(problem, near, [k for k in every if k != i])
        found = simulate_point(problem, without, point.loop)
        left_out[i] = found.ttft_ms, found.tpot_ms
        tick()
    return Fitted(values, simulate_all(problem, values)), left_out
