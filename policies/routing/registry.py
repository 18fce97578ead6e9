"""The registry of routing policies: a compiled function that names a server, and its parameters.

    @routing("mine", params={"weight": number(2.0, 0.0)})
    def mine(record, params, memory, rng):
        '''One line that says what it does, and its source.'''
        return server

The record is a row of layout.ROUTE_RECORD (docs/reference/routing.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.policies.compiling import compile_checked
from llmsched.policies.hooks import checked_memory
from llmsched.policies.parameters import Parameter, Value, declared
from llmsched.policies.refusals import compile_refusal
from llmsched.policies.registry import OURS, first_line
from llmsched_env import engines
from llmsched_env.config import SimConfig
from llmsched_env.core.layout import ROUTE_RECORD
from llmsched_env.core.view.route import ROUTE_SIGNATURE, compile_route
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.simulation.route_call import RouteCall

ASKED = "asked"
"""The routing (config.Continuous) under which a routing policy is asked."""


@dataclass(frozen=True, eq=False)
class RoutingPolicy:
    """A registered routing policy: the function ``(record, params, memory, rng) -> server``, and its parameters.

    ``memory``: numbers that it keeps between decisions.
    """

    name: str
    function: Callable
    summary: str  # one line, with the source
    params: Mapping[str, Parameter] = field(default_factory=dict)
    memory: int = 0
    rule: str = ASKED  # the routing of config.Continuous under which it runs

    def __post_init__(self) -> None:
        checked_memory(self.name, self.memory)

    @property
    def file(self) -> Path:
        """The file of the function."""
        return Path(self.function.__code__.co_filename)

    @cached_property
    def route(self) -> Callable:
        """The function compiled for the kernel, at first use; ``ValueError`` in one line when it cannot be."""
        try:
            if self.file.is_relative_to(OURS):
                return compile_route(self.function)
            return compile_checked(self.function, ROUTE_SIGNATURE)
        except Exception as error:
            raise compile_refusal(self.name, self.function, error, ROUTE_RECORD.names or ()) from None


@dataclass(frozen=True, eq=False)
class BoundRouting:
    """A routing policy with values for its parameters; ``label`` is the text that was typed."""

    policy: RoutingPolicy
    values: Mapping[str, Value]
    label: str

    def configure(self, config: SimConfig) -> SimConfig:
        """``config`` with this policy asked at every arrival; ``ValueError`` where the engine does not route."""
        if not engines.get(config.engine).routes:
            raise ValueError(f"routing {self.label} belongs to the engine 'continuous': give engine='continuous'.")
        return dataclasses.replace(config, continuous=dataclasses.replace(config.continuous, routing=self.policy.rule))

    @property
    def params(self) -> np.ndarray:
        """(P,) float64, in the order of declaration; (1,) where there is none."""
        encoded = [self.policy.params[name].encode(value) for name, value in self.values.items()]
        return np.array(encoded or [0.0], np.float64)

    def call(self, rng: np.random.Generator) -> RouteCall | None:
        """What one run takes; None where nobody is asked."""
        if self.policy.rule != ASKED:
            return None
        return RouteCall(self.policy.route, self.params, np.zeros(max(1, self.policy.memory)), rng)


_ROUTINGS: dict[str, RoutingPolicy] = {}


def names() -> tuple[str, ...]:
    """Names of all registered routing policies, in the order of registration."""
    return tuple(_ROUTINGS)


def get(name: str) -> RoutingPolicy:
    """The routing policy registered as ``name``; ``ValueError`` names the nearest and all valid ones."""
    if name not in _ROUTINGS:
        raise ValueError(
            f"{name!r} is not a routing.{did_you_mean(name, _ROUTINGS)} Choose one of "
            f"{', '.join(_ROUTINGS)}, or give FILE.py:FUNCTION."
        )
    return _ROUTINGS[name]


def routing(
    name: str, *, params: Mapping[str, Parameter | float] | None = None, **needs: Any
) -> Callable[[Callable], RoutingPolicy]:
    """Decorator: register a function as the routing ``name``; ``needs`` are the other fields of RoutingPolicy."""
    if not name or set(name) & set(":,= \t\n"):
        raise ValueError(f"{name!r} cannot name a routing: no spaces, commas, colons and equals signs are allowed.")

    def register(function: Callable) -> RoutingPolicy:
        """The routing policy of ``function``, kept under its name."""
        made = RoutingPolicy(
            name, function, **{"summary": first_line(function), **needs}, params=declared(params or {})
        )
        taken = _ROUTINGS.get(name)
        if taken is not None and taken.file != made.file:
            raise ValueError(f"the name {name!r} is taken by {taken.file.name}: choose another.")
        _ROUTINGS[name] = made
        return made

    return register
