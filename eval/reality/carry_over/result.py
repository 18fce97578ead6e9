"""The result of the experiment as one JSON file: the metrics of every run, measured and predicted."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.reality.carry_over.measuring import Run, SetUp, counted, requests_of
from llmsched.eval.reality.carry_over.plan import Plan
from llmsched.eval.reality.carry_over.prediction import Law, client_offset_s, fit_block, predict, slowed, speed_of
from llmsched.eval.reality.carry_over.quiet import MOST_SHARE, TRIES
from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.serving.measures import measures
from llmsched.eval.reality.serving.priority import may_go_first
from llmsched.eval.runs.machine import git_state, processor
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.writing import write_text

SCHEMA = "llmsched-carry-over/v1"
MOST_BYTES = 2**26

METRICS = (
    "slo_attainment",
    "mean_e2e_s",
    "p50_e2e_s",
    "p95_e2e_s",
    "mean_ttft_s",
    "p50_ttft_s",
    "p95_ttft_s",
    "mean_tpot_s",
    "throughput",
    "failed",
    "p99_lag_s",
)
"""What is kept of a run."""


def judged(plan: Plan, rows: Sequence[Served]) -> dict[str, float | None]:
    """The metrics of a run; a share of all requests, latencies of those that were answered."""
    found = measures(rows, plan.slos, [0] * len(rows))
    return {name: None if math.isnan(found[name]) else round(found[name], 6) for name in METRICS}


def result_of(plan: Plan, found: SetUp, runs: Sequence[Run], folder: Path) -> dict[str, Any]:
    """The document.  ``folder`` holds the first profile, which the policies were told."""
    blocks, documents = [], []
    for repeat, load in plan.blocks():
        own = [run for run in runs if (run.repeat, run.load) == (repeat, load)]
        chosen = [counted([run for run in own if run.policy == policy]) for policy in plan.policies]
        about, each = block_of(plan, found, chosen, folder)
        blocks.append({"repeat": repeat, "load": load, **about})
        documents += each
    model = Path(str(found.server.get("model", "unknown"))).name  # a result names no path of a machine
    return {
        "schema": SCHEMA,
        "plan": plan.describe(),
        "rule": {"most_share": MOST_SHARE, "tries": TRIES},
        "machine": {
            "processor": processor(),
            "system": platform.system(),
            "python": platform.python_version(),
            "client_goes_first": may_go_first(),
        },
        "code": git_state(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "capacity": round(found.capacity, 4),
        "server": {**found.server, "model": model},
        "discarded": discarded(runs, plan),
        "blocks": blocks,
        "runs": documents,
    }


def discarded(runs: Sequence[Run], plan: Plan) -> list[dict[str, Any]]:
    """The tries that do not count."""
    found = []
    for repeat, load in plan.blocks():
        for policy in plan.policies:
            own = [run for run in runs if (run.policy, run.load, run.repeat) == (policy, load, repeat)]
            found += [about_run(run) for run in own if run is not counted(own)]
    return found


def about_run(run: Run) -> dict[str, Any]:
    """Which run it is, and what the machine did besides."""
    disturbed = None if run.disturbance is None else {k: round(v, 4) for k, v in asdict(run.disturbance).items()}
    names = {"policy": run.policy, "load": run.load, "repeat": run.repeat, "attempt": run.attempt}
    return {**names, "began": run.began, "disturbance": disturbed}


def block_of(
    plan: Plan, found: SetUp, runs: Sequence[Run], folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what is said of a block, its runs): the law of the steps of all its runs, and every run predicted with it.

    Its form is that of the first profile.
    ``predicted``: with the law of the block; ``predicted_own``: with that law times the speed of the run's own steps.
    """
    profile, about = fit_block([run.log for run in runs], found.profile["form"])
    offsets = [client_offset_s(run.rows, run.log.requests) for run in runs]
    known = [offset for offset in offsets if not math.isnan(offset)]
    offset = float(np.mean(known)) if known else 0.0
    requests = requests_of(plan, found, runs[0].repeat, runs[0].load)
    documents = []
    for run, own_offset in zip(runs, offsets, strict=True):
        settings = plan.settings(run.policy, str(folder / "first_profile.json"))
        speed = speed_of(run.log.steps, profile)
        here = offset if math.isnan(own_offset) else own_offset
        laws = {"predicted": Law(profile, offset), "predicted_own": Law(slowed(profile, speed), here)}
        rows = {name: predict(settings, found.server, requests, law, run.repeat) for name, law in laws.items()}
        documents.append(
            {
                **about_run(run),
                "measured": judged(plan, run.rows),
                **{name: judged(plan, each) for name, each in rows.items()},
                "speed": round(speed, 4),
                "offset_ms": None if math.isnan(own_offset) else round(1e3 * own_offset, 3),
                "notes": run.notes,
            }
        )
    return {**about, "offset_ms": round(1e3 * offset, 3)}, documents


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write the file."""
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """The document in a file; ``ValueError`` in one line where it is none."""
    try:
        found = read_json(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"--results {str(path)!r}: {error}.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"--results {str(path)!r}: not a result of carry_over.py ({SCHEMA}).")
    return found
