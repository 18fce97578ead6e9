"""Calibration without torch, on a fake device: grid, campaign, raw rows, fit, profile, refusals."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval.calibration import campaign, command, document, settings
from llmsched.eval.calibration.architectures import PRESETS
from llmsched.eval.calibration.campaign import DoesNotFitError, Plan, measured
from llmsched.eval.calibration.cells import DECODE, PREFILL, Cell, grid, shuffled
from llmsched.eval.calibration.fit import E2E_TOKENS, control_errors, errors, fit_all, predict, scatter
from llmsched.eval.calibration.report import report
from llmsched.eval.calibration.rows import COLUMNS, OK, OOM, Row, RowFile, Setup
from llmsched.policies import parse
from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate

ROOT = Path(__file__).parents[2]
SETUP = Setup("fake", "a table", "float32", "none", "wall")
SPLIT = {"d0": 5.0, "d1": 0.2, "d2": 1e-3, "p0": 8.0, "p1": 0.05, "p2": 2e-5}
TOKENS = {"w0": 4.0, "e0": 3.0, "w1": 0.1, "a_p": 2e-5, "a_d": 1e-3}
CELLS = grid((1, 4, 16), (32, 128, 512), (32, 128, 512, 2048), math.inf)


class Table:
    """A fake device: a known form, lognormal noise, cells that are noisy or do not fit, and what it was asked."""

    def __init__(self, form="split", coefficients=SPLIT, sigma=0.0, noisy=(), too_large=(), pause_s=0.0):
        self.form, self.coefficients, self.sigma = form, coefficients, sigma
        self.noisy, self.too_large, self.pause_s = noisy, too_large, pause_s
        self.asked: list[Cell] = []
        self.rng = np.random.default_rng(0)

    def sample(self, cell: Cell) -> float:
        self.asked.append(cell)
        time.sleep(self.pause_s)
        if cell in self.too_large:
            raise DoesNotFitError
        sigma = 0.8 if cell in self.noisy else self.sigma
        return predict(self.form, self.coefficients, cell) * math.exp(sigma * self.rng.standard_normal())


def opened(tmp_path: Path) -> RowFile:
    return RowFile(tmp_path / "rows.csv", SETUP)


# Grid and order


def test_the_grid_is_every_batch_with_every_length():
    cells = grid((1, 4), (16, 64), (16, 64, 128), most_prefill_tokens=100)
    assert [c for c in cells if c.phase == PREFILL] == [
        Cell(PREFILL, 1, 16),
        Cell(PREFILL, 1, 64),
        Cell(PREFILL, 4, 16),
    ]
    assert len([c for c in cells if c.phase == DECODE]) == 6
    assert (Cell(PREFILL, 4, 16).total, Cell(PREFILL, 4, 16).squares) == (64, 1024)


def test_rounds_are_in_random_order_and_the_same_after_a_restart():
    orders = [shuffled(CELLS, 7, 0, repeat) for repeat in range(3)]
    assert all(sorted(order) == sorted(CELLS) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[1] == shuffled(CELLS, 7, 0, 1) != shuffled(CELLS, 8, 0, 1)


def test_architectures_have_the_published_sizes():
    assert PRESETS["qwen3-1.7b"].kv_bytes_per_token("bfloat16") == 114_688
    assert PRESETS["llama3-8b"].kv_bytes_per_token("bfloat16") == 131_072
    billions = {name: sizes.parameters / 1e9 for name, sizes in PRESETS.items()}
    assert billions["qwen3-0.6b"] == pytest.approx(0.596, rel=0.01)
    assert billions["qwen3-1.7b"] == pytest.approx(1.72, rel=0.01)
    assert billions["qwen3-8b"] == pytest.approx(8.19, rel=0.01)
    assert billions["llama3-8b"] == pytest.approx(8.03, rel=0.01)
    assert PRESETS["qwen3-8b"].parameters - PRESETS["qwen3-8b"].read_per_step == 151936 * 4096


# Campaign


def test_rounds_interleave_the_cells(tmp_path):
    device = Table()
    assert campaign.run(Plan(CELLS, repeats=3), opened(tmp_path), device)
    for repeat in range(3):
        assert sorted(device.asked[repeat * len(CELLS) : (repeat + 1) * len(CELLS)]) == sorted(CELLS)


def test_a_noisy_cell_is_measured_again_then_flagged_and_the_measurements_are_not_mixed(tmp_path):
    bad, plan, file = CELLS[0], Plan(CELLS, repeats=5), opened(tmp_path)
    campaign.run(plan, file, Table(noisy={bad}))
    again = [row for row in file.rows if row.attempt == 1]
    assert {row.cell for row in again} == {bad} and len(again) == 5
    found = {m.cell: m for m in measured(plan, file.rows)}
    assert found[bad].noisy and found[bad].again
    assert found[bad].samples == tuple(row.ms for row in again)
    assert not any(m.noisy for cell, m in found.items() if cell != bad)
    assert "NOISY" in report(list(found.values()), fit_all({c: m.ms for c, m in found.items()}), {}, 1e9)


def test_a_cell_that_is_quiet_the_second_time_is_not_flagged(tmp_path):
    bad, plan, file = CELLS[0], Plan(CELLS, repeats=5), opened(tmp_path)
    for repeat, ms in enumerate((1.0, 1.0, 1.0, 9.0, 1.0)):
        file.append(Row(bad, 0, repeat, OK, ms))
    assert {m.cell: m for m in measured(plan, file.rows)}[bad].noisy
    campaign.run(plan, file, Table())
    found = {m.cell: m for m in measured(plan, file.rows)}[bad]
    assert found.again and not found.noisy
    assert found.ms == predict("split", SPLIT, bad)


def test_a_second_measurement_that_was_cut_short_does_not_count():
    cell, plan = CELLS[0], Plan(CELLS[:1], repeats=3)
    rows = [Row(cell, 0, k, OK, ms) for k, ms in enumerate((1.0, 5.0, 1.0))] + [Row(cell, 1, 0, OK, 2.0)]
    (found,) = measured(plan, rows)
    assert found.samples == (1.0, 5.0, 1.0) and found.noisy and not found.again


def test_a_cell_out_of_memory_is_recorded_once_and_the_others_go_on(tmp_path):
    large, plan, device = CELLS[-1], Plan(CELLS, repeats=4), Table(too_large={CELLS[-1]})
    file = opened(tmp_path)
    assert campaign.run(plan, file, device)
    assert device.asked.count(large) == 1
    assert [row.status for row in file.rows if row.cell == large] == [OOM]
    assert {m.cell for m in measured(plan, file.rows) if m.out_of_memory} == {large}
    campaign.run(plan, RowFile(file.path, SETUP), device)
    assert device.asked.count(large) == 1  # not tried again after a restart
    profile = profile_of(plan, file.rows)
    assert profile["out_of_memory_cells"] == [str(large)] and profile["cells"] == len(CELLS) - 1


def test_the_budget_ends_the_campaign(tmp_path):
    device, file = Table(pause_s=0.02), opened(tmp_path)
    began = time.monotonic()
    assert not campaign.run(Plan(CELLS, repeats=1000, budget_s=0.3), file, device)
    assert time.monotonic() - began < 2.0
    assert 0 < len(file.rows) == len(device.asked) <= 16


def test_a_restart_does_only_what_is_missing(tmp_path):
    plan = Plan(CELLS, repeats=3)
    whole = RowFile(tmp_path / "whole.csv", SETUP)
    campaign.run(plan, whole, Table())

    def stop(_: str) -> None:
        if len(file.rows) == 17:
            raise KeyboardInterrupt

    file = opened(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        campaign.run(plan, file, Table(), stop)
    file, second = opened(tmp_path), Table()
    assert len(file.rows) == 17
    assert campaign.left(plan, file.rows) == 3 * len(CELLS) - 17
    campaign.run(plan, file, second)
    assert len(second.asked) == 3 * len(CELLS) - 17
    assert [(r.cell, r.repeat) for r in file.rows] == [(r.cell, r.repeat) for r in whole.rows]


CHILD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from llmsched.eval.calibration import campaign
from llmsched.eval.calibration.rows import RowFile
from tests.reality.test_calibration import CELLS, SETUP, Table
campaign.run(campaign.Plan(CELLS, repeats=4), RowFile(Path({path!r}), SETUP), Table(pause_s=0.005), print)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_a_stopped_process_had_measured_is_kept(tmp_path, how):
    path = tmp_path / "rows.csv"
    command = [sys.executable, "-u", "-c", CHILD.format(root=str(ROOT), path=str(path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        for _ in range(10):
            child.stdout.readline()
        child.send_signal(how)
        child.communicate(timeout=60)
    file, plan, device = RowFile(path, SETUP), Plan(CELLS, repeats=4), Table()
    kept = len(file.rows)
    assert 10 <= kept < 4 * len(CELLS)
    campaign.run(plan, file, device)
    assert len(device.asked) == 4 * len(CELLS) - kept
    assert len({(r.cell, r.repeat) for r in RowFile(path, SETUP).rows}) == 4 * len(CELLS)


# Raw rows


def test_a_torn_last_line_is_forgotten(tmp_path):
    file = opened(tmp_path)
    for repeat in range(3):
        file.append(Row(CELLS[0], 0, repeat, OK, 1.5))
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-7])
    assert len(opened(tmp_path).rows) == 2
    assert file.path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("field", ["model", "device", "dtype", "engine", "clock"])
def test_rows_of_another_setup_are_refused(tmp_path, field):
    file = opened(tmp_path)
    file.append(Row(CELLS[0], 0, 0, OK, 1.5))
    other = Setup(**{**SETUP.__dict__, field: "other"})
    with pytest.raises(ValueError, match=rf"rows .*rows.csv, line 2: {field}='.*', but this run measures 'other'"):
        RowFile(file.path, other)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("decode,1,8,0,0,ok,-2", "ms '-2'"),
        ("decode,1,8,0,0,ok,", "ms ''"),
        ("decode,1,8,0,0,fine,2", "status 'fine'"),
        ("other,1,8,0,0,ok,2", "phase 'other'"),
        ("decode,x,8,0,0,ok,2", "invalid literal"),
        ("decode,0,8,0,0,ok,2", "batch 0"),
        ("decode", "not a row"),
    ],
)
def test_a_row_that_cannot_be_one_is_named(tmp_path, line, message):
    path = tmp_path / "rows.csv"
    path.write_text(",".join(COLUMNS) + "\nfake,a table,float32,none,wall," + line + "\n")
    with pytest.raises(ValueError, match=f"line 2: .*{message}"):
        RowFile(path, SETUP)


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="the header is not model,device"):
        RowFile(path, SETUP)
    assert path.read_text() == "a,b\n1,2\n"


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
    for fit in fit_all(points):
        assert min(fit.coefficients.values()) >= 0


def test_held_out_error_by_hand():
    """Constant c of least relative squares = sum(1/y) / sum(1/y^2), over the three cells that are left."""
    ms = {1: 10.0, 2: 10.0, 4: 20.0, 8: 20.0}
    points = {Cell(DECODE, b, 8): y for b, y in ms.items()} | {Cell(PREFILL, b, 8): 1.0 for b in ms}
    found = control_errors(points)["constant decode"]
    without_20, without_10 = 0.25 / 0.0225, 0.2 / 0.015
    by_hand = [without_10 / 10 - 1] * 2 + [1 - without_20 / 20] * 2
    assert found.mean == pytest.approx(np.mean(by_hand))
    assert found.median == pytest.approx(np.median(by_hand))


def test_the_held_out_error_of_a_cell_comes_from_a_fit_without_it():
    points = {cell: predict("split", SPLIT, cell) for cell in CELLS}
    odd = Cell(DECODE, 4, 128)
    points[odd] *= 3.0
    (split,) = (fit for fit in fit_all(points) if fit.form == "split")
    worst = 1 - 1 / 3  # the others are exact, so the odd one is predicted at a third of what was measured
    assert split.held_out["decode"].p95 <= worst + 1e-6
    others = {cell: ms for cell, ms in points.items() if cell != odd}
    (clean,) = (fit for fit in fit_all(others) if fit.form == "split")
    assert abs(predict("split", clean.coefficients, odd) / points[odd] - 1) == pytest.approx(worst, abs=1e-3)


def test_end_to_end_error_by_hand():
    p, d = Cell(PREFILL, 2, 8), Cell(DECODE, 2, 8)
    found = errors({p: 12.0, d: 1.0}, {p: 10.0, d: 1.0})["e2e"]
    by_hand = [2.0 / (10 + n - 1) for n in E2E_TOKENS]
    assert found.mean == pytest.approx(np.mean(by_hand))
    assert "e2e" not in errors({p: 12.0, Cell(DECODE, 2, 9): 1.0}, {p: 10.0, Cell(DECODE, 2, 9): 1.0})


def test_scatter_by_hand():
    """Deviations of ln(ms) from the mean of the own cell, one degree of freedom a cell; a lone sample says nothing."""
    e = math.e
    assert scatter([(1.0, e, e**2), (5.0, 5.0), (7.0,)]) == pytest.approx(math.sqrt((1 + 0 + 1) / (2 + 1)))
    assert scatter([(5.0,), ()]) == 0.0


def test_too_few_cells_are_refused():
    points = {cell: 1.0 for cell in CELLS if cell.phase == DECODE}
    with pytest.raises(ValueError, match="0 prefill cells were measured: a fit needs 4"):
        fit_all(points)


# The profile


def profile_of(plan: Plan, rows, **about) -> dict:
    found = measured(plan, rows)
    fits = fit_all({m.cell: m.ms for m in found if m.samples})
    extra = {"kv_tokens": 5000, "source": "a table", "caveats": ["fake"], "rows": "rows.csv", **about}
    return document.document("mine", SETUP, fits, found, extra)


def test_the_profile_is_read_and_simulated(tmp_path):
    plan, file = Plan(CELLS, repeats=3), opened(tmp_path)
    campaign.run(plan, file, Table(sigma=0.01))
    document.write(tmp_path / "mine.json", profile_of(plan, file.rows))
    profile = load_profile(tmp_path / "mine.json")
    assert 0.007 < profile.noise_sigma < 0.013
    profile = replace(profile, noise_sigma=0.0)
    assert profile.form == "split" and profile.coefficients == pytest.approx(SPLIT, rel=0.1)
    assert set(profile.meta["errors"]) >= {"decode", "prefill", "e2e", "kind"} and profile.meta["measured"] is True
    requests = Requests.checked([0.0, 0.0, 1.0], [100, 50, 20], [10, 20, 5])
    ready = parse("static:batch=2").ready(SimConfig(servers=(Server(profile),), max_batch=2))
    result = simulate(ready.config, requests, ready.decide, **ready.options)
    steps = sum(profile.decode_step_ms(2, 150 + 2 * j) for j in range(1, 20))
    assert result.requests["completion"][0] == pytest.approx((profile.prefill_ms([100, 50]) + steps) / 1e3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": "s; tokens"}, "units='s; tokens' is not supported"),
        ({"schema": "llmsched-profile/v9"}, "schema='llmsched-profile/v9' is not supported"),
        ({"coefficients": {**SPLIT, "d1": -0.1}}, r"coefficients.d1=-0.1 is not allowed"),
        ({"coefficients": {k: v for k, v in SPLIT.items() if k != "p2"}}, "coefficients.p2 is missing"),
        ({"kv_tokens": 1}, "kv_tokens=1 is not allowed"),
    ],
)
def test_a_profile_that_the_simulator_would_refuse_is_not_written(tmp_path, change, message):
    plan, file = Plan(CELLS, repeats=2), opened(tmp_path)
    campaign.run(plan, file, Table())
    with pytest.raises(ValueError, match=message):
        document.write(tmp_path / "mine.json", profile_of(plan, file.rows) | change)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_raw_rows_lie_beside_the_folder_of_profiles():
    assert document.rows_path(Path("data/profiles/x.json")) == Path("data/calibration-raw/x.csv")
    assert document.rows_path(Path("here/x.json")) == Path("here/x.csv")


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "argument --device: 'gpu' is not known: give cpu, cuda or cuda:N"),
        (["--dtype", "float31"], "'float31' is not known. Did you mean float32?"),
        (["--batches", "1,0"], "argument --batches: '0' is not allowed: give a whole number from 1"),
        (["--contexts", "1"], "argument --contexts: 1 is not allowed: give at least 2"),
        (["--budget", "0"], "argument --budget: '0' is not allowed: give a number above 0"),
        (["--engine", "cuda-graph"], "argument --engine: 'cuda-graph' needs --device cuda"),
        (["--bacthes", "1"], "--bacthes is not an option. Did you mean --batches?"),
    ],
)
def test_a_bad_option_is_refused_in_one_line(capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        command.main(options)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and message in err and err.count("\n") == 1


def test_without_torch_the_command_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(settings, "NEEDED", ("no_such_module",))
    with pytest.raises(SystemExit) as stopped:
        command.main([])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == "calibrate.py: error: no_such_module not installed: pip install 'llmsched[calibrate]'\n"
    )


def test_a_grid_without_a_prefill_cell_is_refused():
    options = settings.read(["--batches", "4", "--prompts", "64", "--max-prefill-tokens", "100"])
    with pytest.raises(ValueError, match="--max-prefill-tokens 100 is not allowed: the smallest prefill cell has 256"):
        command.plan_of(options)


def test_a_device_without_memory_for_a_single_cell_is_refused(tmp_path):
    decode = {cell for cell in CELLS if cell.phase == DECODE}
    plan, file = Plan(CELLS, repeats=2), opened(tmp_path)
    campaign.run(plan, file, Table(too_large=decode))
    with pytest.raises(ValueError, match="not enough memory for a single decode cell: the smallest was decode 1 x 32"):
        command.usable(plan, measured(plan, file.rows))
