"""What an engine is to the rest of the project: one object that answers every question about it.

The engine of a configuration is looked up once, with ``engines.get(config.engine)``; everything else asks the object.
This file and the ``engine.py`` of every engine import nothing heavy: the compiled entries are loaded, or compiled, when
they are first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from llmsched_env.config import SimConfig


@dataclass(frozen=True)
class Engine:
    """The rules and the compiled entries of one engine.

    ``env_id``: the environment whose default engine it is.  ``log_rows``: rows of the log that one request may need.
    ``logs_batches``: the log holds batches, whose members stay the same; otherwise segments of running sets.
    ``asks_busy``: a server that has work may be asked too.  ``routes``: an arrival can be sent to a server.
    ``stamps_ahead``: stamps are set at dispatch, ahead of their time; otherwise they are set when they happen.
    ``entries``: what its observation has after the entries that all engines share, (name, meaning, unit, scale) each;
    ``cache_entries`` follow where there is a prefix cache.

    ``check(config)`` raises ``ValueError`` for a configuration that the engine does not have.  ``usable_tokens(eta)``:
    the part of a KV memory of ``eta`` tokens that can be used.  ``groups(config)``: sets of bins.
    ``set_size(config)``: members that the running set of a server can have; 0 where there are no running sets.
    ``blocks(config)``: of the prefix cache of the largest server; 0 where there is none.
    ``parameters(config)``: its own constants, as fields of layout.PARAMS.  ``in_service(rows, servers)``: (N,) bool,
    the REQUEST rows that a server is still working on.
    """

    name: str
    env_id: str
    log_rows: int
    logs_batches: bool
    asks_busy: bool
    routes: bool
    stamps_ahead: bool
    entries: tuple[tuple[str, str, str, str], ...]
    cache_entries: tuple[tuple[str, str, str, str], ...]
    check: Callable[[SimConfig], None]
    usable_tokens: Callable[[float], float]
    groups: Callable[[SimConfig], int]
    set_size: Callable[[SimConfig], int]
    blocks: Callable[[SimConfig], int]
    parameters: Callable[[SimConfig], dict[str, Any]]
    in_service: Callable[[NDArray, NDArray], NDArray]

    @property
    def run_lane(self) -> Callable:
        """The compiled run of one lane (core.run.RUN_SIGNATURE)."""
        return importlib.import_module(f"llmsched_env.engines.{self.name}.run").run_lane

    @property
    def run_routed_lane(self) -> Callable:
        """The same where a routing policy names the server of every arrival (engines.continuous.routing.run)."""
        return importlib.import_module(f"llmsched_env.engines.{self.name}.routing.run").run_routed_lane

    @property
    def route_lanes(self) -> tuple[Callable, tuple[Any, ...]]:
        """The compiled step of many routers, and the types of its arrays (engines.continuous.routing.step)."""
        found = importlib.import_module(f"llmsched_env.engines.{self.name}.routing.step")
        return found.route_lanes, found.ROUTE_STEP_ARRAYS

    @property
    def step_lanes(self) -> Callable:
        """The compiled step of many lanes (core.step.STEP_SIGNATURE)."""
        return importlib.import_module(f"llmsched_env.engines.{self.name}.step").step_lanes
