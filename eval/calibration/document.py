"""The profile of a calibration, as the JSON that the simulator reads, and the path of its raw rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.calibration.campaign import Measurement
from llmsched.eval.calibration.fit import ErrorStatistics, Fit, scatter
from llmsched.eval.calibration.rows import Setup
from llmsched_env.files.writing import make_folder, write_text
from llmsched_env.profiles import SCHEMA, UNITS, from_json

NOT_INCLUDED = (
    "scheduler, tokeniser, sampling other than greedy, network; chunked prefill; paged attention "
    "(the cache of a batch is contiguous)"
)


def figures(value: float, digits: int = 6) -> float:
    """``value`` rounded to ``digits`` significant figures."""
    return float(f"{value:.{digits}g}")


def document(
    name: str, setup: Setup, fits: Sequence[Fit], cells: Sequence[Measurement], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The profile: it has the first of ``fits``, and the errors of the others.

    ``about``: kv_tokens, kv_bytes_per_token, caveats, rows and everything else that was recorded.
    """
    best = fits[0]
    quiet = [m for m in cells if m.samples]
    spread = [m.cv for m in quiet if m.cv == m.cv]
    return {
        "schema": SCHEMA,
        "name": name,
        "form": best.form,
        "units": UNITS,
        "coefficients": {key: figures(value) for key, value in best.coefficients.items()},
        **({"length": "output"} if best.form == "batch-length" else {}),
        "tensor_parallel": 1,
        "gpu": setup.device,
        "model": setup.model,
        "noise_sigma": figures(scatter([m.samples for m in cells]), 3),
        "measured": True,
        "errors": {
            "kind": "held out: one cell left out at a time; absolute relative error",
            **shown_errors(best.held_out),
            "in_sample": shown_errors(best.in_sample),
            "by_form": {fit.form: shown_errors(fit.held_out) for fit in fits},
        },
        "repeat_cv": {"median": _at(spread, 50), "p95": _at(spread, 95)} if spread else {},
        "cells": len(quiet),
        "noisy_cells": [str(m.cell) for m in cells if m.noisy],
        "out_of_memory_cells": [str(m.cell) for m in cells if m.out_of_memory],
        "dtype": setup.dtype,
        "engine": setup.engine,
        "clock": setup.clock,
        "not_included": NOT_INCLUDED,
        **about,
    }


def shown_errors(errors: Mapping[str, ErrorStatistics]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile, by phase."""
    return {key: {"median": figures(e.median, 3), "p95": figures(e.p95, 3)} for key, e in errors.items()}


def _at(values: Sequence[float], percent: float) -> float:
    return figures(float(np.percentile(values, percent)), 3)


def write(path: Path, profile: Mapping[str, Any]) -> None:
    """Write the profile whole or not at all, once the reader of the simulator has accepted it."""
    from_json(dict(profile))
    make_folder(path.parent)
    write_text(path, json.dumps(profile, indent=1, allow_nan=False) + "\n")


def rows_path(profile: Path) -> Path:
    """The path of the raw rows of a profile: beside its folder ``profiles``, or beside the file."""
    if profile.parent.name == "profiles":
        return profile.parent.parent / "calibration-raw" / f"{profile.stem}.csv"
    return profile.with_suffix(".csv")
