"""A fake device, a grid of cells, a file of rows, and a profile made of them."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from llmsched.eval.calibration import document
from llmsched.eval.calibration.campaign import DoesNotFitError, MeasurementPlan, measurements
from llmsched.eval.calibration.cells import GridCell, grid
from llmsched.eval.calibration.fit import fit_all, predict
from llmsched.eval.calibration.rows import RowFile, Setup

ROOT = Path(__file__).parents[3]
SETUP = Setup("fake", "a table", "float32", "none", "wall")
SPLIT = {"d0": 5.0, "d1": 0.2, "d2": 1e-3, "p0": 8.0, "p1": 0.05, "p2": 2e-5}
TOKENS = {"w0": 4.0, "e0": 3.0, "w1": 0.1, "a_p": 2e-5, "a_d": 1e-3}
CELLS = grid((1, 4, 16), (32, 128, 512), (32, 128, 512, 2048), math.inf)


class Table:
    """A fake device: a known form, lognormal noise, cells that are noisy or do not fit, and what it was asked."""

    def __init__(self, form="split", coefficients=SPLIT, sigma=0.0, noisy=(), too_large=(), pause_s=0.0):
        self.form, self.coefficients, self.sigma = form, coefficients, sigma
        self.noisy, self.too_large, self.pause_s = noisy, too_large, pause_s
        self.asked: list[GridCell] = []
        self.rng = np.random.default_rng(0)

    def sample(self, cell: GridCell) -> float:
        self.asked.append(cell)
        time.sleep(self.pause_s)
        if cell in self.too_large:
            raise DoesNotFitError
        sigma = 0.8 if cell in self.noisy else self.sigma
        return predict(self.form, self.coefficients, cell) * math.exp(sigma * self.rng.standard_normal())


def opened(tmp_path: Path) -> RowFile:
    return RowFile(tmp_path / "rows.csv", SETUP)


# The profile


def profile_of(plan: MeasurementPlan, rows, **about) -> dict:
    found = measurements(plan, rows)
    fits = fit_all({m.cell: m.ms for m in found if m.samples})
    extra = {"kv_tokens": 5000, "source": "a table", "caveats": ["fake"], "rows": "rows.csv", **about}
    return document.document("mine", SETUP, fits, found, extra)
