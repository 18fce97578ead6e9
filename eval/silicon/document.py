"""The atlas as a file: what all its profiles have in common once, then a profile a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.silicon.closed_loop import EACH
from llmsched.eval.silicon.experts import expert_share
from llmsched.eval.silicon.fitting import OFFSET, STEPS, profile_of
from llmsched.eval.silicon.memory import kv_tokens
from llmsched.eval.silicon.results import RULES, UNLIMITED, FitResult
from llmsched_env.atlas import SCHEMA

NOT_INCLUDED = (
    "KV capacity, number of sequences at most, and token budget of the server: the rows do not state them (kv_tokens "
    "is estimated from the sizes of the model, null where unknown); network and tokeniser only as the client's "
    "offset"
)
CAVEATS = (
    "One mean of TTFT and one of TPOT a point; lengths, token budget and KV memory behind them are assumed",
    "Between and beyond the measured points the law is interpolated; see measured_range",
)


def common(points: Path) -> dict[str, Any]:
    """The fields of every profile."""
    return {
        "schema": SCHEMA,
        "units": "ms; tokens",
        "measured": True,
        "source": "silicon_sample.csv of ai-dynamo/aiconfigurator (InferenceX dumps), Apache-2.0",
        "source_sha256": hashlib.sha256(points.read_bytes()).hexdigest(),
        "errors_kind": "every point left out once, then simulated by coefficients fitted to the others; |error|",
        "noise_sigma": 0.0,
        "engine_settings": {
            "admission": "prompt",
            "prefill": RULES.prefill,
            "token_budget": RULES.token_budget,
            "kv_tokens": None,
        },
        "workload": f"closed loop, {EACH} requests a client, lengths uniform from {RULES.shortest:g} of nominal",
        "not_included": NOT_INCLUDED,
        "caveats": list(CAVEATS),
    }


def entry(result: FitResult) -> dict[str, Any]:
    """The fields of one profile; the steps that the client waits count as ms at the median step."""
    own, loops = result.configuration, [point.loop for point in result.configuration.points]
    profile = profile_of(result.values, expert_share(own.short_model), UNLIMITED)
    errors = np.abs(result.errors)
    fixed, steps = float(result.values[OFFSET]), float(result.values[STEPS])
    typical = float(np.median(result.measured[:, 1]))
    return {
        "name": own.name,
        "gpu": own.gpu,
        "model": own.model,
        "engine": own.engine,
        "version": own.version,
        "precision": own.precision,
        "quantization": own.quantization,
        "tensor_parallel": own.gpus,
        "measured_from": own.first_measured,
        "measured_to": own.last_measured,
        "kv_tokens": kv_tokens(own.model, own.gpu, own.gpus, own.precision),
        "points": len(loops),
        "form": profile.form,
        "coefficients": {name: significant(value) for name, value in profile.coefficients.items()},
        "client_offset_ms": significant(fixed + steps * typical),
        "client_offset": {"fixed_ms": significant(fixed), "steps": significant(steps), "step_ms": significant(typical)},
        "measured_range": {
            "clients": [min(loop.clients for loop in loops), max(loop.clients for loop in loops)],
            "prompt": [min(loop.prompt for loop in loops), max(loop.prompt for loop in loops)],
            "output": [min(loop.output for loop in loops), max(loop.output for loop in loops)],
        },
        "errors": {
            name: {
                "median": significant(np.median(errors[:, k]), 3),
                "p90": significant(np.percentile(errors[:, k], 90), 3),
            }
            for k, name in ((1, "tpot"), (0, "ttft"))
        },
    }


def points_of(result: FitResult) -> list[list[float]]:
    """Per point: prompt, output, clients, TTFT and TPOT measured, TTFT and TPOT left out and simulated (ms)."""
    found = []
    for point, simulated in zip(result.configuration.points, result.left_out, strict=True):
        times = (point.ttft_ms, point.tpot_ms, *simulated)
        loop = point.loop
        found.append([loop.prompt, loop.output, loop.clients, *(significant(float(ms), 4) for ms in times)])
    return found


def atlas_text(results: Sequence[FitResult], points: Path) -> str:
    """The file: the shipped configurations, each on a line of its own."""
    lines = [json.dumps(entry(result) | {"measured_points": points_of(result)}) for result in results if result.shipped]
    head = json.dumps(common(points), indent=1)
    return head.removesuffix("\n}") + ',\n "profiles": [\n' + ",\n".join(lines) + "\n]}\n"


def spread(errors: NDArray[np.float64]) -> dict[str, float]:
    """Median and p90 of absolute errors (N,)."""
    return {"median": significant(float(np.median(errors)), 3), "p90": significant(float(np.percentile(errors, 90)), 3)}


def significant(value: float, digits: int = 5) -> float:
    """``value`` rounded to ``digits`` significant figures."""
    return float(f"{value:.{digits}g}")
