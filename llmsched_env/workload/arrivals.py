"""Arrival processes: when requests come, in seconds, as endless streams read in pieces.

Every process draws in sequence from one generator, so the arrivals do not depend on the sizes of the
pieces they are read in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv, ndtr

Floats = NDArray[np.float64]

STEPS_PER_TAU = 8
"""Steps of an Ornstein-Uhlenbeck factor in one of its time constants.

The factor is constant in a step, with its exact marginal law; the variance of counts over windows long
against tau is then too large by the factor coth(h/2) h/2 with h = 1/8, which is 0.13 %.
"""

TABLE_HALF_WIDTH = 8.0
TABLE_STEPS_PER_UNIT = 128
"""The gamma quantile of a standard normal is interpolated in a table of this range and density."""

_KEPT = math.exp(-1.0 / STEPS_PER_TAU)
_NEW = math.sqrt(1.0 - _KEPT * _KEPT)
"""Weights of the old value and of the innovation in one step of a factor."""

# State of the Cox kernel: its header, then FACTOR_FIELDS numbers per factor.
_NOW, _ON, _SWITCH, _HEADER = 0, 1, 2, 3
_X, _NEXT, _VALUE, _FACTOR_FIELDS = 0, 1, 2, 3


class Arrivals(Protocol):
    """An endless stream of arrival times."""

    def take(self, n: int) -> Floats:
        """The next ``n`` arrival times in seconds, ascending, continuing where the last call ended."""
        ...


@dataclass(frozen=True)
class GammaFactor:
    """A rate factor with gamma marginal of mean 1, driven by an Ornstein-Uhlenbeck process."""

    var: float
    tau_s: float


@dataclass(frozen=True)
class OnOff:
    """An envelope of alternating ON and OFF periods with gamma durations; no request comes while OFF."""

    on_mean_s: float
    on_cv: float
    off_mean_s: float
    off_cv: float

    @property
    def share_on(self) -> float:
        """Long-run share of the time that is ON."""
        return self.on_mean_s / (self.on_mean_s + self.off_mean_s)


class RenewalArrivals:
    """Independent gamma gaps: shape ``burstiness``, mean 1/``rate``.

    Shape 1 is Poisson, below 1 burstier (CV = 1/sqrt(shape)), ``inf`` evenly spaced.
    """

    def __init__(self, rate: float, burstiness: float, rng: np.random.Generator) -> None:
        self._rate, self._shape, self._rng = rate, burstiness, rng
        self._now = 0.0

    def take(self, n: int) -> Floats:
        """The next ``n`` arrival times (seconds, float64, ascending)."""
        if math.isinf(self._shape):
            gaps = np.full(n, 1.0 / self._rate)
        elif self._shape == 1.0:
            gaps = self._rng.standard_exponential(n) * (1.0 / self._rate)
        else:
            gaps = self._rng.standard_gamma(self._shape, n) * (1.0 / (self._rate * self._shape))
        if n:
            gaps[0] += self._now
            np.cumsum(gaps, out=gaps)
            self._now = float(gaps[-1])
        return gaps


class CoxArrivals:
    """A doubly stochastic Poisson process: rate(t) = rate x gamma factors x ON/OFF envelope.

    Every factor has mean 1, and the ON rate makes up for the OFF time, so the long-run mean is ``rate``.
    The process starts in its stationary law.
    """

    def __init__(
        self, rate: float, factors: tuple[GammaFactor, ...], on_off: OnOff | None, rng: np.random.Generator
    ) -> None:
        self._rng = rng
        self._rate = rate if on_off is None else rate / on_off.share_on
        self._step = np.array([f.tau_s / STEPS_PER_TAU for f in factors])
        self._tables = quantile_tables(tuple(f.var for f in factors))
        self._periods = np.zeros((2, 2))  # shape and scale of the durations: row 0 OFF, row 1 ON
        if on_off is not None:
            for row, mean, cv in ((0, on_off.off_mean_s, on_off.off_cv), (1, on_off.on_mean_s, on_off.on_cv)):
                self._periods[row] = 1.0 / cv**2, mean * cv**2
        self._state = self._stationary(on_off)

    def _stationary(self, on_off: OnOff | None) -> Floats:
        state = np.zeros(_HEADER + _FACTOR_FIELDS * len(self._step))
        state[_ON], state[_SWITCH] = 1.0, math.inf
        if on_off is not None:
            on = int(self._rng.random() < on_off.share_on)
            shape, scale = self._periods[on]
            # what is left of a period met at a random instant: a uniform part of a length-biased one
            state[_ON], state[_SWITCH] = on, self._rng.random() * self._rng.gamma(shape + 1.0, scale)
        for j, step in enumerate(self._step):
            factor = state[_HEADER + _FACTOR_FIELDS * j :]
            factor[_X] = self._rng.standard_normal()
            factor[_NEXT] = self._rng.random() * step
            factor[_VALUE] = _interpolate_once(self._tables[j], factor[_X])
        return state

    def take(self, n: int) -> Floats:
        """The next ``n`` arrival times (seconds, float64, ascending)."""
        times = np.empty(n)
        _fill_cox(times, self._state, self._rate, self._step, self._tables, self._periods, self._rng)
        return times


@lru_cache(maxsize=64)
def gamma_quantile_table(var: float) -> Floats:
    """F^-1(Phi(x)) of the gamma law of mean 1 and variance ``var`` on the grid of x used by ``interpolate``."""
    half = int(TABLE_HALF_WIDTH * TABLE_STEPS_PER_UNIT)
    x = np.arange(-half, half + 1) / TABLE_STEPS_PER_UNIT
    shape = 1.0 / var
    below, above = gammaincinv(shape, ndtr(np.minimum(x, 0.0))), gammainccinv(shape, ndtr(np.minimum(-x, 0.0)))
    table = np.where(x < 0, below, above) * var
    table.flags.writeable = False  # shared by every process of this variance
    return table


@lru_cache(maxsize=64)
def quantile_tables(variances: tuple[float, ...]) -> Floats:
    """The tables of ``variances``, one above the other; thousands of lanes read the same ones."""
    return np.array([gamma_quantile_table(var) for var in variances]) if variances else np.zeros((0, 1))


@nb.njit(cache=True)
def interpolate(table: Floats, x: float) -> float:
    """Value at ``x`` (a standard normal) of a table made by ``gamma_quantile_table``."""
    place = min(max((x + TABLE_HALF_WIDTH) * TABLE_STEPS_PER_UNIT, 0.0), table.size - 1.000001)
    low = int(place)
    return table[low] + (place - low) * (table[low + 1] - table[low])


_interpolate_once = getattr(interpolate, "py_func", interpolate)
"""``interpolate`` without the price of entering compiled code, for a single value."""


@nb.njit(cache=True, nogil=True)  # a long draw in a thread leaves the main thread free to take Ctrl-C
def _fill_cox(
    times: Floats, state: Floats, rate: float, steps: Floats, tables: Floats, periods: Floats, rng: np.random.Generator
) -> None:
    """Fill ``times``: spend a unit exponential per arrival along the piecewise constant rate."""
    current, end = _piece(state, rate, steps.size)
    now = state[_NOW]
    for i in range(times.size):
        hazard = rng.standard_exponential()
        while not hazard < current * (end - now):
            hazard -= current * (end - now)
            now = state[_NOW] = end
            if state[_SWITCH] <= end:
                _switch(state, periods, rng)
            if state[_ON] > 0.0:
                _renew_factors(state, steps, tables, rng)
            current, end = _piece(state, rate, steps.size)
        now += hazard / current
        times[i] = now
    state[_NOW] = now


@nb.njit(cache=True)
def _piece(state: Floats, rate: float, factors: int) -> tuple[float, float]:
    """The rate from now on, and until when it stays so."""
    end, current = state[_SWITCH], 0.0
    if state[_ON] > 0.0:
        current = rate
        for j in range(factors):
            base = _HEADER + _FACTOR_FIELDS * j
            end = min(end, state[base + _NEXT])
            current *= state[base + _VALUE]
    return current, end


@nb.njit(cache=True)
def _switch(state: Floats, periods: Floats, rng: np.random.Generator) -> None:
    """Begin the next ON or OFF period, now."""
    state[_ON] = 1.0 - state[_ON]
    row = int(state[_ON])
    state[_SWITCH] += rng.standard_gamma(periods[row, 0]) * periods[row, 1]


@nb.njit(cache=True)
def _renew_factors(state: Floats, steps: Floats, tables: Floats, rng: np.random.Generator) -> None:
    """Give every factor whose step has ended its next value (one exact jump across an OFF period)."""
    for j in range(steps.size):
        base = _HEADER + _FACTOR_FIELDS * j
        if state[base + _NEXT] <= state[_NOW]:
            kept, new = _KEPT, _NEW
            if state[_NOW] > state[base + _NEXT]:
                passed = 1.0 + (state[_NOW] - state[base + _NEXT]) / steps[j]
                kept = math.exp(-passed / STEPS_PER_TAU)
                new = math.sqrt(1.0 - kept * kept)
            state[base + _X] = kept * state[base + _X] + new * rng.standard_normal()
            state[base + _NEXT] = state[_NOW] + steps[j]
            state[base + _VALUE] = interpolate(tables[j], state[base + _X])
