"""Calibration: the grid, the order of measurement, noisy cells, restarts."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from llmsched.eval.calibration import campaign
from llmsched.eval.calibration.architectures import PRESETS
from llmsched.eval.calibration.campaign import MeasurementPlan, measurements
from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell, grid, shuffle_cells
from llmsched.eval.calibration.fit import fit_all, predict
from llmsched.eval.calibration.report import report
from llmsched.eval.calibration.rows import OK, OOM, RowFile, SampleRow
from tests.reality.calibration.tools import CELLS, ROOT, SETUP, SPLIT, Table, opened, profile_of

# Grid and order


def test_the_grid_is_every_batch_with_every_length():
    cells = grid((1, 4), (16, 64), (16, 64, 128), most_prefill_tokens=100)
    assert [c for c in cells if c.phase == PREFILL] == [
        GridCell(PREFILL, 1, 16),
        GridCell(PREFILL, 1, 64),
        GridCell(PREFILL, 4, 16),
    ]
    assert len([c for c in cells if c.phase == DECODE]) == 6
    assert (GridCell(PREFILL, 4, 16).total, GridCell(PREFILL, 4, 16).squares) == (64, 1024)


def test_rounds_are_in_random_order_and_the_same_after_a_restart():
    orders = [shuffle_cells(CELLS, 7, 0, repeat) for repeat in range(3)]
    assert all(sorted(order) == sorted(CELLS) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[1] == shuffle_cells(CELLS, 7, 0, 1) != shuffle_cells(CELLS, 8, 0, 1)


def test_architectures_have_the_published_sizes():
    assert PRESETS["qwen3-1.7b"].kv_bytes_per_token("bfloat16") == 114_688
    assert PRESETS["llama3-8b"].kv_bytes_per_token("bfloat16") == 131_072
    billions = {name: sizes.parameters / 1e9 for name, sizes in PRESETS.items()}
    assert billions["gpt2-random"] == pytest.approx(0.1244, rel=0.002)
    assert billions["qwen3-0.6b"] == pytest.approx(0.596, rel=0.01)
    assert billions["qwen3-1.7b"] == pytest.approx(1.72, rel=0.01)
    assert billions["qwen3-8b"] == pytest.approx(8.19, rel=0.01)
    assert billions["llama3-8b"] == pytest.approx(8.03, rel=0.01)
    assert PRESETS["qwen3-8b"].parameters - PRESETS["qwen3-8b"].read_per_step == 151936 * 4096


# Campaign


def test_rounds_interleave_the_cells(tmp_path):
    device = Table()
    assert campaign.run(MeasurementPlan(CELLS, repeats=3), opened(tmp_path), device)
    for repeat in range(3):
        assert sorted(device.asked[repeat * len(CELLS) : (repeat + 1) * len(CELLS)]) == sorted(CELLS)


def test_a_noisy_cell_is_measured_again_then_flagged_and_the_measurements_are_not_mixed(tmp_path):
    bad, plan, file = CELLS[0], MeasurementPlan(CELLS, repeats=5), opened(tmp_path)
    campaign.run(plan, file, Table(noisy={bad}))
    again = [row for row in file.rows if row.attempt == 1]
    assert {row.cell for row in again} == {bad} and len(again) == 5
    found = {m.cell: m for m in measurements(plan, file.rows)}
    assert found[bad].noisy and found[bad].again
    assert found[bad].samples == tuple(row.ms for row in again)
    assert not any(m.noisy for cell, m in found.items() if cell != bad)
    assert "NOISY" in report(list(found.values()), fit_all({c: m.ms for c, m in found.items()}), {}, 1e9)


def test_a_cell_that_is_quiet_the_second_time_is_not_flagged(tmp_path):
    bad, plan, file = CELLS[0], MeasurementPlan(CELLS, repeats=5), opened(tmp_path)
    for repeat, ms in enumerate((1.0, 1.0, 1.0, 9.0, 1.0)):
        file.append(SampleRow(bad, 0, repeat, OK, ms))
    assert {m.cell: m for m in measurements(plan, file.rows)}[bad].noisy
    campaign.run(plan, file, Table())
    found = {m.cell: m for m in measurements(plan, file.rows)}[bad]
    assert found.again and not found.noisy
    assert found.ms == predict("split", SPLIT, bad)


def test_a_second_measurement_that_was_cut_short_does_not_count():
    cell, plan = CELLS[0], MeasurementPlan(CELLS[:1], repeats=3)
    rows = [SampleRow(cell, 0, k, OK, ms) for k, ms in enumerate((1.0, 5.0, 1.0))] + [SampleRow(cell, 1, 0, OK, 2.0)]
    (found,) = measurements(plan, rows)
    assert found.samples == (1.0, 5.0, 1.0) and found.noisy and not found.again


def test_a_cell_out_of_memory_is_recorded_once_and_the_others_go_on(tmp_path):
    large, plan, device = CELLS[-1], MeasurementPlan(CELLS, repeats=4), Table(too_large={CELLS[-1]})
    file = opened(tmp_path)
    assert campaign.run(plan, file, device)
    assert device.asked.count(large) == 1
    assert [row.status for row in file.rows if row.cell == large] == [OOM]
    assert {m.cell for m in measurements(plan, file.rows) if m.out_of_memory} == {large}
    campaign.run(plan, RowFile(file.path, SETUP), device)
    assert device.asked.count(large) == 1  # not tried again after a restart
    profile = profile_of(plan, file.rows)
    assert profile["out_of_memory_cells"] == [str(large)] and profile["cells"] == len(CELLS) - 1


def test_the_budget_ends_the_campaign(tmp_path):
    device, file = Table(pause_s=0.02), opened(tmp_path)
    began = time.monotonic()
    assert not campaign.run(MeasurementPlan(CELLS, repeats=1000, budget_s=0.3), file, device)
    assert time.monotonic() - began < 2.0
    assert 0 < len(file.rows) == len(device.asked) <= 16


def test_a_restart_does_only_what_is_missing(tmp_path):
    plan = MeasurementPlan(CELLS, repeats=3)
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
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
sys.path.insert(0, {root!r})
from pathlib import Path
from llmsched.eval.calibration import campaign
from llmsched.eval.calibration.rows import RowFile
from tests.reality.calibration.tools import CELLS, SETUP, Table
campaign.run(campaign.MeasurementPlan(CELLS, repeats=4), RowFile(Path({path!r}), SETUP), Table(pause_s=0.05), print)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_a_stopped_process_had_measured_is_kept(tmp_path, how):
    path = tmp_path / "rows.csv"
    command = [sys.executable, "-u", "-c", CHILD.format(root=str(ROOT), path=str(path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        for _ in range(10):
            child.stdout.readline()
        child.send_signal(how)
        child.communicate(timeout=60)
    file, plan, device = RowFile(path, SETUP), MeasurementPlan(CELLS, repeats=4), Table()
    kept = len(file.rows)
    assert 10 <= kept < 4 * len(CELLS)
    campaign.run(plan, file, device)
    assert len(device.asked) == 4 * len(CELLS) - kept
    assert len({(r.cell, r.repeat) for r in RowFile(path, SETUP).rows}) == 4 * len(CELLS)
