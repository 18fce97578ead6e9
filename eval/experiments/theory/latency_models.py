"""Step 2: recorded lengths, and latency models from one without a cost of prompts to measured ones."""

from __future__ import annotations

from llmsched.eval.cli.frame import Session
from llmsched.eval.experiments.theory.runs import BATCH, BINS, Step, TheoryRun, gain, run_systems, saturated_scenario
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.outcome import Outcome

LENGTHS = ("azure-conv", "azure-code", "mooncake-conv")
MODELS = {
    "ideal": "prompts free",
    "synthetic": "prompts free",
    "peer-qwen3-1.7b-rtx4080": "prompts like outputs",
    "h100-80gb_llama2-70b_tp4": "measured",
    "a100-80gb_bloom-176b_tp8": "measured",
}
"""Profiles, and their cost of prompts in words."""


def latency_model_step(session: Session) -> Step:
    """The gain of binning by lengths and latency model."""
    options = session.options
    name = f"multibin-fixed:batch={BATCH}"
    variants = {
        "one": (1, "oracle"),
        "oracle": (BINS, "oracle"),
        "noisy": (BINS, "noisy:0.3"),
        "blind": (BINS, "prompt-only"),
    }
    pairs = [(workload, profile) for workload in LENGTHS for profile in MODELS]
    systems = [
        TheoryRun(
            name,
            saturated_scenario(workload, profile, predictor, bins, options.requests),
            {"part": "prompts", "workload": workload, "profile": profile, "bins": bins, "predictor": predictor},
        )
        for workload, profile in pairs
        for bins, predictor in variants.values()
    ]
    found = run_systems(session, systems, "latency models")
    rows = []
    for place, (workload, profile) in enumerate(pairs):
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
