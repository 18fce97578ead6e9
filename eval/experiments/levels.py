"""Do conclusions depend on the fidelity of the model?  The same policies at four levels, and the agreement of ranks.

Arrivals are Poisson, or as recorded (the trace, or the generator fitted on it); latencies are synthetic, or fitted on
measurements.  Lengths, predictions and policies are the same on all levels.  No level is harder than another: all have
the same load (a multiple of the capacity of static:batch=auto there), and latency targets that are the same multiple of
the time of a request alone.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import VALIDATED, at_load, resolve
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import variant, with_targets
from llmsched_env.config import Server
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload

POLICIES = (
    "static,static:batch=auto,dynamic,multibin,multibin-fixed,longest-queue,sjf:batch=auto,least-slack,"
    "adaptive-memory,random"
)
LOAD = 1.0
SAMPLE = 2000
"""Requests over which the time alone is averaged."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("levels").add_argument
    add("--policies", default=POLICIES, metavar="LIST", help="the policies that are ranked")
    add("--simple-profile", default="synthetic", metavar="NAME|FILE", help="the synthetic latency (default synthetic)")


def alone_s(profile: Profile, requests: Requests) -> float:
    """Mean time in seconds that ``requests`` take, each by itself on an idle server."""
    times = []
    for prompt, output in zip(requests.prompt_tokens[:SAMPLE], requests.output_tokens[:SAMPLE], strict=True):
        step = profile.decode_step_ms(1, prompt + output / 2)
        times.append(profile.prefill_ms(prompt) + (output - 1) * step)
    return float(np.mean(times)) / 1000.0


def with_poisson_arrivals(workload: Workload, seed: int) -> Workload:
    """The same lengths at Poisson arrivals; of a trace the rows stay in order and get other times."""
    trace = workload.trace
    if trace is None:
        return replace(workload, burstiness=1.0)
    gaps = np.random.default_rng([seed, len(trace)]).exponential(trace.mean_gap_s, len(trace) - 1)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    return replace(workload, source=Trace(times, trace.prompt_tokens, trace.output_tokens, f"{trace.name}, Poisson"))


def with_simple_profile(scenario: Scenario, profile: Profile) -> Scenario:
    """The scenario with other latencies; targets and the controllers' D are scaled like the time of a request alone."""
    own, sample = scenario.config.servers[0], scenario.draw(0, "calibration")
    scale = alone_s(profile, sample) / alone_s(own.profile, sample)
    controller = scenario.config.controller
    controller = replace(controller, tbt_s=scenario.config.tbt_s * scale, eps_s=controller.eps_s * scale)
    servers = tuple(Server(profile, server.eta) for server in scenario.config.servers)
    scaled = with_targets(scenario, scale)
    return replace(scaled, config=replace(scaled.config, servers=servers, controller=controller), profile=profile.name)


def levels(session: Session) -> dict[str, Scenario]:
    """The four scenarios by name, at the same load, simplest first."""
    options = session.options
    if options.rate is not None or options.rate_scale is not None:
        raise ValueError("--rate and --rate-scale: the levels run at equal loads; give --load.")
    profile = load_profile(options.simple_profile)
    if options.engine == "continuous" and profile.form == "batch-length":
        raise ValueError(
            f"--simple-profile {options.simple_profile} has the form 'batch-length', which knows no iterations: "
            "give another with --engine continuous."
        )
    load = LOAD if options.load is None else options.load
    base = variant(options, load=load)
    plain = replace(base, workload=with_poisson_arrivals(base.workload, options.seed))
    arrivals = "recorded" if base.workload.trace is not None else "modulated"
    scenarios = {
        "Poisson, synthetic": with_simple_profile(plain, profile),
        f"{arrivals}, synthetic": with_simple_profile(base, profile),
        "Poisson, measured": plain,
        f"{arrivals}, measured": base,
    }
    return {name: at_load(replace(level, load=load), session.crew)[0] for name, level in scenarios.items()}


def find(session: Session) -> Findings:
    """Run all policies on all levels."""
    policies = session.policies(session.options.policies)
    if len(policies) < 2:
        raise ValueError("--policies: ranks need at least two policies.")
    scenarios = levels(session)
    cells, factors = [], []
    for name, scenario in scenarios.items():
        entrants = resolve(policies, scenario, session.crew)
        session.notes += [f"{name}: {e.label} -> {e.policy.text} ({VALIDATED})." for e in entrants if e.choice]
        for entrant in entrants:
            for seed in session.seeds:
                cells.append(Cell(entrant.label, entrant.policy, entrant.scenario, seed))
                factors.append({"level": name, "rate": scenario.workload.mean_rate, "targets": scenario.goal})
    found = session.runs(cells, "levels", factors)
    shape = (len(scenarios), len(policies), len(session.seeds))
    met = np.array([outcome.summary["slo_attainment"] for outcome in found]).reshape(shape)
    names = [policy.label for policy in policies]
    tables = [systems(scenarios), attainments(list(scenarios), names, met), agreement(list(scenarios), met)]
    heading = (
        f"levels: the same {len(names)} policies at four levels of fidelity, all at load "
        f"{next(iter(scenarios.values())).load:g}\n"
        f"{len(session.seeds)} seeds from {session.seeds[0]}; ± 95 % interval (Student t over seeds)"
    )

    def draw():
        """The figure: SLO met by level, a line a policy."""
        places = list(range(1, len(scenarios) + 1))
        means = [[interval(list(met[level, row])) for level in range(len(scenarios))] for row in range(len(names))]
        series = [
            ChartLine(name, places, values, row) for row, (name, values) in enumerate(zip(names, means, strict=True))
        ]
        panel = Panel("", "level", "SLO met, %", series, factor=100.0, share=True, ticks=tuple(scenarios))
        return draw_lines(
            "Policies at four levels of fidelity", heading.splitlines()[0], [panel], columns=1, height=5.0
        )

    drawings: dict[str, Callable] = {"levels": draw}
    about = {"levels": {name: scenario.describe() for name, scenario in scenarios.items()}}
    best = list(scenarios.values())[-1]
    shown = [cell for cell in cells if cell.seed == session.seeds[0] and cell.scenario.workload == best.workload]
    return Findings(heading, tables, drawings, about, timeline=shown[-len(policies) :])


def systems(scenarios: Mapping[str, Scenario]) -> Table:
    """The differences between the levels."""
    rows: list[dict] = [
        {
            "level": name,
            "profile": s.profile,
            "rate": s.workload.mean_rate,
            "targets": s.goal,
            "d": 1000 * s.config.tbt_s,
        }
        for name, s in scenarios.items()
    ]
    columns = [
        Column("level", "level"),
        Column("profile", "latencies"),
        Column("rate", "rate", "req/s", 3),
        Column("targets", "targets"),
        Column("d", "controllers' D", "ms", 2),
    ]
    note = (
        "measured: fitted on measurements (the profile's provenance). The clock of a trace is scaled to the rate; the "
        "modulation of a generator keeps its seconds."
    )
    return Table("systems", "The levels", columns, rows, note)


def attainments(scenarios: Sequence[str], names: Sequence[str], met: NDArray[np.float64]) -> Table:
    """Attainment and rank of every policy on every level; ``met`` (levels, policies, seeds)."""
    ranks = (-met.mean(axis=2)).argsort(axis=1, kind="stable").argsort(axis=1) + 1
    rows = []
    for row, name in enumerate(names):
        line: dict = {"policy": name}
        for level in range(len(scenarios)):
            line |= {f"met_{level}": interval(list(met[level, row])), f"rank_{level}": int(ranks[level, row])}
        rows.append(line)
    columns = [Column("policy", "policy")]
    for level, name in enumerate(scenarios):
        arrivals, latencies = name.split(", ")
        columns += [
            Column(f"met_{level}", f"{arrivals},", latencies, 1, 100.0),
            Column(f"rank_{level}", "", "rank", 0),
        ]
    return Table("levels", "SLO attainment, % of all arrivals, and rank, by level", columns, rows)


def agreement(scenarios: Sequence[str], met: NDArray[np.float64]) -> Table:
    """Kendall's tau of every pair of levels, and pairs of policies with a significant, opposite order."""
    rows: list[dict] = []
    for one, other in itertools.combinations(range(len(scenarios)), 2):
        seeds = [_tau(met[one, :, i], met[other, :, i]) for i in range(met.shape[2])]
        sure = [
            (_sign(met[one, a] - met[one, b]), _sign(met[other, a] - met[other, b]))
            for a, b in itertools.combinations(range(met.shape[1]), 2)
        ]
        rows.append(
            {
                "one": scenarios[one],
                "other": scenarios[other],
                "tau": _tau(met[one].mean(axis=1), met[other].mean(axis=1)),
                "seeds": interval(seeds),
                "decided": sum(1 for first, second in sure if first and second),
                "reversed": sum(1 for first, second in sure if first * second < 0),
            }
        )
    columns = [
        Column("one", "level"),
        Column("other", "and level"),
        Column("tau", "Kendall's tau", "of the means", 2),
        Column("seeds", "per seed", "", 2),
        Column("decided", "pairs decided", "on both", 0),
        Column("reversed", "of these", "reversed", 0),
    ]
    pairs = math.comb(met.shape[1], 2)
    note = (
        f"tau: 1 the same order, 0 none, -1 the opposite. decided: of {pairs} pairs of policies, those whose paired "
        "difference in SLO attainment excludes 0 on both levels; reversed: another one is better."
    )
    return Table("agreement", "Agreement of ranks by SLO attainment", columns, rows, note)


def _tau(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Kendall's tau-b; NaN where a level tells no two policies apart."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(kendalltau(one, other).statistic)


def _sign(gaps: NDArray[np.float64]) -> int:
    """The sign of a paired difference; 0 where its interval holds 0."""
    gap: Interval = interval(list(gaps))
    return int(np.sign(gap.mean)) if gap.excludes_zero else 0


EXPERIMENT = Experiment(
    "levels.py",
    "The same policies at four levels of fidelity, and how far their ranks agree.",
    add_options,
    find,
)
