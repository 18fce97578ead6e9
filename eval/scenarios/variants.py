"""Scenarios made from options and from other scenarios: with other values, servers or targets."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from llmsched.eval.cli.options import parser_for
from llmsched.eval.scenarios.from_options import RATES, SIZES, scenario_from
from llmsched.eval.scenarios.scenario import Scenario

OF_2023 = ("--scenario", "llama2-h100")
"""The scenario of experiments that bring their own cases; the networks were trained in it."""


def scenario_of(*words: str) -> Scenario:
    """The scenario of these options, written as on the command line."""
    return scenario_from(parser_for("scenario", "").read(list(words)))


def variant(options: argparse.Namespace, **changes: Any) -> Scenario:
    """The scenario of ``options`` with other values; options that exclude a changed one are dropped."""
    values = dict(vars(options))
    for group in (RATES, SIZES, ("goodput", "slo_classes")):
        if set(group) & changes.keys():
            values |= dict.fromkeys(group)
    return scenario_from(argparse.Namespace(**(values | changes)))


def with_servers(scenario: Scenario, count: int) -> Scenario:
    """The scenario with ``count`` servers of its first kind."""
    return replace(scenario, config=replace(scenario.config, servers=(scenario.config.servers[0],) * count))


def with_targets(scenario: Scenario, scale: float) -> Scenario:
    """The scenario with all latency targets times ``scale``; the controllers' target between tokens stays."""
    slos = tuple(
        replace(slo, ttft_s=slo.ttft_s * scale, tpot_s=slo.tpot_s * scale, e2e_s=slo.e2e_s * scale)
        for slo in scenario.config.slos
    )
    controller = replace(scenario.config.controller, tbt_s=scenario.config.tbt_s)
    return replace(scenario, config=replace(scenario.config, slos=slos, controller=controller))
