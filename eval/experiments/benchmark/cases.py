"""The cases of the benchmark: changes to a named scenario, their latency targets and their unit of load."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from llmsched.eval.runs.cells import Crew
from llmsched.eval.runs.tune import REFERENCE, capacity
from llmsched.eval.scenarios.describing import targets_ms
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from llmsched_env.config import SLO
from llmsched_env.files.showing import visible
from llmsched_env.workload.targets import FACTOR, FIRST_FACTOR, QUANTILE, TOKEN_FACTOR, alone_slo, alone_target_s
from llmsched_env.workload.traces import read_trace

REFERENCE_CONTINUOUS = {"default": "sarathi:budget=auto", "llama2-h100": "sarathi"}
"""By scenario: the policy whose capacity is load 1 in the engine `continuous`, first come, first served.  The budget of
the rules of a present vLLM, 8,192 tokens, suits few of the cases."""

COMMON: dict[str, tuple[str, ...]] = {
    "4 servers": (),
    "1 server": ("--servers", "1"),
    "16 servers": ("--servers", "16"),
    "bursty gaps": ("--burstiness", "0.25"),
    "Poisson gaps": ("--burstiness", "1"),
    "8 bins": ("--bins", "8"),
    "azure-code": ("--workload", "azure-code"),
    "bloom, little memory": ("--profile", "a100-80gb_bloom-176b_tp8"),
}

CASES: dict[str, dict[str, tuple[str, ...]]] = {
    "default": COMMON
    | {
        "NEW profile": ("--profile", "h200/minimax-m2.5/vllm/fp8-tp4-0.16.0"),
        "NEW workload": ("--workload", "mooncake-conv"),
    },
    "llama2-h100": COMMON
    | {
        "NEW profile": ("--profile", "a100-80gb_llama2-70b_tp8"),
        "NEW workload": ("--workload", "mooncake-conv"),
    },
}
"""By scenario: its changes.  The last two of each were never trained on.  The targets fit the case."""

CHANGED_CONTINUOUS = {"mooncake-conv": ("--workload", "mooncake-conv"), "NEW workload": ("--workload", "burstgpt")}
"""Cases of the engine `continuous` that differ: its network was trained on other systems."""


@dataclass(frozen=True)
class Case:
    """A scenario without its load; ``unit``: the rate of load 1 there, in requests/s."""

    name: str
    scenario: Scenario
    unit: float


def cases_of(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """The cases asked for, as changes to the scenario."""
    known = CASES[options.scenario]
    if options.engine == "continuous":
        known = known | CHANGED_CONTINUOUS
    names = list(known) if options.cases == "all" else [name.strip() for name in options.cases.split(";")]
    for name in names:
        if name not in known:
            raise ValueError(f"--cases: {name!r} is not known. Choose from {'; '.join(known)}.")
    found = {name: known[name] for name in names}
    for file in options.trace:
        read_trace(file)  # refused here, not after minutes
    return found | {f"trace {visible(Path(file).stem)}": ("--workload", file) for file in options.trace}


def base_of(options: argparse.Namespace, *words: str) -> Scenario:
    """The scenario of the options, with the changes ``words``."""
    return scenario_of("--scenario", options.scenario, "--engine", options.engine, *words)


def case_of(name: str, words: tuple[str, ...], options: argparse.Namespace, crew: Crew) -> Case:
    """The case, with targets that fit its hardware and workload, and its unit of load."""
    words = ("--rate", "1", "--requests", str(options.requests), *words)
    slo = targets_of(base_of(options, *words), options)
    goodput = [f"{key}:{round(ms, 3)!r}" for key, ms in targets_ms(slo).items()]
    scenario = base_of(options, *words, "--goodput", *goodput)
    scenario = replace(scenario, cut=(options.warmup, options.cooldown))
    start = len(scenario.config.servers) / slo.deadline_s
    reference = parse(REFERENCE if options.engine == "batch" else REFERENCE_CONTINUOUS[options.scenario])
    return Case(name, scenario, capacity(reference, scenario.at_rate(start), crew).rate)


def targets_of(scenario: Scenario, options: argparse.Namespace) -> SLO:
    """The targets of a case: as many times what a request takes alone there as in the scenario without changes.

    Those of 2023 are the FACTORs of workload.targets.
    """
    alone = _alone(scenario, options.engine)
    if options.scenario != "default":
        return alone
    base = base_of(options)
    usual, given = _alone(base, options.engine), base.config.slos[0]
    return SLO(
        ttft_s=given.ttft_s * alone.ttft_s / usual.ttft_s if options.engine == "continuous" else given.ttft_s,
        tpot_s=given.tpot_s * alone.tpot_s / usual.tpot_s if options.engine == "continuous" else given.tpot_s,
        e2e_s=given.e2e_s * alone.e2e_s / usual.e2e_s if options.engine == "batch" else given.e2e_s,
    )


def _alone(scenario: Scenario, engine: str) -> SLO:
    profile = scenario.config.servers[0].profile
    if engine == "batch":
        return SLO(e2e_s=alone_target_s(profile, scenario.source))
    return alone_slo(profile, scenario.source)


def target_of(options: argparse.Namespace) -> str:
    """The targets in words."""
    ends = f"the p{100 * QUANTILE:g} of a request served alone"
    if options.scenario == "default":
        given = ", ".join(f"{key} {ms:g} ms" for key, ms in targets_ms(base_of(options).config.slos[0]).items())
        return f"target {given} with the profile and workload of the scenario, else in the ratio of {ends}"
    if options.engine == "batch":
        return f"target {FACTOR:g} x {ends}"
    return f"engine continuous, TTFT target {FIRST_FACTOR:g} x and TPOT target {TOKEN_FACTOR:g} x {ends}"
