"""A measured log beside the simulated policies, in the words of the metrics (docs/reference/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.analysis.client_log import ClientLog
from llmsched.eval.analysis.held_out import share_met
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.client_times import tpot_s
from llmsched.eval.runs.runner import Cell, run_cell
from llmsched_env.config import SLO
from llmsched_env.simulation.metrics import summarize
from llmsched_env.workload.streams import streams

ROWS = (
    ("slo_attainment", "SLO met", "%", 100.0),
    ("request_throughput", "throughput", "req/s", 1.0),
    *((f"{which}_ttft_ms", f"TTFT {which}", "ms", 1.0) for which in ("median", "p95", "p99")),
    *((f"{which}_tpot_ms", f"TPOT {which}", "ms", 1.0) for which in ("median", "p95", "p99")),
    *((f"{which}_e2el_ms", f"E2E {which}", "ms", 1.0) for which in ("median", "p95", "p99")),
)
"""Key, name, unit and factor of every row."""


def measured_summary(log: ClientLog, slo: SLO) -> dict[str, float]:
    """The metrics of a log that has times, by key."""
    run = log.run()
    tokens = run.requests.output_tokens.astype(np.float64)
    tpot = tpot_s(run.ttft_s, run.e2e_s, tokens)[tokens > 1]
    found = {"request_throughput": len(tokens) / float(run.done_s.max())}
    for name, values in (("ttft", run.ttft_s), ("tpot", tpot), ("e2el", run.e2e_s)):
        for which, percent in (("median", 50), ("p95", 95), ("p99", 99)):
            found[f"{which}_{name}_ms"] = 1e3 * float(np.percentile(values, percent)) if len(values) else np.nan
    return found | {"slo_attainment": share_met(run, run.ttft_s, run.e2e_s, slo)}


def simulated_summaries(log: ClientLog, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The metrics of the requests of a log, all of them and from an empty system on, under the policy of every cell.

    What the policies are told about output lengths is drawn as for the scenario.
    """
    run = log.run()
    found = []
    for cell in cells:
        workload, rng = cell.scenario.workload, streams(cell.seed, cell.split)["predictions"]
        prompt, output = run.requests.prompt_tokens, run.requests.output_tokens
        predicted = workload.parsed_predictor.predict(prompt, output, workload.output_cap, rng)
        requests = replace(run.requests, predicted_tokens=predicted)
        result = run_cell(cell, requests)
        found.append({"policy": cell.label} | summarize(replace(result, warmup=0)))
    return found


def against_table(name: str, measured: Mapping[str, float], summaries: Sequence[Mapping[str, Any]]) -> Table:
    """A row per metric: measured, then every policy."""
    rows: list[dict[str, Any]] = []
    for key, title, unit, factor in ROWS:
        line: dict[str, Any] = {"metric": f"{title}, {unit}"}
        if key in measured:
            line["measured"] = factor * measured[key]
        rows.append(line | {summary["policy"]: factor * summary[key] for summary in summaries})
    columns = [Column("metric", "metric"), Column("measured", "measured")]
    columns += [Column(summary["policy"], summary["policy"]) for summary in summaries]
    note = "The requests of the log at their times, on the servers of the scenario; no seed and no warm-up."
    return Table("against", f"Measured ({name}) beside simulated", columns, rows, note)


def write_workload(log: ClientLog, folder: Path, stem: str) -> Path:
    """The arrivals and lengths of a log as a trace that --workload reads, the first at 0 s."""
    kept = np.flatnonzero(log.complete)
    kept = kept[np.argsort(log.arrival_s[kept], kind="stable")]
    columns = (log.arrival_s[kept] - log.arrival_s[kept[0]], log.prompt_tokens[kept], log.output_tokens[kept])
    rows = "".join(f"{sent:.6f},{int(p)},{int(o)}\n" for sent, p, o in zip(*columns, strict=True))
    path = folder / f"{stem}.csv"
    path.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}", encoding="utf-8")
    return path
