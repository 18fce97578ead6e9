"""A scenario in Python: the options of ``compare`` as keyword arguments, checked."""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.cli.options import FLAGS, SCENARIOS
from llmsched.eval.cli.readers import TARGETS, read_predictor, read_target
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched_env.config import SLO
from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.declaration import Option, check
from llmsched_env.options.kinds import Choice, Number
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.options.table import OPTIONS
from llmsched_env.workload.bins import parse_edges
from llmsched_env.workload.traces import Trace


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated, the policies apart: workload, servers, latency targets, engine.

    The arguments are the options of ``compare``, under the names and in the units that ``gymnasium.make`` takes: times
    in seconds where a name ends in ``_s``, latency targets in ms.  ``None``: as in the scenario ``named``.  A value
    that is not allowed is refused with a ``ValueError`` of one line.
    """

    named: str = "default"
    workload: str | Path | Trace | None = None
    rate: float | None = None
    rate_scale: float | None = None
    load: float | None = None
    concurrency: int | None = None
    think: str | None = None
    sessions: int | None = None
    requests: int | None = None
    duration_s: float | None = None
    burstiness: float | None = None
    predictor: str | None = None
    shared_prefix: str | None = None
    slo: Mapping[str, float] | str | None = None
    slo_classes: Mapping[str, Mapping[str, float]] | None = None
    engine: str | None = None
    profile: str | None = None
    servers: int | None = None
    kv_tokens: float | None = None
    overhead_s: float | None = None
    horizon_s: float | None = None
    max_batch: int | None = None
    release: str | None = None
    max_tokens: float | None = None
    max_wait_s: float | None = None
    controller: Mapping[str, Any] | None = None
    bins: int | Sequence[int] | None = None
    discipline: str | None = None
    class_priority: str | None = None
    overdue_factor: float | None = None
    overdue_batch_factor: float | None = None
    overdue: str | None = None
    patience_s: float | None = None
    queue_cap: int | None = None
    accept_rate: float | None = None
    accept_burst: float | None = None
    refusals: str | None = None
    hold_s: float | None = None
    tick_s: float | None = None
    aging_s: float | None = None
    returned: str | None = None
    victim: str | None = None
    rules: str | None = None
    prefill: str | None = None
    scheduling: str | None = None
    prefix_cache: str | None = None
    token_budget: float | None = None
    max_chunk: float | None = None
    admission: str | None = None
    routing: str | None = None
    load_age_s: float | None = None
    watermark: float | None = None
    window_s: float | None = None

    def __post_init__(self) -> None:
        check("named", self.named, Choice(SCENARIOS))
        given = [option for option in FLAGS.values() if getattr(self, option.name) is not None]
        for option in given:
            rivals = [other.name for other in given if option.one_of and other.one_of == option.one_of]
            if len(rivals) > 1:
                raise ValueError(f"{' and '.join(rivals)} exclude each other: give one of them.")
        options_of(self)

    def replace(self, **changes: Any) -> Scenario:
        """The same scenario with other values of some arguments; ``None`` takes one back."""
        return dataclasses.replace(self, **changes)

    def describe(self) -> dict[str, Any]:
        """Every option as it is simulated, as in the summary (``compare --json``) under ``scenario``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a comparison warns
            return scenario_from(options_of(self)).describe()


def options_of(scenario: Scenario) -> argparse.Namespace:
    """The options as a parsed command line holds them; ``ValueError``, in one line, for what is not allowed."""
    found = {dest: _value(option, getattr(scenario, option.name)) for dest, option in FLAGS.items()}
    return argparse.Namespace(scenario=scenario.named, **found)


def _value(option: Option, value: Any) -> Any:
    """An argument as the command line's reader gives it; ``ValueError`` in one line where it is not allowed."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if option.name in _FORMS:
        return _FORMS[option.name](value)
    check(option.name, value, option.flag_kind or option.kind, option.unit)
    return value


def _workload(value: Any) -> str | Trace:
    if not isinstance(value, str | Path | Trace):
        raise ValueError(f"workload={value!r} is not allowed: give the name of a generator, a file, or a Trace.")
    return value if isinstance(value, Trace) else str(value)


def _predictor(value: Any) -> str:
    check("predictor", value, OPTIONS["predictor"].kind)
    try:
        return read_predictor(value)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from None


def _slo(value: Any) -> list[tuple[str, float]]:
    """The keys and seconds of targets in ms, or of the name of a benchmark's limits."""
    if isinstance(value, str):
        try:
            return list(read_target(value))
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"slo={value!r}: {error}") from None
    _check_keys("slo", value, TARGETS)
    return [(key, _seconds("slo", key, ms)) for key, ms in value.items()]


def _slo_classes(value: Any) -> list[SLO]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"slo_classes={value!r} is not allowed: give a mapping like {{'chat': {{'share': 1}}}}.")
    found = []
    for name, parts in value.items():
        where = f"slo_classes[{name!r}]"
        _check_keys(where, parts, ("share", *TARGETS))
        if "share" not in parts:
            raise ValueError(f"{where} has no share: give its share of the arrivals.")
        check(f"{where} share", parts["share"], Number(0, 1, above=True))
        times = {TARGETS[key].field: _seconds(where, key, ms) for key, ms in parts.items() if key != "share"}
        found.append(SLO(name=str(name), share=float(parts["share"]), **times))
    return found


def _seconds(where: str, key: str, ms: Any) -> float:
    TARGETS[key].check_argument(ms, f"{where} {key}")
    return TARGETS[key].from_argument(float(ms))


def _controller(value: Any) -> dict[str, Any]:
    parts = {part.name: part for part in OPTIONS["controller"].parts}
    _check_keys("controller", value, parts)
    for key, given in value.items():
        if not (key == "tbt_s" and given == "auto"):
            parts[key].check_argument(given, parts[key].full_name)
    return {parts[key].field: given for key, given in value.items()}


def _bins(value: Any) -> int | tuple[int, ...]:
    if isinstance(value, int):
        check("bins", value, Number(1, MAX_BINS, whole=True))
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"bins={value!r} is not allowed: give {OPTIONS['bins'].kind.allowed()}.")
    return parse_edges(value)


def _check_keys(name: str, value: Any, known: Sequence[str] | Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r} is not allowed: give a mapping with keys of {', '.join(known)}.")
    for key in value:
        if key not in known:
            near = did_you_mean(str(key), known)
            raise ValueError(f"{name} has no {key!r}.{near} Its keys are {', '.join(known)}.")


_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "workload": _workload,
    "predictor": _predictor,
    "slo": _slo,
    "slo_classes": _slo_classes,
    "controller": _controller,
    "bins": _bins,
}
"""Arguments of a form of their own."""
