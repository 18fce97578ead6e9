"""The Multi-Bin theorem against simulation, and what is left of its gain outside its assumptions.

Three steps away from the theorem: other k and B; predictions that err; latencies that charge prompts.  "Saturated"
means one server with all requests waiting from the start, so throughput is capacity.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmsched.eval.cli.frame import Experiment, Findings, Session, scenario_of
from llmsched.eval.cli.option_lists import several
from llmsched.eval.cli.options import run_parser_for
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.theorem import limit, throughput, whole_tokens
from llmsched.eval.figures.charts import Panel, Series, lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.scenario import Scenario
from llmsched.policies import parse
from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.words import MAX_BATCH_LIMIT

SATURATED = ("--servers", "1", "--rate", "1e6", "--kv-tokens", "inf", "--controller", "paper:tbt=1000")
"""Everything waits from the start and memory is no limit; the controllers' D is not read, and in no profile's way."""

FILL = 400
"""Requests per bin and place in a batch, at least, where the theorem itself is met: then the last batches, which are
not full, cost under 0.3 %."""

LOADED_REQUESTS = 20_000
"""Of the default scenario."""

BINS, BATCH = 4, 32
"""Where prediction errors and latency models are looked at."""

LENGTHS = ("azure-conv", "azure-code", "mooncake-conv")
MODELS = {
    "ideal": "prompts free",
    "synthetic": "prompts free",
    "peer-qwen3-1.7b-rtx4080": "prompts like outputs",
    "h100-80gb_llama2-70b_tp4": "measured",
    "a100-80gb_bloom-176b_tp8": "measured",
}
HONEST = "h100-80gb_llama2-70b_tp4"
PROMPT_ONLY = "prompt-only"
LOADED = ("dynamic", "multibin", "longest-queue")


@dataclass(frozen=True)
class Plan:
    """One system to run under every seed: its policy, its scenario and how its rows are marked."""

    policy: str
    scenario: Scenario
    factors: dict[str, object]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument_group("theory").add_argument
    whole = {"whole": True}
    add("--bin-counts", type=several(number(1, MAX_BINS, **whole)), default=(1, 2, 4, 8, 16, 32), metavar="K,K,...")
    add("--batches", type=several(number(1, MAX_BATCH_LIMIT, **whole)), default=(2, 8, 32, 64), metavar="B,B,...")
    add("--sigmas", type=several(number(0, 5)), default=(0, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2), metavar="S,S,...")
    add("--requests", type=number(100, 1e8, whole=True), default=50_000, metavar="N", help="requests per run")


def saturated(workload: str, profile: str, predictor: str, bins: int, requests: int, batch: int = BATCH) -> Scenario:
    """One server, everything waiting from the start."""
    words = ("--workload", workload, "--profile", profile, "--predictor", predictor, "--bins", str(bins))
    return scenario_of(*SATURATED, *words, "--requests", str(requests), "--max-batch", str(batch))


def run(session: Session, plans: Sequence[Plan], label: str) -> list[list[Outcome]]:
    """Outcomes by plan and seed."""
    seeds = session.seeds
    cells = [Cell(plan.policy, parse(plan.policy), plan.scenario, seed) for plan in plans for seed in seeds]
    found = session.runs(cells, label, [plan.factors for plan in plans for _ in seeds])
    return [found[row * len(seeds) : (row + 1) * len(seeds)] for row in range(len(plans))]


def rates(runs: Sequence[Outcome]) -> list[float]:
    """Throughput of every seed, requests/s."""
    return [outcome.summary["request_throughput"] for outcome in runs]


def gain(runs: Sequence[Outcome], base: Sequence[Outcome]) -> Interval:
    """Relative gain in throughput over ``base``, paired by seed."""
    return interval([one / other - 1.0 for one, other in zip(rates(runs), rates(base), strict=True)])


def _scaled(value: Interval, factor: float) -> Interval:
    return Interval(value.mean * factor, None if value.half is None else value.half * factor)


def theorem(session: Session) -> tuple[list[Table], dict[str, Callable]]:
    """Step 0: its own assumptions, over k and B."""
    options = session.options
    pairs = [(batch, bins) for batch in options.batches for bins in options.bin_counts]
    plans = [
        Plan(
            f"multibin-fixed:batch={batch}",
            saturated("uniform", "ideal", "oracle", bins, max(options.requests, FILL * bins * batch), batch),
            {"part": "theorem", "batch": batch, "bins": bins},
        )
        for batch, bins in pairs
    ]
    found = run(session, plans, "theorem")
    rows = []
    for (batch, bins), runs in zip(pairs, found, strict=True):
        measured, published = interval(rates(runs)), throughput(bins, batch)
        base = pairs.index((batch, 1)) if (batch, 1) in pairs else None
        rows.append(
            {
                "batch": batch,
                "bins": bins,
                "published": published,
                "whole_tokens": whole_tokens(bins, batch),
                "simulated": measured,
                "difference": interval([rate / published - 1.0 for rate in rates(runs)]),
                "gain": None if base is None else gain(runs, found[base]),
                "of_limit": measured.mean / limit(batch),
            }
        )
    table = Table(
        "theorem",
        "The theorem and its simulation: one saturated server, uniform outputs of 1 to 1000 tokens, known exactly",
        [
            Column("batch", "B", digits=0),
            Column("bins", "k", digits=0),
            Column("published", "published", "req/s", 2),
            Column("whole_tokens", "whole tokens", "req/s", 2),
            Column("simulated", "simulated", "req/s", 2),
            Column("difference", "sim. - published", "%", 2, 100.0, signed=True),
            Column("gain", "gain over k = 1", "%", 1, 100.0, signed=True),
            Column("of_limit", "of the limit", "%", 1, 100.0),
        ],
        rows,
        "published: the formula. whole tokens: the same for whole lengths, no approximation. limit: ever more bins.",
    )

    def draw():
        series = []
        for row, batch in enumerate(options.batches):
            own = [r for r in rows if r["batch"] == batch]
            places = [r["bins"] for r in own]
            series.append(Series(f"B = {batch}", places, [_scaled(r["simulated"], 1 / limit(batch)) for r in own], row))
            guide = [Interval(throughput(k, batch) / limit(batch), None) for k in places]
            series.append(Series("published formula", places, guide, row, guide=True))
        panel = Panel("", "bins k", "throughput, % of that with ever more bins", series, log_x=True, factor=100.0)
        return lines("The Multi-Bin theorem", table.title, [panel], columns=1, height=4.6)

    return [table], {"theorem": draw}


def prediction(session: Session) -> tuple[list[Table], dict[str, Callable]]:
    """Step 1: predictions err; the theorem's system, the trace's lengths, and the default scenario under its load."""
    options = session.options
    predictors = [*(f"noisy:{sigma:g}" for sigma in options.sigmas), PROMPT_ONLY]
    systems = {"gain_uniform": ("uniform", "ideal"), "gain_conv": ("azure-conv", HONEST)}
    name = f"multibin-fixed:batch={BATCH}"
    plans = [
        Plan(name, saturated(*system, predictor, bins, options.requests), {"part": key, "predictor": predictor})
        for key, system in systems.items()
        for bins, group in ((1, ["oracle"]), (BINS, predictors))
        for predictor in group
    ]
    loaded = [
        Plan(
            policy,
            scenario_of("--predictor", predictor, "--requests", str(min(LOADED_REQUESTS, options.requests))),
            {"part": "loaded", "predictor": predictor},
        )
        for predictor in predictors
        for policy in LOADED
    ]
    found = run(session, plans, "prediction error")
    slo = run(session, loaded, "prediction error, loaded")
    rows: list[dict] = [{"predictor": predictor} for predictor in predictors]
    for place, key in enumerate(systems):
        base, *others = found[place * (1 + len(predictors)) : (place + 1) * (1 + len(predictors))]
        for row, runs in zip(rows, others, strict=True):
            row[key] = gain(runs, base)
    for number_, row in enumerate(rows):
        group = slo[number_ * len(LOADED) : (number_ + 1) * len(LOADED)]
        for policy, runs in zip(LOADED, group, strict=True):
            row[policy] = interval([outcome.summary["slo_attainment"] for outcome in runs])
    table = Table(
        "prediction",
        f"Prediction error: gain in saturated throughput of {BINS} bins over one (B = {BATCH}), and SLO attainment in "
        "the default scenario",
        [
            Column("predictor", "predictor"),
            Column("gain_uniform", "theorem's system", "gain, %", 1, 100.0, signed=True),
            Column("gain_conv", "azure-conv, H100", "gain, %", 1, 100.0, signed=True),
            *(Column(policy, policy, "SLO met, %", 1, 100.0) for policy in LOADED),
        ],
        rows,
        "noisy:S multiplies the true length by exp(S z). prompt-only sees the prompt alone; in the theorem's system "
        "all prompts are one token, so it is blind there. Gains are paired by seed.",
    )

    def draw():
        noisy = rows[:-1]
        x = list(options.sigmas)
        gains = [
            Series("theorem's system", x, [r["gain_uniform"] for r in noisy], 3),
            Series("azure-conv lengths, H100", x, [r["gain_conv"] for r in noisy], 4),
        ]
        met = [Series(policy, x, [r[policy] for r in noisy], row) for row, policy in enumerate(LOADED)]
        panels = [
            Panel(
                f"saturated, k = {BINS}, B = {BATCH}", "sigma of the prediction error", "gain, %", gains, factor=100.0
            ),
            Panel("default scenario", "sigma of the prediction error", "SLO met, %", met, factor=100.0),
        ]
        return lines("What prediction error leaves of the gain", table.title, panels)

    return [table], {"prediction": draw}


def prompts(session: Session) -> tuple[list[Table], dict[str, Callable]]:
    """Step 2: real lengths, and latency models from those that charge no prompts to those that were measured."""
    options = session.options
    name = f"multibin-fixed:batch={BATCH}"
    variants = {
        "one": (1, "oracle"),
        "oracle": (BINS, "oracle"),
        "noisy": (BINS, "noisy:0.3"),
        "blind": (BINS, PROMPT_ONLY),
    }
    systems = [(workload, profile) for workload in LENGTHS for profile in MODELS]
    plans = [
        Plan(
            name,
            saturated(workload, profile, predictor, bins, options.requests),
            {"part": "prompts", "workload": workload, "profile": profile, "bins": bins, "predictor": predictor},
        )
        for workload, profile in systems
        for bins, predictor in variants.values()
    ]
    found = run(session, plans, "latency models")
    rows = []
    for place, (workload, profile) in enumerate(systems):
        own = dict(zip(variants, found[place * len(variants) : (place + 1) * len(variants)], strict=True))
        shares = [_prefill_share(outcome) for outcome in own["one"]]
        row: dict = {"workload": workload, "profile": profile, "model": MODELS[profile], "prefill": interval(shares)}
        rows.append(row | {key: gain(own[key], own["one"]) for key in ("oracle", "noisy", "blind")})
    table = Table(
        "prompts",
        f"Where the gain goes: saturated throughput of {BINS} bins over one (B = {BATCH}) by lengths and latency model",
        [
            Column("workload", "lengths"),
            Column("profile", "profile"),
            Column("model", "latency model"),
            Column("prefill", "prefill", "% of time", 1, 100.0),
            Column("oracle", "known", "gain, %", 1, 100.0, signed=True),
            Column("noisy", "noisy:0.3", "gain, %", 1, 100.0, signed=True),
            Column("blind", "prompt-only", "gain, %", 1, 100.0, signed=True),
        ],
        rows,
        "prefill: share of a batch's time before its first token, without bins; binning by output cannot shorten it. "
        "No memory limit, so that every batch is full.",
    )
    return [table], {}


def _prefill_share(outcome: Outcome) -> float:
    """Share of service time before the first token, in a run of full batches on one server without a pause."""
    found = outcome.summary
    batches = found["completed"] / found["mean_batch_size"]
    return (found["mean_ttft_ms"] - found["mean_queue_ms"]) / 1000.0 * batches / found["duration_s"]


def find(session: Session) -> Findings:
    """All three steps."""
    tables: list[Table] = []
    drawings: dict[str, Callable] = {}
    for step in (theorem, prediction, prompts):
        more, drawn = step(session)
        tables += more
        drawings |= drawn
    heading = (
        "theory: what binning gains, from the Multi-Bin theorem to measured latencies\n"
        f"{len(session.seeds)} seeds from {session.seeds[0]}; ± 95 % interval (Student t over seeds)"
    )
    shown = saturated("uniform", "ideal", "oracle", BINS, session.options.requests)
    cells = [Cell("multibin-fixed", parse(f"multibin-fixed:batch={BATCH}"), shown, session.seeds[0])]
    return Findings(heading, tables, drawings, {"bins": BINS, "batch": BATCH}, timeline=cells)


EXPERIMENT = Experiment(
    "theory.py",
    "The Multi-Bin theorem against simulation, and what is left of it with prediction errors and measured latencies.",
    add_options,
    find,
    run_parser_for,
)
