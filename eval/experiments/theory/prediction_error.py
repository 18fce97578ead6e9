"""Step 1: predictions with errors, in the system of the theorem, with the lengths of a trace, and under load."""

from __future__ import annotations

from collections.abc import Sequence

from llmsched.eval.cli.frame import Session
from llmsched.eval.experiments.theory.runs import (
    BATCH,
    BINS,
    LOADED_REQUESTS,
    Step,
    TheoryRun,
    gain,
    run_systems,
    saturated_scenario,
)
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import interval
from llmsched.eval.scenarios.variants import OF_2023, scenario_of

HONEST = "h100-80gb_llama2-70b_tp4"
"""A measured profile, which charges prompts."""

PROMPT_ONLY = "prompt-only"
LOADED = ("dynamic", "multibin", "longest-queue")
"""Policies of the scenario llama2-h100 under its load."""

SATURATED_SYSTEMS = {"gain_uniform": ("uniform", "ideal"), "gain_conv": ("azure-conv", HONEST)}
"""Workload and profile of the saturated systems, by the column of their gain."""


def prediction_step(session: Session) -> Step:
    """Gain of binning and SLO attainment by predictor."""
    options = session.options
    predictors = [*(f"noisy:{sigma:g}" for sigma in options.sigmas), PROMPT_ONLY]
    gains, met = saturated_gains(session, predictors), loaded_attainments(session, predictors)
    rows = [{"predictor": predictor} | gains[i] | met[i] for i, predictor in enumerate(predictors)]
    table, noisy = prediction_table(rows), rows[:-1]

    def draw():
        """The figure: gain by error of the prediction, saturated and by policy."""
        sigmas = list(options.sigmas)
        names = {"gain_uniform": ("theorem's system", 3), "gain_conv": ("azure-conv lengths, H100", 4)}
        by_system = [ChartLine(name, sigmas, [r[key] for r in noisy], row) for key, (name, row) in names.items()]
        by_policy = [ChartLine(policy, sigmas, [r[policy] for r in noisy], row) for row, policy in enumerate(LOADED)]
        label = "sigma of the prediction error"
        panels = [
            Panel(f"saturated, k = {BINS}, B = {BATCH}", label, "gain, %", by_system, factor=100.0),
            Panel("scenario llama2-h100", label, "SLO met, %", by_policy, factor=100.0, bounded=True),
        ]
        return draw_lines("What prediction error leaves of the gain", table.title, panels)

    return [table], {"prediction": draw}


def saturated_gains(session: Session, predictors: Sequence[str]) -> list[dict]:
    """By predictor: the gain in throughput of BINS bins over one bin, in every saturated system."""
    name = f"multibin-fixed:batch={BATCH}"
    systems = [
        TheoryRun(
            name,
            saturated_scenario(*system, predictor, bins, session.options.requests),
            {"part": key, "predictor": predictor},
        )
        for key, system in SATURATED_SYSTEMS.items()
        for bins, group in ((1, ["oracle"]), (BINS, predictors))
        for predictor in group
    ]
    found = run_systems(session, systems, "prediction error")
    rows: list[dict] = [{} for _ in predictors]
    for place, key in enumerate(SATURATED_SYSTEMS):
        base, *others = found[place * (1 + len(predictors)) : (place + 1) * (1 + len(predictors))]
        for row, runs in zip(rows, others, strict=True):
            row[key] = gain(runs, base)
    return rows


def loaded_attainments(session: Session, predictors: Sequence[str]) -> list[dict]:
    """By predictor: SLO attainment of the policies of LOADED in the scenario llama2-h100."""
    requests = min(LOADED_REQUESTS, session.options.requests)
    systems = [
        TheoryRun(
            policy,
            scenario_of(*OF_2023, "--predictor", predictor, "--requests", str(requests)),
            {"part": "loaded", "predictor": predictor},
        )
        for predictor in predictors
        for policy in LOADED
    ]
    found = run_systems(session, systems, "prediction error, loaded")
    rows = []
    for place in range(len(predictors)):
        group = found[place * len(LOADED) : (place + 1) * len(LOADED)]
        met = [interval([outcome.summary["slo_attainment"] for outcome in runs]) for runs in group]
        rows.append(dict(zip(LOADED, met, strict=True)))
    return rows


def prediction_table(rows: Sequence[dict]) -> Table:
    """The table of a row per predictor."""
    return Table(
        "prediction",
        f"Prediction error: gain in saturated throughput of {BINS} bins over one (B = {BATCH}), and SLO attainment in "
        "the scenario llama2-h100",
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
