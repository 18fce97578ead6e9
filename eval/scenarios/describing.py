"""What was simulated, written down whole: every option of a scenario for summary.json, headings and titles.

Two scenarios that differ in an option differ in all three; a test changes every declared option and looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from llmsched_env.config import SLO, SimConfig
from llmsched_env.options.declaration import Option
from llmsched_env.options.presets import preset
from llmsched_env.options.table import OPTIONS
from llmsched_env.servers import gpu_of

if TYPE_CHECKING:
    from llmsched.eval.scenarios.scenario import Scenario

IN_TITLE = frozenset(
    ("workload", "rate", "rate_scale", "load", "requests", "duration_s", "burstiness", "predictor", "slo", "sessions")
) | frozenset(("slo_classes", "engine", "profile", "servers", "concurrency"))
"""Options that a title always says."""

IN_HEADING = IN_TITLE | {"kv_tokens", "bins", "max_batch", "release"}
"""Options that a heading always says."""


def describe(scenario: Scenario) -> dict[str, Any]:
    """Everything that was simulated, ready for JSON; times in ms or s as the keys say, rates per second."""
    engine = scenario.config.engine
    rate = scenario.workload.mean_rate if scenario.workload.concurrency is None else None
    about: dict[str, Any] = {"name": scenario.name, "load": scenario.load, "rate": rate}
    for option in OPTIONS.values():
        if option.sets and not option.part_of and option.engine in ("", engine) and option.json_key not in about:
            about[option.json_key] = _json(option, scenario)
    about |= {"gpus": scenario.gpus, "bin_edges_from": scenario.bins_from}
    about |= {"warmup_requests": scenario.workload.warmup}
    return about | ({"cut_shares": list(scenario.cut)} if any(scenario.cut) else {})


def changes(scenario: Scenario, besides: frozenset[str]) -> list[str]:
    """Every option that differs from the default scenario, in words, those in ``besides`` apart."""
    engine, found = scenario.config.engine, []
    for name, option in OPTIONS.items():
        if option.sets and name not in besides and option.part_of != "slo" and option.engine in ("", engine):
            said = _said(option, scenario)
            found += [said] if said else []
    return found


def held(option: Option, scenario: Scenario) -> Any:
    """The value of an option that is one field of the configuration or of the workload."""
    root = scenario if option.sets.startswith("workload.") else scenario.config
    return attrgetter(option.sets)(root)


def targets_ms(slo: SLO) -> dict[str, float]:
    """The finite targets of a class by --goodput key, in ms."""
    found = {part.name: part.to_flag(getattr(slo, part.field)) for part in OPTIONS["slo"].parts}
    return {key: ms for key, ms in found.items() if math.isfinite(ms)}


def _json(option: Option, scenario: Scenario) -> Any:
    form = _FORMS.get(option.name)
    return form(scenario) if form else _finite(held(option, scenario))


def _controller(scenario: Scenario) -> dict[str, Any]:
    """The parts of the controller; D is the one in use, ``auto`` where it is still to be chosen."""
    found = {p.json_key: p.to_flag(getattr(scenario.config.controller, p.field)) for p in OPTIONS["controller"].parts}
    return found | {"tbt_ms": "auto" if scenario.tune_tbt else 1000 * scenario.config.tbt_s}


def _classes(scenario: Scenario) -> list[dict[str, Any]]:
    return [{"name": slo.name, "share": slo.share, "targets_ms": targets_ms(slo)} for slo in scenario.config.slos]


_FORMS: Mapping[str, Callable[[Scenario], Any]] = {
    "workload": lambda scenario: scenario.source,
    "profile": lambda scenario: scenario.profile,
    "servers": lambda scenario: len(scenario.config.servers),
    "kv_tokens": lambda scenario: [_finite(server.eta) for server in scenario.config.servers],
    "bins": lambda scenario: list(scenario.config.queueing.edges),
    "slo": _classes,
    "controller": _controller,
}
"""Options whose JSON is not simply the value of a field."""


def _said(option: Option, scenario: Scenario) -> str:
    """Words of an option that differs from its default, else an empty text."""
    config = scenario.config
    if option.name == "kv_tokens":
        given = dict.fromkeys(server.kv_tokens for server in config.servers if server.kv_tokens is not None)
        return " and ".join(option.said(value) for value in given)
    if option.name == "bins":
        bins = config.queueing.num_bins
        if scenario.bins_from != "given":
            return f"{bins} bin{'s' * (bins > 1)}" if bins != option.default else ""
        return f"bins from {', '.join(map(str, (0, *config.queueing.edges)))}"
    if option.name == "controller":
        return ""  # its parts are said
    if option.full_name == "controller tbt_s" and scenario.tune_tbt:
        return f"{option.words} auto"
    value = held(option, scenario)
    return option.said(value) if value != _default(option, config) else ""


def _default(option: Option, config: SimConfig) -> Any:
    """The default on the servers of ``config``: that of the rules which its engine has by default, if they set one."""
    gpus = [gpu_of(server.profile) for server in config.servers]
    ruled = preset(OPTIONS["rules"].default_in(config.engine), gpus)
    return ruled.get(option.full_name, option.default_in(config.engine))


def _finite(value: Any) -> Any:
    return "inf" if isinstance(value, float) and math.isinf(value) else value
