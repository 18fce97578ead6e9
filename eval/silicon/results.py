"""What the fit of a configuration gives, kept in a file line by line, so that a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.line_store import LineStore
from llmsched.eval.silicon import closed_loop, fitting
from llmsched.eval.silicon.closed_loop import LoopRules
from llmsched.eval.silicon.experts import expert_share
from llmsched.eval.silicon.fitting import FitProblem
from llmsched.eval.silicon.points import Configuration
from llmsched_env.compiler.parts import fingerprint

Floats = NDArray[np.float64]

RULES = LoopRules("chunked", 8192, 0.8)
"""Rules and lengths that every configuration is simulated with: the rows do not state them.

8192 tokens an iteration is the default of vLLM, SGLang and TensorRT-LLM on these GPUs; lengths from 0.8 of the nominal
ones are what the benchmark behind most rows draws (docs/results/atlas.md has what was tried beside them)."""

UNLIMITED = 1e12
"""KV memory of the simulated server, tokens: the rows do not state theirs."""

SHIPPED_ERROR = 0.08
"""Largest median error in TPOT, left out, of a configuration that is shipped."""

FILE = "fits.jsonl"

ARRAYS = ("values", "own", "left_out")
"""What is kept of a fit."""


@dataclass(frozen=True)
class FitResult:
    """A configuration, its coefficients by fitting.NAMES, and simulated (TTFT, TPOT) in ms of every point (N, 2): by
    the coefficients that were fitted to it, and by coefficients that had not seen it."""

    configuration: Configuration
    values: Floats
    own: Floats
    left_out: Floats

    @property
    def measured(self) -> Floats:
        """TTFT and TPOT of every point, ms (N, 2)."""
        return np.array([(point.ttft_ms, point.tpot_ms) for point in self.configuration.points])

    @property
    def errors(self) -> Floats:
        """Signed relative errors (N, 2) of TTFT and TPOT of points that were left out."""
        return self.left_out / self.measured - 1.0

    @property
    def shipped(self) -> bool:
        """Whether it is good enough for the atlas."""
        return bool(np.median(np.abs(self.errors[:, 1])) <= SHIPPED_ERROR)


def problem_of(configuration: Configuration) -> FitProblem:
    """What is to be fitted."""
    return FitProblem(configuration.points, RULES, expert_share(configuration.short_model), UNLIMITED)


def key_of(configuration: Configuration) -> str:
    """A name for the points and for everything that makes their fit: the code of the simulator, and of the fit."""
    code = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (closed_loop, fitting)]
    what = json.dumps([asdict(configuration), asdict(RULES), UNLIMITED, fingerprint(), *code])
    return hashlib.sha256(what.encode()).hexdigest()


class FitStore:
    """The fits in ``folder``; without a folder they are kept in memory only.  A damaged line's fit is made again."""

    def __init__(self, folder: Path | None) -> None:
        self._lines = None if folder is None else LineStore(folder / FILE)
        self._made: dict[str, FitResult] = {}

    def get(self, configuration: Configuration) -> FitResult | None:
        """The fit of ``configuration``, None where it has not been made."""
        key = key_of(configuration)
        arrays = None if self._lines is None else self._lines.get(key, _arrays)
        return self._made.get(key) if arrays is None else FitResult(configuration, *arrays)

    def put(self, result: FitResult) -> None:
        """Keep ``result``."""
        key = key_of(result.configuration)
        self._made[key] = result
        if self._lines is not None:
            arrays = {name: getattr(result, name).tolist() for name in ARRAYS}
            self._lines.put(key, {"name": result.configuration.name, **arrays})


def _arrays(row: Mapping[str, Any]) -> list[Floats]:
    return [np.array(row[name], np.float64) for name in ARRAYS]


def error_row(results: Sequence[FitResult]) -> dict[str, float]:
    """Configurations, points, and median and p90 of the left-out errors over all points of ``results``."""
    errors = np.abs(np.concatenate([result.errors for result in results]))
    return {
        "configurations": len(results),
        "shipped": sum(result.shipped for result in results),
        "points": len(errors),
        "tpot_median": float(np.median(errors[:, 1])),
        "tpot_p90": float(np.percentile(errors[:, 1], 90)),
        "ttft_median": float(np.median(errors[:, 0])),
        "ttft_p90": float(np.percentile(errors[:, 0], 90)),
    }
