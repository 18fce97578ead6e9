"""A profile where nothing was measured: ``python eval/estimate.py --model NAME --gpu GPU [--gpus N] [--write FILE]``

From the sizes of a model and the peak figures of a GPU (eval/calibration/roofline).  Beside it stands the error of such
estimates where the atlas can check them; docs/howto/calibration.md says how to read it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.calibration.document import figures
from llmsched.eval.calibration.model_shape import ModelShape, known_shape, read_config
from llmsched.eval.calibration.roofline import BYTES, GPUS, Gpu, estimate, known_gpu
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import choice, number
from llmsched.eval.report import artefacts
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.silicon.closed_loop import Loop, close_loop
from llmsched.eval.silicon.results import RULES, UNLIMITED
from llmsched_env import atlas
from llmsched_env.files.writing import check_file, write_text
from llmsched_env.profiles import SCHEMA, UNITS, Profile

MOST_CLIENTS = 128
"""Points with more clients are not simulated for the check: their queues hide the steps."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, the GPUs, and the files."""
    add = parser.add_argument
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--model", metavar="NAME", help="a model by its hub name, such as meta-llama/Llama-3.1-8B")
    one.add_argument("--config", type=Path, metavar="FILE", help="config.json of a model")
    add("--gpu", required=True, metavar="NAME", help=f"one of {', '.join(GPUS)}, or any name with its peak figures")
    add("--gpus", type=number(1, 1024, whole=True), default=1, metavar="N", help="GPUs that share the model (1)")
    add("--precision", type=choice(tuple(BYTES)), default="bf16", metavar="P", help=f"{', '.join(BYTES)} (bf16)")
    peak = number(0, 1e9, above=True)
    add("--bandwidth-tb-s", type=peak, metavar="X", help="peak bandwidth, 10^12 bytes/s, in place of the known one")
    add("--tflops", type=peak, metavar="X", help="peak dense arithmetic in the precision, 10^12 operations/s")
    add("--memory-gib", type=peak, metavar="X", help="memory of a GPU")
    add("--link-gb-s", type=peak, metavar="X", help="link between GPUs, 10^9 bytes/s one way")
    add("--write", type=Path, metavar="FILE", help="write the profile, for --profile")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")


@dataclass(frozen=True, kw_only=True)
class EstimateFindings(Findings):
    """The estimated profile, as JSON."""

    document: Mapping[str, Any]

    def summary(self, experiment: str, seeds: Any, notes: Any) -> dict[str, Any]:
        """The profile, and the errors of such estimates."""
        return {"profile": self.document, "errors": self.document["errors_of_such_estimates"], "notes": list(notes)}

    def write_more(self, options: argparse.Namespace) -> None:
        """The profile."""
        if options.write:
            write_text(options.write, artefacts.as_json(self.document) + "\n")


def gpu_of(options: argparse.Namespace) -> Gpu:
    """The GPU of the options: a known one, with the peak figures that are given in place of its own."""
    given = {
        "bandwidth": options.bandwidth_tb_s and 1e12 * options.bandwidth_tb_s,
        "operations": options.tflops and {options.precision: 1e12 * options.tflops},
        "memory_gib": options.memory_gib,
        "link": options.link_gb_s and 1e9 * options.link_gb_s,
    }
    known = {name: value for name, value in given.items() if value is not None}
    if len(known) == len(given):
        return Gpu(options.gpu.lower(), **known)
    return replace(known_gpu(options.gpu), **known)


def check_against_atlas() -> list[dict[str, Any]]:
    """Signed errors of estimates against every configuration of the atlas whose model and GPU are known."""
    found = []
    entries = [entry for entry in atlas.entries().values() if entry["gpu"] in GPUS and entry["precision"] in BYTES]
    with Progress("checks", len(entries)) as progress:
        for entry in entries:
            progress.step(entry["name"])
            try:
                shape = known_shape(entry["model"])
                made = estimate(shape, GPUS[entry["gpu"]], entry["tensor_parallel"], entry["precision"])
            except ValueError:
                continue  # a model that is not known, or that by this estimate does not fit
            found.append({"gpu": entry["gpu"], "model": entry["model"], "errors": errors_of(made, entry)})
    return found


def errors_of(made: Profile, entry: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Signed relative errors (TTFT, TPOT) of a profile at the measured points of an entry."""
    free, errors = replace(made, kv_tokens=UNLIMITED), []
    for prompt, output, clients, ttft, tpot, *_ in entry["measured_points"]:
        if clients <= MOST_CLIENTS:
            times = close_loop(free, Loop(int(prompt), int(output), int(clients)), RULES)
            errors.append((times.ttft_ms / ttft - 1.0, times.tpot_ms / tpot - 1.0))
    return errors


def check_table(checks: list[dict[str, Any]]) -> Table:
    """Errors by GPU."""
    rows = []
    for gpu in sorted({check["gpu"] for check in checks}):
        own = [check for check in checks if check["gpu"] == gpu]
        errors = np.array([pair for check in own for pair in check["errors"]])
        size = np.abs(errors)
        rows.append(
            {
                "gpu": gpu + (", where the shares were chosen" if gpu == "h100" else ""),
                "configurations": len(own),
                "points": len(errors),
                "tpot_median": float(np.median(size[:, 1])),
                "tpot_p90": float(np.percentile(size[:, 1], 90)),
                "tpot_bias": float(np.median(errors[:, 1])),
                "ttft_median": float(np.median(size[:, 0])),
            }
        )
    columns = [
        Column("gpu", "GPU"),
        Column("configurations", "configurations", digits=0),
        Column("points", "points", digits=0),
        Column("tpot_median", "TPOT |error| median", "%", 0, 100),
        Column("tpot_p90", "p90", "%", 0, 100),
        Column("tpot_bias", "bias", "%", 0, 100, signed=True),
        Column("ttft_median", "TTFT |error| median", "%", 0, 100),
    ]
    return Table("checks", "Such estimates against the measured points of the atlas", columns, rows)


def document_of(made: Profile, shape: ModelShape, gpu: Gpu, precision: str, checks: Table) -> dict[str, Any]:
    """The profile as JSON, marked as an estimate."""
    errors = {str(row["gpu"]).split(",")[0]: {k: v for k, v in row.items() if k != "gpu"} for row in checks.rows}
    return {
        "schema": SCHEMA,
        "name": made.name,
        "form": made.form,
        "units": UNITS,
        "coefficients": {name: figures(value) for name, value in made.coefficients.items()},
        "kv_tokens": None if math.isinf(made.kv_tokens) else made.kv_tokens,
        "tensor_parallel": made.tensor_parallel,
        "gpu": gpu.name,
        "model": shape.name,
        "precision": precision,
        "measured": False,
        "estimated": True,
        "source": f"peak figures of {gpu.name} and the sizes of {shape.name}, eval/estimate.py",
        "errors": {},
        "errors_of_such_estimates": errors,
        "not_included": "everything that was not thought of: nothing here was measured",
        "caveats": ["ESTIMATED, NOT MEASURED: a roofline with three shares chosen on H100"],
    }


def find(session: Session) -> Findings:
    """Estimate, check, describe."""
    options = session.options
    if options.write is not None:
        check_file(options.write, "--write")
    shape = read_config(options.config) if options.config else known_shape(options.model)
    gpu = gpu_of(options)
    made = estimate(shape, gpu, options.gpus, options.precision)
    table = check_table(check_against_atlas())
    document = document_of(made, shape, gpu, options.precision, table)
    step, prefill = made.decode_step_ms(16, 16 * 1024), made.prefill_ms([1024])
    heading = (
        f"estimated, not measured: {made.name}. A decode step of 16 requests with 1,024 tokens each {step:.3g} ms, "
        f"a prompt of 1,024 tokens {prefill:.3g} ms, KV memory {made.kv_tokens:,.0f} tokens."
    )
    return EstimateFindings(heading=heading, tables=[table], document=document)


EXPERIMENT = Experiment(
    "estimate.py",
    "Estimate a profile from a model's sizes and a GPU's peak figures, and say the error of such estimates.",
    add_options,
    find,
    plain_parser,
)
