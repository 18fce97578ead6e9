"""The named generators: their numbers are read from the shipped JSON, with provenance and validation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from llmsched_env import datafiles
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.workload.arrivals import STEPS_PER_TAU, Arrivals, CoxArrivals, GammaFactor, OnOff, RenewalArrivals
from llmsched_env.workload.lengths import Component, LengthLaw, LognormalMixture, UniformLengths
from llmsched_env.workload.sessions.turns import SessionLaw

SCHEMA = "llmsched-generator/v1"


@dataclass(frozen=True)
class Generator:
    """A named workload law: an arrival process and a length law.

    ``rate`` is its own mean rate in requests/s; ``burstiness`` the gamma shape of a renewal process,
    None for a modulated (Cox) one; ``meta`` the rest of the JSON (provenance, notes, validation).
    """

    name: str
    rate: float
    lengths: LengthLaw
    factors: tuple[GammaFactor, ...] = ()
    on_off: OnOff | None = None
    burstiness: float | None = None
    meta: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def shortest_piece_s(self) -> float:
        """About how long the rate of its arrivals stays the same, in seconds; inf for a renewal process."""
        lengths = [factor.tau_s / STEPS_PER_TAU for factor in self.factors]
        lengths += [] if self.on_off is None else [self.on_off.on_mean_s, self.on_off.off_mean_s]
        return math.inf if self.burstiness is not None else min(lengths, default=math.inf)

    def arrivals(self, rate: float, burstiness: float | None, rng: np.random.Generator) -> Arrivals:
        """The arrival stream at ``rate`` requests/s; a ``burstiness`` replaces the process by gamma gaps."""
        shape = self.burstiness if burstiness is None else burstiness
        if shape is not None:
            return RenewalArrivals(rate, shape, rng)
        if not self.factors and self.on_off is None:
            return RenewalArrivals(rate, 1.0, rng)
        return CoxArrivals(rate, self.factors, self.on_off, rng)


def generator_names() -> list[str]:
    """Names of the shipped generators, sorted."""
    return list(datafiles.shipped("generators"))


@cache
def load_generator(name: str) -> Generator:
    """The shipped generator called ``name``; ``ValueError`` with the nearest name if there is none."""
    known = generator_names()
    if name not in known:
        close = did_you_mean(name, known)
        raise ValueError(f"workload {name!r} is not known.{close} Generators: {', '.join(known)}.")
    path = datafiles.data_dir("generators") / f"{name}.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"generator {path}: schema={raw.get('schema')!r} is not supported: this reads {SCHEMA!r}.")
    return _from_json(name, raw)


def _from_json(name: str, raw: dict[str, Any]) -> Generator:
    arrivals = raw["arrivals"]
    rate = float(arrivals["rate_per_s"])
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"generator {name}: rate_per_s={rate!r} is not allowed: give a rate above 0.")
    meta = {k: v for k, v in raw.items() if k not in ("schema", "name", "arrivals", "lengths")}
    factors = tuple(GammaFactor(f["var"], f["tau_s"]) for f in arrivals.get("gamma_modulation", ()))
    on_off = OnOff(**arrivals["on_off"]) if "on_off" in arrivals else None
    burstiness = arrivals["burstiness"] if arrivals["kind"] == "renewal" else None
    return Generator(name, rate, _lengths(raw["lengths"]), factors, on_off, burstiness, meta)


def _lengths(raw: dict[str, Any]) -> LengthLaw:
    if raw["kind"] == "sessions":
        return SessionLaw.of(raw)
    if raw["kind"] == "uniform":
        return UniformLengths(raw["prompt_max"], raw["output_max"])
    components = tuple(Component(c["w"], tuple(c["mu"]), tuple(c["cov"])) for c in raw["components"])
    return LognormalMixture(components, raw["prompt_max"], raw["output_max"])
