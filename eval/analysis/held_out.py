"""A profile fitted on the first part of a log, and held against the rest of it, which the fit has not seen.

The whole log is simulated each time, because later requests load the server too; only the times of the first part
count in the fit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmsched.eval.reality.log_data import Floats, LoggedRun
from llmsched.eval.reality.log_fit import Coefficients, fit, predict
from llmsched.eval.reality.log_replay import EngineSettings
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.client_times import meets, tpot_s
from llmsched_env.config import SLO
from llmsched_env.profiles import SCHEMA, UNITS

FITTED = 0.6
"""Share of the requests, the first ones, that the profile is fitted on."""

FEWEST = 50
"""Least number of requests of a log from which a profile is fitted: 30 to fit, 20 to hold against."""

TOLERATED = 0.15
"""Error of a median of the held-out part from which on the answer says that it should not be relied on."""

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class HeldOutFit:
    """Coefficients fitted on the first ``count`` requests of ``run``, and the metrics of both parts.

    Metrics by name (``ttft_p50``, ...), seconds: ``measured`` and ``simulated`` for the parts "fitted" and "held out".
    ``ttft_s`` and ``e2e_s`` (N,): the simulated times of all requests, at the client.
    """

    run: LoggedRun
    engine: EngineSettings
    found: Coefficients
    count: int
    measured: dict[str, dict[str, float]]
    simulated: dict[str, dict[str, float]]
    ttft_s: Floats
    e2e_s: Floats

    @property
    def errors(self) -> dict[str, float]:
        """Relative errors of the held-out part."""
        real, made = self.measured["held out"], self.simulated["held out"]
        return {name: made[name] / real[name] - 1.0 for name in real if real[name] > 0}

    @property
    def reliable(self) -> bool:
        """Whether the medians of the held-out part are reproduced."""
        return all(abs(error) <= TOLERATED for name, error in self.errors.items() if name.endswith("p50"))

    @property
    def sentence(self) -> str:
        """How well the log is reproduced."""
        shown = ", ".join(f"{_name(name)} {100 * error:+.0f} %" for name, error in self.errors.items())
        held = len(self.run.requests) - self.count
        return f"Simulated against measured, the {held:,} requests that the fit has not seen: {shown}."


def _name(metric: str) -> str:
    what, _, which = metric.partition("_")
    return f"{what.upper()} {which}"


def fit_held_out(run: LoggedRun, engine: EngineSettings) -> HeldOutFit:
    """Fit the first part of ``run``, simulate all of it; ``ValueError`` for a log that is too short."""
    count = round(FITTED * len(run.requests))
    if len(run.requests) < FEWEST:
        raise ValueError(f"{len(run.requests)} requests are too few to fit a profile: give at least {FEWEST}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the controllers' targets, which the replay does not use
        found = fit([replace(run, scored=count)], engine)
        seen, sent = predict(run.requests, found, engine), run.requests.arrival_s
    parts = {"fitted": slice(0, count), "held out": slice(count, None)}
    tokens = run.requests.output_tokens.astype(np.float64)
    measured = {name: _metrics(run.ttft_s[part], run.e2e_s[part], tokens[part]) for name, part in parts.items()}
    ttft, e2e = seen.first_s - sent, seen.done_s - sent
    simulated = {name: _metrics(ttft[part], e2e[part], tokens[part]) for name, part in parts.items()}
    return HeldOutFit(run, engine, found, count, measured, simulated, ttft, e2e)


def share_met(run: LoggedRun, ttft_s: Floats, e2e_s: Floats, slo: SLO) -> float:
    """The share of the requests of ``run`` that meet ``slo`` with these times, (N,) seconds."""
    tokens = run.requests.output_tokens.astype(np.float64)
    return float(meets(ttft_s, e2e_s, tokens, [slo]).mean())


def _metrics(ttft_s: Floats, e2e_s: Floats, tokens: Floats) -> dict[str, float]:
    found: dict[str, float] = {}
    tpot = tpot_s(ttft_s, e2e_s, tokens)[tokens > 1]
    for name, values in (("ttft", ttft_s), ("tpot", tpot), ("e2e", e2e_s)):
        found |= {f"{name}_p{p}": float(np.percentile(values, p)) if len(values) else np.nan for p in PERCENTILES}
    return found


def fit_table(fitted: HeldOutFit) -> Table:
    """Measured beside simulated, by metric and part."""
    rows: list[dict[str, Any]] = []
    for part in fitted.measured:
        for name, real in fitted.measured[part].items():
            made, factor = fitted.simulated[part][name], 1e3 if name.startswith("tpot") else 1.0
            line = {"part": part, "metric": f"{_name(name)}, {'ms' if factor > 1 else 's'}"}
            error = made / real - 1.0 if real > 0 else None
            rows.append(line | {"measured": factor * real, "simulated": factor * made, "error": error})
    columns = [
        Column("part", "part"),
        Column("metric", "metric"),
        Column("measured", "measured", digits=3),
        Column("simulated", "simulated", digits=3),
        Column("error", "error", "%", 1, 100.0, signed=True),
    ]
    title = "The log and its simulation"
    note = f"fitted: the first {fitted.count:,} requests; held out: the others, whose times the fit has not seen."
    return Table("fit", title, columns, rows, note)


def profile_of(fitted: HeldOutFit, name: str, tensor_parallel: int, kind: str) -> dict[str, Any]:
    """The fitted profile as a file that ``--profile`` reads, with the settings and the offset it was fitted under."""
    engine, found = fitted.engine, fitted.found
    profile = found.profile(engine, name=name)
    lengths = fitted.run.requests
    most = int((lengths.prompt_tokens.astype(np.int64) + lengths.output_tokens).max())
    return {
        "schema": SCHEMA,
        "name": name,
        "form": profile.form,
        "units": UNITS,
        "coefficients": profile.coefficients,
        "kv_tokens": None if np.isinf(engine.kv_tokens) else engine.kv_tokens,
        "tensor_parallel": tensor_parallel,
        "source": f"llmsched analyze on {fitted.count} of {len(lengths)} requests of a log ({kind}); longest "
        f"request {most:,} tokens; held out: {fitted.sentence}",
        "client_offset_ms": found.offset,
        "measured": True,
        "engine_settings": engine.as_document(),
    }
