"""From the options of a command line to a scenario: defaults, named scenarios, and what replaces what."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.cli.options import FLAGS
from llmsched.eval.cli.readers import TARGETS, slo_of
from llmsched.eval.scenarios.hardware import engine_settings, warn_about_hardware
from llmsched.eval.scenarios.scenario import Scenario
from llmsched_env.config import SLO, Continuous, Controller, Queueing, SimConfig
from llmsched_env.files.showing import visible
from llmsched_env.options.declaration import Option
from llmsched_env.options.presets import OWN, RULES, against_cache, preset
from llmsched_env.options.table import settings
from llmsched_env.servers import gpu_of, parse_servers
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.trace_columns import TraceClasses
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload, origin_of


def exclusive(mark: str) -> tuple[str, ...]:
    """The options of which only one may be given, by the name in a parsed command line."""
    return tuple(dest for dest, option in FLAGS.items() if option.one_of == mark)


RATES, SIZES, SLOS = exclusive("rate"), exclusive("size"), exclusive("targets")


def _default(option: Option, engine: str) -> Any:
    """A default as the reader of the option would give it."""
    value = option.default_in(engine, flag=True)
    if option.name == "slo":
        return [(key, TARGETS[key].from_flag(ms)) for key, ms in value.items()]
    return value


DEFAULTS: dict[str, Any] = {
    dest: _default(option, "batch") for dest, option in FLAGS.items() if _default(option, "batch") is not None
}
"""The default scenario, that of the environment with longer runs; times in seconds."""

LLAMA2: dict[str, Any] = {"profile": "h100-80gb_llama2-70b_tp4", "rate": 2.5, "goodput": [("e2el", 30.0)]}
"""What the scenario `llama2-h100` changes: a model and a stack of 2023, the default before."""

LLAMA2_CONTINUOUS: dict[str, Any] = {
    "profile": "h100-80gb_llama2-70b_tp4",
    "rate": 10.0,
    "goodput": [("ttft", 2.0), ("tpot", 0.1)],
    "max_batch": 256,
}
"""The same in the engine `continuous`."""

MEMORY: dict[str, Any] = {
    "rate": 1.7,
    "profile": "a100-80gb_bloom-176b_tp8",
    "kv_tokens": 51_717.0,
    "goodput": [("e2el", 60.0), ("tpot", 0.1)],
}
"""What the scenario `memory` changes: a model whose weights leave little KV memory.

The memory target settles at about 30 requests.  Such a batch decodes in about 80 ms a step, so with D = 100 ms (the
TPOT target) the SLA target stays above it: memory binds.  At 1.7 requests/s most batches of the single-queue policies
reach the target, the KV memory fills and preempts, and 60 s is within reach of the better policies only.
"""

CONTINUOUS: dict[str, Any] = {
    dest: _default(option, "continuous")
    for dest, option in FLAGS.items()
    if _default(option, "continuous") != _default(option, "batch")
}
"""What the engine `continuous` changes in the default scenario."""

NAMED: dict[str, dict[str, dict[str, Any]]] = {
    "default": {"batch": DEFAULTS, "continuous": DEFAULTS | CONTINUOUS},
    "llama2-h100": {"batch": DEFAULTS | LLAMA2, "continuous": DEFAULTS | LLAMA2_CONTINUOUS},
    "memory": {"batch": DEFAULTS | MEMORY, "continuous": DEFAULTS | MEMORY | {"max_batch": 256}},
}
"""The named scenarios by engine; those of 2023 have the engine's own rules."""


def scenario_from(options: argparse.Namespace) -> Scenario:
    """The scenario of parsed options (llmsched.eval.cli.options); what is not given comes from the named scenario.

    Raises ``ValueError`` with a line for the user.
    """
    values = _merged(options)
    brought = _brought(options, values)
    values |= _of_rules(options, values, brought) | brought
    source, said = _source(values)
    classes = _classes(values, said)
    workload = _workload(options, values, source, classes)
    if values["predictor"] == "none" and options.bins is None:
        values["bins"] = 1  # every prediction is the same
    edges = values["bins"] if isinstance(values["bins"], tuple) else bin_edges(workload, values["bins"])
    controller = dict(values["controller"])
    tune_tbt = controller.get("tbt_s") == "auto"
    if tune_tbt:
        del controller["tbt_s"]
    _check_engine(options, values["engine"])
    named = {option.name: values.get(dest) for dest, option in FLAGS.items()}
    config = SimConfig(
        servers=parse_servers(values["profile"], values.get("servers"), values.get("kv_tokens")),
        queueing=Queueing(edges, **settings("queueing", named)),
        slos=tuple(classes),
        controller=Controller(**controller),
        continuous=Continuous(**settings("continuous", named)),
        **settings("", named),
    )
    warn_about_hardware(config, workload, brought)
    warn_of_narrow_search(config)
    return Scenario(
        name=options.scenario,
        config=config,
        workload=workload,
        source=visible(str(getattr(values["workload"], "name", values["workload"]))),
        profile=visible(values["profile"]),
        bins_from="given" if isinstance(values["bins"], tuple) else "quantiles of the calibration split",
        load=values.get("load"),
        tune_tbt=tune_tbt,
    )


def _of_rules(options: argparse.Namespace, values: Mapping[str, Any], brought: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were not given and that the named rules of an engine set on the GPUs of the profile.

    ``brought``: those of the profile, which win.  Rules that nobody asked for have no prefix cache where there can be
    none.
    """
    if values["engine"] != "continuous" or values["rules"] == OWN:
        return {}
    servers = parse_servers(values["profile"], kv_tokens=values.get("kv_tokens"))
    budget = brought.get("token_budget", options.token_budget)
    found = preset(values["rules"], [gpu_of(server.profile) for server in servers], budget)
    found = {name: value for name, value in found.items() if getattr(options, name) is None}
    reason = against_cache((server.eta for server in servers), values["discipline"])
    if options.rules is None and {**found, **brought}.get("prefix_cache") == "on" and reason:
        found["prefix_cache"] = "off"
        why = reason.partition(":")[0]
        warnings.warn(f"the rules {values['rules']} are used without their prefix cache, which {why}.", stacklevel=3)
    return found


def _brought(options: argparse.Namespace, values: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were not given and that the profile brings: the settings of the engine that it was fitted with.

    Rules that were asked for win over those of the fit, which win over the rules of the scenario.
    """
    if values["engine"] != "continuous" or options.profile is None:
        return {}
    asked = RULES[options.rules or OWN]
    found = engine_settings(values["profile"])
    return {name: value for name, value in found.items() if name not in asked and getattr(options, name) is None}


def warn_of_narrow_search(config: SimConfig) -> None:
    """Warn where the SLA controller cannot search: its interval is never narrower than alpha."""
    controller = config.controller
    if controller.kind == "paper" and controller.b_min < config.max_batch < 2 * controller.alpha:
        outcome = "to b_min" if config.max_batch <= controller.alpha else "far below max_batch"
        warnings.warn(
            f"max_batch={config.max_batch} is less than twice alpha={controller.alpha:g}, the least width of the "
            f"interval that the SLA controller searches: its targets, which dynamic, multibin and others use, can fall "
            f"{outcome} whatever the load. Give a smaller alpha, or a larger max_batch.",
            stacklevel=3,
        )


def _check_engine(options: argparse.Namespace, engine: str) -> None:
    """``ValueError`` where an option was given that only the other engine has."""
    for dest, option in FLAGS.items():
        if option.engine not in ("", engine) and getattr(options, dest, None) is not None:
            raise ValueError(
                f"{option.flag} belongs to the engine {option.engine}: give --engine {option.engine}, or drop it."
            )


def _merged(options: argparse.Namespace) -> dict[str, Any]:
    """The options given, over the values of the named scenario that they do not replace."""
    given = {key: value for key, value in vars(options).items() if value is not None}
    if "goodput" in given:  # each is a target, (key, seconds), or the targets of a word of the command line
        words = [[one] if isinstance(one[0], str) else one for one in given["goodput"]]
        given["goodput"] = [pair for targets in words for pair in targets]
    values = dict(NAMED[options.scenario][given.get("engine", "batch")])
    for group in (RATES, SIZES):
        if any(key in given for key in group):
            for key in group:
                values.pop(key, None)
    if "profile" in given:
        values.pop("kv_tokens", None)
        if set(",:") & set(given["profile"]) and not Path(given["profile"]).is_file():
            values.pop("servers", None)  # the profile counts them
    return values | given


def _source(values: Mapping[str, Any]) -> tuple[str | Trace, TraceClasses | None]:
    """The generator's name, or the trace, read once; and the SLO classes that its rows name."""
    source = origin_of(values["workload"])
    return (source, source.classes) if isinstance(source, Trace) else (values["workload"], None)


def _classes(values: Mapping[str, Any], said: TraceClasses | None) -> list[SLO]:
    """The SLO classes; where a trace names them its shares count, and without targets for each all have the same."""
    classes = values.get("slo_classes") or [slo_of(values["goodput"])]
    names = [slo.name for slo in classes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the SLO class {name} is given {names.count(name)} times: give each another name.")
    if said is None:
        return classes
    if not values.get("slo_classes"):
        classes, names = [replace(classes[0], name=name) for name in said.names], list(said.names)
    counts = np.bincount(said.among(names), minlength=len(names))
    return [replace(slo, share=float(count / counts.sum())) for slo, count in zip(classes, counts, strict=True)]


def _workload(
    options: argparse.Namespace, values: Mapping[str, Any], source: str | Trace, classes: Sequence[SLO]
) -> Workload:
    """The workload; a trace file brings its own rate and size unless the user gave others."""
    asked = {key: values[key] for key in (*RATES, *SIZES) if key in values}
    prefix, shares, names = values["shared_prefix"], tuple(slo.share for slo in classes), tuple(s.name for s in classes)
    if isinstance(source, Trace):
        for key in ("rate", "requests"):
            if getattr(options, key) is None:
                asked.pop(key, None)
    return Workload(
        source,
        requests=asked.get("requests"),
        duration_s=asked.get("duration"),
        rate=asked.get("rate"),
        rate_scale=asked.get("rate_scale", 1.0),
        burstiness=values.get("burstiness"),
        predictor=values["predictor"],
        slo_shares=shares,
        slo_names=names,
        shared_prefix=prefix,
        concurrency=asked.get("concurrency"),
        sessions=asked.get("sessions"),
        think=values["think"],
    )
