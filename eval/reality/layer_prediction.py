"""A real run predicted from measured layers, nothing fitted to it: ``python eval/predict_log.py --layers DIR ...``

The layers of a model (eval/calibration/layers) are summed to a profile, the requests of the log are simulated with the
settings of the engine, and the times are held against those of the log (docs/results/predict_log.md).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.calibration.layers.files import LayerTables, read_layers
from llmsched.eval.calibration.layers.summation import BYTES, Deployment, LayerSum, Link
from llmsched.eval.calibration.model_shape import ModelShape, known_shape, read_config
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.cli.readers import number, read_kv_tokens
from llmsched.eval.reality.engine_meta import (
    WORKSPACE_GIB,
    EngineMeta,
    read_meta,
)
from llmsched.eval.reality.log_data import Floats, LoggedRun, read_runs
from llmsched.eval.reality.log_replay import ClientTimes, EngineSettings, replay
from llmsched.eval.report import artefacts
from llmsched.eval.report.tables import Column, Table, text
from llmsched.eval.report.text import fold
from llmsched.eval.runs.client_times import tpot_s
from llmsched_env.files.writing import check_file, write_text
from llmsched_env.options.gpus import GIB, memory_gib
from llmsched_env.profiles import SCHEMA, UNITS, Profile

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
TIMES = {"ttft": "TTFT", "tpot": "TPOT", "e2el": "E2E"}

LINK_GB_S, LINK_US = 16.0, 20.0
"""The link between GPUs where none is given: PCIe as the published configuration of the runs states it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The tables, the settings, the log, and what they do not state."""
    add = parser.add_argument
    add("--layers", type=Path, required=True, metavar="DIR", help="layer tables: attention.csv, dense.csv, ...")
    add("--engine", type=Path, required=True, metavar="META.json", help="settings of the engine that wrote the log")
    add(
        "--log",
        type=Path,
        required=True,
        metavar="LOG.csv",
        help="arrival_s, prompt_tokens, output_tokens, ttft_s, e2e_s",
    )
    add("--config", type=Path, metavar="FILE", help="config.json of the model (default: by its name)")
    add(
        "--kv-tokens",
        type=read_kv_tokens,
        metavar="N|inf",
        help="KV memory of a replica (default: as stated, or estimated)",
    )
    rate, delay = number(0, 1e6, above=True), number(0, 1e9)
    add("--link-gb-s", type=rate, default=LINK_GB_S, metavar="GB/S", help="link between GPUs, 10^9 bytes/s (16)")
    add("--link-us", type=delay, default=LINK_US, metavar="US", help="latency of the link, microseconds (20)")
    add("--write-profile", type=Path, metavar="FILE", help="write the summed profile, for --profile")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")


@dataclass(frozen=True, kw_only=True)
class LayerFindings(Findings):
    """The prediction of one run: the ``profile``, the settings, and the times logged and simulated, s by statistic."""

    profile: Profile
    document: Mapping[str, Any]
    engine: EngineSettings
    measured: Mapping[str, float]
    simulated: Mapping[str, float]
    wall_s: float

    @property
    def errors(self) -> dict[str, float]:
        """Simulated over measured, less 1."""
        return {name: value / self.measured[name] - 1.0 for name, value in self.simulated.items()}

    def text(self, notes: Sequence[str]) -> str:
        """Heading, table, what was assumed."""
        return "\n\n".join([fold(self.heading), text(self._table()), *(fold(note) for note in notes)])

    def _table(self) -> Table:
        columns = [Column("time", "time"), Column("what", "")]
        columns += [Column(name, name, digits=3) for name in STATISTICS]
        rows: list[dict[str, Any]] = []
        for key, title in TIMES.items():
            for what, values in (("simulated, s", self.simulated), ("logged, s", self.measured)):
                own = {name: values[f"{name}_{key}"] for name in STATISTICS}
                rows.append({"time": title if what.startswith("sim") else "", "what": what} | own)
            errors = {name: f"{100 * self.errors[f'{name}_{key}']:+.1f} %" for name in STATISTICS}
            rows.append({"time": "", "what": "error"} | errors)
        return Table("predict_log", "", columns, rows)

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> dict[str, Any]:
        """Errors as signed fractions, the times, the settings."""
        return {
            "errors": self.errors,
            "measured_s": dict(self.measured),
            "simulated_s": dict(self.simulated),
            "simulation_ms": 1e3 * self.wall_s,
            "engine": asdict(self.engine),
            "fitted_to_the_run": [],
            "notes": list(notes),
        }

    def write_more(self, options: argparse.Namespace) -> None:
        """The profile."""
        if options.write_profile:
            write_text(options.write_profile, artefacts.as_json(self.document) + "\n")


def statistics(requests_output: Floats, ttft_s: Floats, e2e_s: Floats) -> dict[str, float]:
    """Mean and percentiles of TTFT, TPOT (requests of two tokens or more) and E2E, s."""
    several = requests_output > 1
    times = {"ttft": ttft_s, "e2el": e2e_s}
    if several.any():
        times["tpot"] = tpot_s(ttft_s, e2e_s, requests_output)[several]
    found = {}
    for key, values in times.items():
        found[f"mean_{key}"] = float(values.mean())
        for name in STATISTICS[1:]:
            found[f"{name}_{key}"] = float(np.percentile(values, float(name[1:])))
    return found


def find(session: Session) -> Findings:
    """Read, sum, simulate, compare."""
    options = session.options
    if options.write_profile is not None:
        check_file(options.write_profile, "--write-profile")
    tables, meta, run = read_layers(options.layers), read_meta(options.engine), _one_run(options.log)
    shape = read_config(options.config) if options.config else known_shape(meta.model)
    if not _same_model(tables.model, meta.model):
        session.notes.append(f"Note: the layers are of {tables.model}, the run of {meta.model}.")
    kv_tokens = _kv_tokens(options, meta, shape, tables, session.notes)
    together = meta.replicas if shape.experts else 1  # replicas that share experts run in lock step
    deployment = Deployment(
        shape,
        Link(1e9 * options.link_gb_s, 1e-6 * options.link_us),
        meta.tensor_parallel,
        together,
        meta.token_budget,
        (run.requests.prompt_tokens + 0.5 * run.requests.output_tokens).tolist(),
        meta.graphs,
    )
    profile = LayerSum(tables, deployment).profile(options.layers.resolve().name, together * kv_tokens)
    engine = EngineSettings(
        max_seqs=together * meta.max_seqs,
        token_budget=together * meta.token_budget,
        kv_tokens=together * kv_tokens,
        servers=meta.replicas // together,
        watermark=0.0,  # vLLM's default
        scheduling="async" if meta.asynchronous else "sync",
        prefix_cache="on" if meta.prefix_cache and math.isfinite(kv_tokens) else "off",
    )
    replay(run.requests, profile, engine)  # compiled, or read from disk, before the clock starts
    seen = replay(run.requests, profile, engine)
    session.notes += _notes(options, meta, deployment, engine)
    return _findings(tables, meta, run, profile, engine, seen)


def _findings(
    tables: LayerTables, meta: EngineMeta, run: LoggedRun, profile: Profile, engine: EngineSettings, seen: ClientTimes
) -> LayerFindings:
    sent, output = run.requests.arrival_s, run.requests.output_tokens.astype(np.float64)
    heading = (
        f"{meta.model} on {tables.text('gpu') or 'an unnamed GPU'} x {profile.tensor_parallel * engine.servers}, "
        f"vLLM {meta.version}: {len(run.requests)} requests, simulated in {1e3 * seen.wall_s:.1f} ms. "
        "Nothing is fitted to the run."
    )
    return LayerFindings(
        heading=heading,
        profile=profile,
        document=profile_document(profile, tables, meta, engine),
        engine=engine,
        measured=statistics(output, run.ttft_s, run.e2e_s),
        simulated=statistics(output, seen.first_s - sent, seen.done_s - sent),
        wall_s=seen.wall_s,
    )


def profile_document(profile: Profile, tables: LayerTables, meta: EngineMeta, engine: EngineSettings) -> dict[str, Any]:
    """The profile as a file that ``--profile`` reads, with what it was made from."""
    assert profile.grids is not None
    return {
        "schema": SCHEMA,
        "name": profile.name,
        "form": profile.form,
        "units": UNITS,
        "coefficients": profile.coefficients,
        "grids": profile.grids.as_json(),
        "kv_tokens": None if math.isinf(profile.kv_tokens) else profile.kv_tokens,
        "tensor_parallel": profile.tensor_parallel,
        "gpu": tables.text("gpu") or None,
        "model": meta.model,
        "measured": True,
        "source": f"layers of {tables.folder.name}, vLLM {tables.text('vllm_version') or '?'}, predict_log.py",
        "not_included": "time of the host; exchange between GPUs as a link of stated speed",
        "engine_settings": engine.as_document(),
        "caveats": ["Summed from layers measured apart, not measured as a whole"],
    }


def _one_run(path: Path) -> LoggedRun:
    runs = read_runs("--log", path)
    if len(runs) > 1:
        raise ValueError(f"--log {str(path)!r} holds {len(runs)} runs: give a file of one.")
    return runs[0]


def _same_model(first: str, second: str) -> bool:
    try:
        return known_shape(first) == known_shape(second)
    except ValueError:
        return first == second


def _kv_tokens(
    options: argparse.Namespace, meta: EngineMeta, shape: ModelShape, tables: LayerTables, notes: list[str]
) -> float:
    """KV memory of a replica in tokens: given, stated, or estimated from the memory of the GPU."""
    if options.kv_tokens is not None:
        return float(options.kv_tokens)
    if meta.kv_tokens is not None:
        return meta.kv_tokens
    gpu = tables.text("hardware") or tables.text("gpu")
    memory = meta.memory_bytes or GIB * (memory_gib(gpu) or 0)
    if not memory:
        raise ValueError(f"--engine states no KV cache, and the memory of {gpu!r} is not known: give --kv-tokens.")
    shared = meta.replicas if shape.experts else 1  # the experts lie on all replicas together
    experts = shape.layers * max(shape.experts, 1) * shape.expert_weights
    weights = BYTES * ((shape.weights - experts) + experts / shared) / meta.tensor_parallel
    free = meta.memory_share * memory - weights - WORKSPACE_GIB * GIB
    tokens = free / (BYTES * shape.kv_numbers_per_token / meta.tensor_parallel)
    if tokens < 16:
        raise ValueError(f"{shape.name} does not fit into {memory / GIB:.1f} GiB: give --kv-tokens.")
    whole = 16.0 * (tokens // 16)
    notes.append(f"Note: the run states no KV cache; {whole:,.0f} tokens a replica are estimated from the memory.")
    return whole


def _notes(options: argparse.Namespace, meta: EngineMeta, deployment: Deployment, engine: EngineSettings) -> list[str]:
    """What was assumed."""
    found = []
    if meta.tensor_parallel > 1 or deployment.replicas > 1:
        found.append(f"Note: link between GPUs {options.link_gb_s:g} GB/s, {options.link_us:g} us, not measured here.")
    if deployment.replicas > 1:
        found.append(f"Note: {deployment.replicas} replicas share the experts: one server that runs them in lock step.")
    if engine.prefix_cache == "on":
        found.append(
            "Note: the log does not say which prompts begin alike; in the prefix cache each stands alone, so that only "
            "a preempted request finds its blocks again."
        )
    return found


EXPERIMENT = Experiment(
    "predict_log.py",
    "Predict a real run from measured layers, nothing fitted to it.",
    add_options,
    find,
    plain_parser,
)
