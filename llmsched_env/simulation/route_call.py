"""A routing policy as the run of a lane takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core.layout import ROUTE_RECORD
from llmsched_env.core.state import records
from llmsched_env.engines.engine import Engine


@dataclass(frozen=True)
class RouteCall:
    """A function compiled with core.view.route.compile_route, and what it is called with in one run.

    ``params`` (P,) float64; ``memory`` (M,) float64, changed by the run; ``rng``: its own stream.
    """

    function: Callable
    params: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    memory: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What engines.continuous.routing.run takes for it, a fresh row of ROUTE_RECORD first."""
        return records(np.zeros(1, ROUTE_RECORD)), self.function, self.params, self.memory, self.rng


def run_entry(engine: Engine, config: SimConfig) -> Callable:
    """The compiled run of one lane of ``config``; compiled, or read from disk, when it is first asked for."""
    return engine.run_routed_lane if engine.routes and config.continuous.routing == "asked" else engine.run_lane


def entry_of(engine: Engine, config: SimConfig, route: RouteCall | None) -> tuple[Callable, tuple[Any, ...]]:
    """The compiled run of one lane, and the arguments of the routing policy; ``ValueError`` where one is missing."""
    if not engine.routes or config.continuous.routing != "asked":
        if route is not None:
            raise ValueError("a routing policy is given and not asked: give continuous.routing='asked'.")
        return run_entry(engine, config), ()
    if route is None:
        raise ValueError("continuous.routing='asked' needs a routing policy: give one, or another routing.")
    return run_entry(engine, config), route.arguments
