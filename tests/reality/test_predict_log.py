"""A run predicted from layers: a log that the simulator wrote from the same tables, and real logs where at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmsched.eval.calibration.layers.files import read_layers
from llmsched.eval.calibration.layers.summation import Deployment, LayerSum, Link
from llmsched.eval.calibration.model_shape import KNOWN
from llmsched.eval.predict_log import main
from llmsched.eval.reality.layer_prediction import STATISTICS, TIMES
from llmsched.eval.reality.log_replay import EngineSettings, replay
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from tests.reality.calibration import layer_tools as made

SHARED = Path(__file__).resolve().parents[3] / "shared"
RUNS = {"rtx4090_llama8b": "rtx4090_llama8b_tp1", "pro6000_qwen32b_tp2": "pro6000_qwen32b_tp2"}
BARS = {"mean_tpot": 0.017, "mean_e2el": 0.022, "mean_ttft": 0.136}
"""Published errors of the simulator that these logs validated first; percentiles from p90 on within 11 %."""
REST = 0.11
SPREAD = [400.0, 800.0]


def meta(**changes: Any) -> dict[str, Any]:
    """Settings of an engine as JSON."""
    kwargs = {"max_num_seqs": 16, "max_num_batched_tokens": 512, "enforce_eager": True} | changes
    cache = {"num_gpu_blocks": 2001, "block_size": 16, "enable_prefix_caching": False}
    synchronous = {"scheduler_config": {"async_scheduling": False}}
    return {
        "resolved_config": synchronous,
        "model": "meta-llama/Llama-3.1-8B",
        "vllm_version": "0.19.0",
        "engine_kwargs": kwargs,
        "kv_cache": cache,
    }


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Layers, settings, and the log that such a server writes."""
    folder = made.write_layers(tmp_path / "layers", made.frames())
    (tmp_path / "meta.json").write_text(json.dumps(meta()))
    rng = np.random.default_rng(3)
    n = 60
    requests = Requests.checked(np.cumsum(rng.exponential(0.02, n)), rng.integers(20, 900, n), rng.integers(1, 60, n))
    deployment = Deployment(KNOWN["Llama-3.1-8B"], Link(1e9, 0), 1, 1, 512, SPREAD)
    profile = LayerSum(read_layers(folder), deployment).profile("p", 32000)
    seen = replay(requests, profile, EngineSettings(16, 512, 32000, watermark=0.0))
    frame = {
        "arrival_s": requests.arrival_s,
        "prompt_tokens": requests.prompt_tokens,
        "output_tokens": requests.output_tokens,
        "ttft_s": seen.first_s - requests.arrival_s,
        "e2e_s": seen.done_s - requests.arrival_s,
    }
    pd.DataFrame(frame).to_csv(tmp_path / "log.csv", index=False)
    return ["--layers", str(folder), "--engine", str(tmp_path / "meta.json"), "--log", str(tmp_path / "log.csv")]


def test_the_log_of_such_a_server_is_predicted_without_error(files, tmp_path, capsys):
    """Every mean and percentile; the profile it writes is one that the simulator reads, with its settings."""
    assert main([*files, "--json", "--write-profile", str(tmp_path / "p.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["errors"]) == {f"{name}_{time}" for name in STATISTICS for time in TIMES}
    np.testing.assert_allclose(list(found["errors"].values()), 0.0, atol=1e-6)
    profile = load_profile(tmp_path / "p.json")
    assert profile.form == "table" and profile.meta["engine_settings"]["max_seqs"] == 16


def test_slower_layers_give_positive_errors(files, tmp_path, capsys):
    tables = made.frames()
    for frame in tables.values():
        frame["time_us"] *= 1.5
    made.write_layers(tmp_path / "layers", tables)
    assert main([*files, "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert min(errors.values()) > 0.2


def test_replicas_of_a_dense_model_are_servers_of_their_own(files, tmp_path, capsys):
    (tmp_path / "meta.json").write_text(json.dumps(meta(data_parallel_size=2)))
    assert main([*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"]["servers"] == 2 and found["engine"]["max_seqs"] == 16
    assert found["errors"]["mean_ttft"] < -0.1


def test_the_prefix_cache_of_the_engine_is_simulated(files, tmp_path, capsys):
    """Where memory binds, preempted requests find their blocks again; the profile keeps that there is a cache."""
    tight = {"num_gpu_blocks": 101, "block_size": 16}
    found = {}
    for cached in (False, True):
        raw = meta() | {"kv_cache": tight | {"enable_prefix_caching": cached}}
        (tmp_path / "meta.json").write_text(json.dumps(raw))
        assert main([*files, "--json", "--write-profile", str(tmp_path / "p.json")]) == 0
        found[cached] = json.loads(capsys.readouterr().out)
        assert found[cached]["engine"]["watermark"] == 0.0
        kept = load_profile(tmp_path / "p.json").meta["engine_settings"]
        assert kept["prefix_cache"] == ("on" if cached else "off") and kept["scheduling"] == "sync"
    assert found[True]["simulated_s"]["mean_e2el"] < found[False]["simulated_s"]["mean_e2el"]
    assert any("prefix cache" in note for note in found[True]["notes"]) and not found[False]["notes"]


def test_a_memory_without_limit_has_no_prefix_cache(files, tmp_path, capsys):
    (tmp_path / "meta.json").write_text(json.dumps(meta() | {"kv_cache": {"enable_prefix_caching": True}}))
    assert main([*files, "--json", "--kv-tokens", "inf"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"]["prefix_cache"] == "off" and not found["notes"]


@pytest.mark.parametrize(("version", "later"), [("0.19.0", True), ("0.13.2", False), ("0.19.0rc1", True)])
def test_asynchronous_scheduling_is_about_a_step_later(files, tmp_path, capsys, version, later):
    """Where it is not stated it is the default of the version; TTFT moves by about a step, TPOT hardly."""
    (tmp_path / "meta.json").write_text(json.dumps(meta() | {"resolved_config": {}, "vllm_version": version}))
    assert main([*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    moved = {name: found["simulated_s"][f"mean_{name}"] - found["measured_s"][f"mean_{name}"] for name in TIMES}
    step = found["simulated_s"]["mean_tpot"]
    assert found["engine"]["scheduling"] == ("async" if later else "sync")
    if not later:
        np.testing.assert_allclose(list(moved.values()), 0.0, atol=1e-9)
        return
    assert 0.3 * step < moved["ttft"] < 2.0 * step
    assert abs(moved["tpot"]) < 0.1 * step


def test_without_a_stated_cache_it_is_estimated_and_said(files, tmp_path, capsys):
    raw = meta()
    del raw["kv_cache"]
    raw["hardware"] = {"device_total_memory_bytes": 24 * 2**30}
    (tmp_path / "meta.json").write_text(json.dumps(raw))
    assert main([*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 30_000 < found["engine"]["kv_tokens"] < 60_000
    assert any("estimated from the memory" in note for note in found["notes"])
    del raw["hardware"]
    (tmp_path / "meta.json").write_text(json.dumps(raw))
    with pytest.raises(SystemExit) as caught:
        main(files)
    assert caught.value.code == 2 and "give --kv-tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "no object 'engine_kwargs'"),
        (meta(max_num_seqs=0), "max_num_seqs=0 is not allowed"),
        (meta(max_num_batched_tokens="x"), "max_num_batched_tokens='x' is not allowed"),
        (meta() | {"model": ""}, "the field 'model' is missing"),
        (meta() | {"model": "a/b"}, "model 'a/b' is not known"),
        (meta() | {"kv_cache": {"num_gpu_blocks": 1}}, "num_gpu_blocks=1, block_size=16 is not allowed"),
    ],
)
def test_bad_settings_are_refused_in_one_line(files, tmp_path, raw, message, capsys):
    (tmp_path / "meta.json").write_text(json.dumps(raw))
    with pytest.raises(SystemExit) as caught:
        main(files)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.skipif(not (SHARED / "hardware").is_dir(), reason="the layers and logs are not shipped")
def test_real_runs_are_predicted_as_well_as_published(run, capsys):
    layers, logs = SHARED / "hardware" / "vllm019_layers" / RUNS[run], SHARED / "validation" / "vllm019"
    files = ["--layers", layers, "--engine", logs / f"{run}.meta.json", "--log", logs / f"{run}.csv"]
    assert main([*map(str, files), "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    for name, error in errors.items():
        if name in BARS:
            assert abs(error) <= BARS[name], name
        elif not name.startswith("p50"):
            assert abs(error) <= REST, name
