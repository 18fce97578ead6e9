"""The registry: every policy under its name, with its parameters and what it needs from the simulator.

A policy is a function ``(record, params, memory, rng) -> (bin, size)`` (docs/reference/policies.md).  `policy`
registers it; `selection.parse` turns ``name:parameter=value`` into a `Bound`, which is what a simulation takes.

Numba keeps a compiled function on disk and compares only the file of the function.  So a scheduler in this package
takes everything that it calls, and every constant, from its own file (a test checks that).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.compiling import compile_checked
from llmsched.policies.hooks import call_hook, check_kept, checked_memory, loaded_numbers, replaced_fields
from llmsched.policies.parameters import AUTO, Parameter, Value, check_value, choice, declared, setting, show
from llmsched.policies.refusals import check_signature, compile_refusal
from llmsched_env.config import SimConfig
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.options.table import OPTIONS
from llmsched_env.options.words import ENGINES

if TYPE_CHECKING:
    from llmsched.policies.routing.registry import BoundRouting
    from llmsched_env.simulation.route_call import RouteCall

OVERDUE: dict[str, Parameter] = {
    "overdue": setting("overdue_factor", auto=(0.0, 1.0, 1.25, 1.5, 2.0)),
    "overdue_batch": setting("overdue_batch_factor", auto=(0.6, 0.8, 1.0)),
}
"""What every policy takes besides its own parameters: ``NAME`` sets the option ``NAME_factor`` of the simulation."""

SHARED: dict[str, Parameter] = {
    **OVERDUE,
    "refuse": choice("no", "yes"),
    "queue_cap": setting("queue_cap", auto=(16, 32, 64, 128, 256)),
}
"""... all of them: ``refuse=yes`` refuses what becomes overdue, ``queue_cap`` sets the option of this name."""

OLD_NAMES = {"late": "overdue", "triage": "overdue_batch"}
"""Earlier names of these parameters, which still work and warn."""

CLAIRVOYANT = "oracle-"
"""Names of policies that know true output lengths begin so."""

Record = Any
"""One row of llmsched_env.core.layout.RECORD; fields are read as attributes (``record.now``)."""

Floats = NDArray[np.float64]
Decision = tuple[int, int]
"""(bin, size): bin 0 to K, K = `any`; size 0 is wait."""

Function = Callable[[Record, Floats, Floats, np.random.Generator], Decision]
Overrides = Callable[[Mapping[str, float]], Mapping[str, Any]]

OURS = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Policy:
    """A registered scheduler: the function, its parameters and its needs.

    The hooks, all optional:

    * ``queueing``, ``controller``, ``continuous``: functions of the encoded parameters by name (ms already in seconds,
      words as places).  Each returns the fields of config.Queueing, config.Controller, config.Continuous that the
      policy sets.
    * ``adapt``: function of (configuration, values as written).  It returns the configuration with whatever the policy
      sets by looking at the system, for example at the number of servers.  It runs before the three above.
    * ``load``: function of (values as written, configuration).  It returns (params (P,) float64, memory size) of a
      policy whose numbers are a file.  ``ValueError`` refuses a file, or one that does not fit the configuration.
    * ``check``: function of the values as written.  It raises ``ValueError`` for combinations that make no sense.
    """

    name: str
    function: Function
    summary: str  # one line, with the source
    params: Mapping[str, Parameter] = field(default_factory=dict)
    queueing: Overrides | None = None
    controller: Overrides | None = None
    adapt: Callable[[SimConfig, Mapping[str, Value]], SimConfig] | None = None
    details: bool = False  # needs record.batch_time, slack and busy
    memory: int = 0  # numbers it keeps between decisions
    clairvoyant: bool = False  # uses true output lengths, which no scheduler can know
    engines: tuple[str, ...] = ENGINES  # the engines it belongs to
    continuous: Overrides | None = None  # as queueing, fields of config.Continuous
    check: Callable[[Mapping[str, Value]], None] | None = None
    load: Callable[[Mapping[str, Value], SimConfig], tuple[Floats, int]] | None = None
    needs_file: bool = False  # it cannot run without a file of the user, and is not among `names`
    repeatable: bool = True  # equal code and numbers decide alike; else a finished run is never taken for another

    def __post_init__(self) -> None:
        checked_memory(self.name, self.memory)
        for engine in self.engines:
            if engine not in ENGINES:
                raise ValueError(f"{self.name}: engine {engine!r} is not known: give some of {', '.join(ENGINES)}.")

    @property
    def file(self) -> Path:
        """The file of the function."""
        return Path(self.function.__code__.co_filename)

    @cached_property
    def accepted(self) -> dict[str, Parameter]:
        """Its own parameters, then those of SHARED whose names it does not use."""
        return {**self.params, **{name: known for name, known in SHARED.items() if name not in self.params}}

    def present_name(self, name: str) -> str:
        """``name``, or with a warning what the parameter of this earlier name is called now."""
        if name in self.accepted or name not in OLD_NAMES:
            return name
        warnings.warn(f"the parameter {name} of {self.name} is now called {OLD_NAMES[name]}.", stacklevel=3)
        return OLD_NAMES[name]

    @property
    def auto(self) -> dict[str, tuple[float, ...] | tuple[str, ...]]:
        """The grid of every parameter that may be ``auto``."""
        return {name: parameter.auto for name, parameter in self.accepted.items() if parameter.auto}

    @property
    def defaults(self) -> dict[str, Value]:
        """The default of every parameter."""
        return {name: parameter.default for name, parameter in self.accepted.items()}

    @cached_property
    def decide(self) -> Callable:
        """The function compiled for the kernel; ``ValueError`` in one line when it cannot be.

        It is compiled at first use.  A policy of this package is kept on disk.  A user's is compiled in every process,
        because it may call functions of other files, and with every index checked (policies.compiling).
        """
        check_signature(self.name, self.function)
        try:
            if self.file.is_relative_to(OURS):
                return compile_policy(self.function)
            return compile_checked(self.function)
        except Exception as error:
            raise compile_refusal(self.name, self.function, error) from None

    def bind(
        self, values: Mapping[str, Value] | None = None, *, given: str = "", source: str = "", label: str = ""
    ) -> Bound:
        """This policy with ``values`` for some of its parameters (``AUTO`` leaves it open), checked.

        ``given`` is the text that the user typed, ``source`` the same without parameters; without them, the name.
        ``label`` stands in results in place of the text.
        """
        found = self.defaults
        for typed, value in (values or {}).items():
            name = self.present_name(typed)
            if name not in self.accepted:
                raise ValueError(
                    f"{self.name} has no parameter {name!r}.{did_you_mean(name, self.accepted)} {self._has}"
                )
            open_ = value == AUTO and self.accepted[name].auto
            found[name] = AUTO if open_ else check_value(self.name, name, self.accepted[name], value)
        if self.check is not None and AUTO not in found.values():
            self.check(found)
        return Bound(self, found, given, source or self.name, given_label=label)

    @property
    def _has(self) -> str:
        return f"Its parameters: {', '.join(self.accepted)}."


@dataclass(frozen=True, eq=False)
class ReadyPolicy:
    """A policy made ready for one system: all that a run needs from it.

    >>> ready = parse("timeout:batch=16").ready(config)  # doctest: +SKIP
    >>> simulate(ready.config, requests, ready.decide, **ready.options)  # doctest: +SKIP
    """

    config: SimConfig  # with the discipline, timers and limits that the policy sets
    decide: Callable  # the compiled function
    params: Floats  # (P,) what it reads
    memory_size: int  # numbers that it keeps between decisions
    details: bool  # whether it reads record.batch_time, slack or busy
    routing: BoundRouting | None = None  # the routing policy beside it

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of ``simulate`` that belong to the policy (its ``rng`` and ``route`` apart)."""
        return {"params": self.params, "memory_size": self.memory_size, "details": self.details}

    def route(self, rng: np.random.Generator) -> RouteCall | None:
        """The argument ``route`` of ``simulate`` for one run."""
        return None if self.routing is None else self.routing.call(rng)


@dataclass(frozen=True, eq=False)
class Bound:
    """A policy with values for its parameters.  `ready` makes it runnable in a system."""

    policy: Policy
    values: Mapping[str, Value]
    given: str  # the text that was parsed, or empty
    source: str  # the name, or FILE.py:FUNCTION
    loaded: dict[SimConfig, tuple[Floats, int]] = field(default_factory=dict, repr=False)
    """(params, memory size) that were read from a file, by configuration; a run on another machine brings its own."""
    given_label: str = ""  # what tables, figures and files show for it; empty: the text
    routing: BoundRouting | None = None  # the routing policy beside it; None: the scenario's rule

    @property
    def label(self) -> str:
        """The label that the user gave, else the text that was typed; with a routing policy, then that."""
        own = self.given_label or self.given or self.text
        return own if self.routing is None else f"{own} @ {self.routing.label}"

    @property
    def labelled(self) -> bool:
        """Whether a label was given, which says nothing about its parameters."""
        return bool(self.given_label)

    @property
    def name(self) -> str:
        """Name of the policy."""
        return self.policy.name

    @property
    def text(self) -> str:
        """The text to type for it: the source and every value that is not the default, ``static:batch=16``."""
        changed = (f":{name}={show(v)}" for name, v in self.values.items() if v != self.policy.accepted[name].default)
        return self.source + "".join(changed)

    @property
    def autos(self) -> dict[str, tuple[float, ...] | tuple[str, ...]]:
        """Grid of every parameter that was left to ``auto``; empty when the policy can run."""
        return {name: self.policy.auto[name] for name, value in self.values.items() if value == AUTO}

    def with_params(self, **values: Value) -> Bound:
        """The same policy with other values, checked; the label stays as typed."""
        texts = {"given": self.given, "source": self.source, "label": self.given_label}
        return self.policy.bind({**self.values, **values}, **texts).routed(self.routing)

    def routed(self, routing: BoundRouting | None) -> Bound:
        """The same policy beside a routing policy, which names the server of every arrival."""
        return dataclasses.replace(self, routing=routing, loaded=self.loaded)

    @cached_property
    def encoded(self) -> dict[str, float]:
        """Its own parameters by name, in the order of declaration, as the compiled function reads them (seconds)."""
        if self.autos:
            raise ValueError(f"{self.label}: {', '.join(self.autos)} is still auto: choose from its grid first.")
        return {name: self.policy.params[name].encode(self.values[name]) for name in self.policy.params}

    @property
    def decide(self) -> Callable:
        """The compiled function."""
        return self.policy.decide

    @property
    def details(self) -> bool:
        """Whether it reads record.batch_time, slack or busy."""
        return self.policy.details

    @property
    def clairvoyant(self) -> bool:
        """Whether it uses true output lengths: it says so, or its order of the queue does."""
        if self.policy.clairvoyant or self.policy.queueing is None or self.autos:
            return self.policy.clairvoyant
        return str(self._overrides("queueing").get("discipline", "")).startswith(CLAIRVOYANT)

    def ready(self, config: SimConfig) -> ReadyPolicy:
        """All that a run in the system ``config`` needs from this policy.

        ``ValueError`` when a parameter is still ``auto``, or when the policy does not fit ``config``.
        """
        configured = self.configure(config)
        return ReadyPolicy(configured, self.decide, *self._numbers(config), self.details, self.routing)

    def _numbers(self, config: SimConfig) -> tuple[Floats, int]:
        """(params (P,), memory size) in the system ``config``; a file is read once."""
        encoded = self.encoded
        if self.policy.load is None:
            return np.array(list(encoded.values()), dtype=np.float64), self.policy.memory
        if config not in self.loaded:
            self.loaded[config] = loaded_numbers(self.name, self.policy.load, self.values, config)
        return self.loaded[config]

    def configure(self, config: SimConfig) -> SimConfig:
        """``config`` with the discipline, timers, limits and admission that this policy sets; all else stays.

        ``ValueError`` when the policy does not belong to the engine of ``config``, or sets what belongs to the
        scenario (`hooks.KEPT`).
        """
        given = config
        if config.engine not in self.policy.engines:
            there, ours = self.policy.engines[0], ", ".join(names(config.engine))
            raise ValueError(f"{self.name} belongs to the engine {there!r}; in {config.engine!r} choose one of {ours}.")
        if self.policy.adapt is not None:
            config = call_hook(self.name, "adapt", SimConfig, self.policy.adapt, given, self.values)
        queueing = self._overrides("queueing")
        for name in OVERDUE:
            if name not in self.policy.params and self.values[name] is not None:
                queueing[OPTIONS[f"{name}_factor"].field] = self.values[name]
        if "refuse" not in self.policy.params and self.values["refuse"] == "yes":
            queueing["overdue"] = "refuse"
        if "queue_cap" not in self.policy.params and self.values["queue_cap"] is not None:
            queueing["queue_cap"] = self.values["queue_cap"]
        found = dataclasses.replace(
            config,
            queueing=replaced_fields(self.name, config.queueing, {**queueing, "edges": config.queueing.edges}),
            controller=replaced_fields(self.name, config.controller, self._overrides("controller")),
            continuous=replaced_fields(self.name, config.continuous, self._overrides("continuous")),
        )
        check_kept(self.name, given, found)
        return found if self.routing is None else self.routing.configure(found)

    def _overrides(self, hook: str) -> dict[str, Any]:
        """The fields that a hook of the policy sets."""
        function = getattr(self.policy, hook)
        return {} if function is None else dict(call_hook(self.name, hook, dict, function, self.encoded))


_POLICIES: dict[str, Policy] = {}


def names(engine: str | None = None) -> tuple[str, ...]:
    """Names of all registered policies, or of those for ``engine``, in the order of registration.

    Without those that need a file (`agent`).
    """
    return tuple(
        name
        for name, known in _POLICIES.items()
        if not known.needs_file and (engine is None or engine in known.engines)
    )


def get(name: str) -> Policy:
    """The policy registered as ``name``; ``ValueError`` names the nearest and all valid ones."""
    if name not in _POLICIES:
        raise ValueError(
            f"{name!r} is not a policy.{did_you_mean(name, _POLICIES)} "
            f"Choose one of {', '.join(_POLICIES)}, or give FILE.py:FUNCTION."
        )
    return _POLICIES[name]


def first_line(function: Callable) -> str:
    """The first line of the docstring, without its full stop."""
    lines = (function.__doc__ or "").strip().splitlines()
    return lines[0].strip().removesuffix(".") if lines else ""


def policy(
    name: str, *, params: Mapping[str, Parameter | float] | None = None, **needs: Any
) -> Callable[[Function], Policy]:
    """Decorator: register a decide function as ``name``.  ``needs`` are the other fields of Policy.

    The summary is the first line of the docstring.  A file that is loaded again replaces its earlier policies.
    """
    if not name or set(name) & set(":,= \t\n"):
        raise ValueError(f"{name!r} cannot name a policy: give a name without spaces, commas, colons and equals signs.")

    def register(function: Function) -> Policy:
        """The policy of ``function``, kept under its name."""
        made = Policy(name, function, **{"summary": first_line(function), **needs}, params=declared(params or {}))
        taken = _POLICIES.get(name)
        if taken is not None and taken.file != made.file:
            raise ValueError(f"the name {name!r} is taken by {taken.file.name}: choose another.")
        _POLICIES[name] = made
        return made

    return register
