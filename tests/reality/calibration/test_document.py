"""Calibration: the profile that is written, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmsched.eval.calibration import campaign, command, document, settings
from llmsched.eval.calibration.campaign import MeasurementPlan, measurements
from llmsched.eval.calibration.cells import DECODE
from llmsched.policies import parse
from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from tests.reality.calibration.tools import CELLS, SPLIT, Table, opened, profile_of


def test_the_profile_is_read_and_simulated(tmp_path):
    plan, file = MeasurementPlan(CELLS, repeats=3), opened(tmp_path)
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


@pytest.fixture(scope="module")
def good_profile(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A profile that the simulator takes, made once for all that change a part of it."""
    plan, file = MeasurementPlan(CELLS, repeats=2), opened(tmp_path_factory.mktemp("good"))
    campaign.run(plan, file, Table())
    return profile_of(plan, file.rows)


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
def test_a_profile_that_the_simulator_would_refuse_is_not_written(tmp_path, good_profile, change, message):
    with pytest.raises(ValueError, match=message):
        document.write(tmp_path / "mine.json", good_profile | change)
    assert list(tmp_path.iterdir()) == []


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
        capsys.readouterr().err == "calibrate.py: error: no_such_module not installed: pip install torch transformers\n"
    )


def test_a_grid_without_a_prefill_cell_is_refused():
    options = settings.read(["--batches", "4", "--prompts", "64", "--max-prefill-tokens", "100"])
    with pytest.raises(ValueError, match="--max-prefill-tokens 100 is not allowed: the smallest prefill cell has 256"):
        command.plan_of(options)


def test_a_device_without_memory_for_a_single_cell_is_refused(tmp_path):
    decode = {cell for cell in CELLS if cell.phase == DECODE}
    plan, file = MeasurementPlan(CELLS, repeats=2), opened(tmp_path)
    campaign.run(plan, file, Table(too_large=decode))
    with pytest.raises(ValueError, match="not enough memory for a single decode cell: the smallest was decode 1 x 32"):
        command.usable(plan, measurements(plan, file.rows))
