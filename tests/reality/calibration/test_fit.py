"""Calibration: coefficients and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell, grid
from llmsched.eval.calibration.fit import E2E_TOKENS, FITS, control_errors, errors, fit_all, predict, scatter
from tests.reality.calibration.tools import CELLS, SPLIT, TOKENS

# Fit


@pytest.mark.parametrize(("form", "truth"), [("split", SPLIT), ("affine", SPLIT), ("tokens", TOKENS)])
def test_known_coefficients_are_found_under_noise(form, truth):
    rng = np.random.default_rng(3)
    cells = grid((1, 2, 4, 8, 16, 32), (16, 64, 128, 256, 512), (64, 256, 1024, 2048), math.inf)
    points = {cell: predict(form, truth, cell) * (1 + 0.01 * rng.standard_normal()) for cell in cells}
    fits = fit_all(points)
    assert fits[0].form == form
    assert fits[0].coefficients == pytest.approx(truth, rel=0.08)
    assert fits[0].held_out["e2e"].median < 0.02
    assert fits[0].in_sample["decode"].mean <= fits[0].held_out["decode"].mean


@pytest.mark.parametrize(("form", "truth"), [("split", SPLIT), ("affine", SPLIT), ("tokens", TOKENS)])
def test_without_noise_the_fit_is_exact(form, truth):
    fits = fit_all({cell: predict(form, truth, cell) for cell in CELLS})
    best = fits[0]
    assert best.form == form and best.coefficients == pytest.approx(truth, rel=1e-4)
    assert max(error.p95 for error in best.held_out.values()) < 0.05


def test_coefficients_are_never_negative():
    rng = np.random.default_rng(0)
    points = {cell: float(10 / cell.total + rng.random()) for cell in CELLS}  # falls with the tokens
    for form, fit in FITS.items():  # not fit_all: the errors on cells left out take a fit for every cell
        assert min(fit(points).values()) >= 0, form


def test_held_out_error_by_hand():
    """Constant c of least relative squares = sum(1/y) / sum(1/y^2), over the three cells that are left."""
    ms = {1: 10.0, 2: 10.0, 4: 20.0, 8: 20.0}
    points = {GridCell(DECODE, b, 8): y for b, y in ms.items()} | {GridCell(PREFILL, b, 8): 1.0 for b in ms}
    found = control_errors(points)["constant decode"]
    without_20, without_10 = 0.25 / 0.0225, 0.2 / 0.015
    by_hand = [without_10 / 10 - 1] * 2 + [1 - without_20 / 20] * 2
    assert found.mean == pytest.approx(np.mean(by_hand))
    assert found.median == pytest.approx(np.median(by_hand))


def test_the_held_out_error_of_a_cell_comes_from_a_fit_without_it():
    points = {cell: predict("split", SPLIT, cell) for cell in CELLS}
    odd = GridCell(DECODE, 4, 128)
    points[odd] *= 3.0
    (split,) = (fit for fit in fit_all(points) if fit.form == "split")
    worst = 1 - 1 / 3  # the others are exact, so the odd one is predicted at a third of what was measured
    assert split.held_out["decode"].p95 <= worst + 1e-6
    others = {cell: ms for cell, ms in points.items() if cell != odd}
    (clean,) = (fit for fit in fit_all(others) if fit.form == "split")
    assert abs(predict("split", clean.coefficients, odd) / points[odd] - 1) == pytest.approx(worst, abs=1e-3)


def test_end_to_end_error_by_hand():
    p, d = GridCell(PREFILL, 2, 8), GridCell(DECODE, 2, 8)
    found = errors({p: 12.0, d: 1.0}, {p: 10.0, d: 1.0})["e2e"]
    by_hand = [2.0 / (10 + n - 1) for n in E2E_TOKENS]
    assert found.mean == pytest.approx(np.mean(by_hand))
    assert "e2e" not in errors({p: 12.0, GridCell(DECODE, 2, 9): 1.0}, {p: 10.0, GridCell(DECODE, 2, 9): 1.0})


def test_scatter_by_hand():
    """Deviations of ln(ms) from the mean of the own cell, one degree of freedom a cell; a lone sample says nothing."""
    e = math.e
    assert scatter([(1.0, e, e**2), (5.0, 5.0), (7.0,)]) == pytest.approx(math.sqrt((1 + 0 + 1) / (2 + 1)))
    assert scatter([(5.0,), ()]) == 0.0


def test_too_few_cells_are_refused():
    points = {cell: 1.0 for cell in CELLS if cell.phase == DECODE}
    with pytest.raises(ValueError, match="0 prefill cells were measured: a fit needs 4"):
        fit_all(points)
