"""What a profile brings: the client's wait, engine settings, and a line under the table for what was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.compare import main
from llmsched.eval.reality.log_replay import EngineSettings
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from llmsched_env.config import SLO, Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import meets_slo, summarize
from llmsched_env.simulation.simulator import simulate

SPLIT = {"d0": 8.0, "d1": 0.05, "d2": 4e-5, "p0": 12.0, "p1": 0.03, "p2": 1e-6}
SMALL = [
    "--policies",
    "fcfs",
    "--engine",
    "continuous",
    "--requests",
    "60",
    "--rate",
    "4",
    "--seeds",
    "1",
    "--jobs",
    "1",
]


def written(folder: Path, **more: Any) -> str:
    """A profile of one's own."""
    path = folder / "mine.json"
    about = {"schema": "llmsched-profile/v1", "name": "mine", "form": "split", "units": "ms; tokens"}
    path.write_text(json.dumps(about | {"coefficients": SPLIT, "kv_tokens": 200_000, "measured": True} | more))
    return str(path)


def summary_of(options: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The summary that the command prints."""
    assert main([*SMALL, *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_offset_is_added_to_ttft_and_e2e_and_to_nothing_else(tmp_path, capsys):
    plain = summary_of(["--profile", written(tmp_path)], capsys)["policies"][0]
    late = summary_of(["--profile", written(tmp_path, client_offset_ms=40.0)], capsys)["policies"][0]
    for name in ("mean_ttft_ms", "p99_ttft_ms", "mean_e2el_ms", "median_e2el_ms"):
        assert late[name] - plain[name] == pytest.approx(40.0, abs=1e-6), name
    for name in ("mean_tpot_ms", "mean_itl_ms", "completed", "mean_batch_size"):
        assert late[name] == pytest.approx(plain[name]), name


@pytest.mark.parametrize("engine", ["batch", "continuous"])
def test_targets_are_those_of_the_client(tmp_path, engine):
    """A target that the server alone would keep by 10 ms is missed with an offset of 40 ms; rewards see it too."""
    requests = Requests.checked(np.array([0.0, 5.0]), np.array([100, 100]), np.array([5, 5]))
    for offset, met in ((0.0, True), (9.0, True), (11.0, False)):
        profile = load_profile(written(tmp_path, client_offset_ms=offset))
        config = SimConfig((Server(profile),), slos=(SLO(ttft_s=0.022),), engine=engine)
        ready = parse("static:batch=4" if engine == "batch" else "fcfs").ready(config)
        result = simulate(ready.config, requests, ready.decide, **ready.options)
        assert meets_slo(result).all() == met, offset
        assert summarize(result)["mean_ttft_ms"] == pytest.approx(12.0 + offset)
        assert config.server_slos[0].ttft_s == pytest.approx(0.022 - offset / 1e3)


def test_settings_of_the_fit_are_used_where_none_are_given(tmp_path, capsys):
    kept = {"max_seqs": 24, "token_budget": 512, "admission": "prompt", "prefill": "chunked", "watermark": 0.0}
    kept |= {"scheduling": "async", "prefix_cache": "on"}
    profile = written(tmp_path, engine_settings=kept)
    found = summary_of(["--profile", profile], capsys)
    scenario = found["scenario"]
    assert (scenario["max_batch"], scenario["token_budget"], scenario["watermark"]) == (24, 512, 0.0)
    assert (scenario["scheduling"], scenario["prefix_cache"]) == ("async", "on")
    assert any("settings of the profile's fit are used where none are given: max_batch 24" in n for n in found["notes"])
    given = summary_of(["--profile", profile, "--max-batch", "12", "--token-budget", "64"], capsys)["scenario"]
    assert (given["max_batch"], given["token_budget"], given["watermark"]) == (12, 64, 0.0)
    own = summary_of(["--profile", profile, "--scheduling", "sync", "--prefix-cache", "off"], capsys)["scenario"]
    assert (own["scheduling"], own["prefix_cache"]) == ("sync", "off")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"measured": False}, "profile mine is not measured"),
        ({"estimated": True, "source": "a guess"}, "profile mine is estimated, not measured: a guess"),
        ({"kv_tokens": None}, "profile mine states no KV memory, so it is without limit here: give --kv-tokens"),
        ({"measured_range": {"clients": [1, 64]}}, "measured with 1 to 64 requests at once, here up to 256"),
        ({"measured_range": {"prompt": [1, 8]}}, "prompts of 1 to 8 tokens, here"),
        ({"caveats": ["one", "two"]}, "profile mine has 2 caveats: eval/profiles.py lists them"),
        ({"caveats": []}, None),
        ({"measured_range": {"prompt": [1, 9000], "output": [1, 2]}}, None),
        ({"measured_range": {"clients": [1, 256], "prompt": [1, 20_000], "output": [1, 9000]}}, None),
        ({}, None),
    ],
)
def test_what_was_not_measured_is_said_in_a_line_under_the_table(tmp_path, capsys, more, words):
    notes = summary_of(["--profile", written(tmp_path, **more)], capsys)["notes"]
    about = [note for note in notes if "profile mine" in note]
    assert about == [] if words is None else len(about) == 1 and words in about[0]


def test_a_wrong_offset_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, "--profile", written(tmp_path, client_offset_ms=-3)])
    assert stopped.value.code == 2 and "client_offset_ms=-3 is not allowed" in capsys.readouterr().err


def test_every_setting_of_a_fit_wins_over_the_default_rules(tmp_path: Path) -> None:
    """A profile that was fitted to a synchronous server without a prefix cache is used as one."""
    engine = EngineSettings(max_seqs=96, token_budget=700, watermark=0.02)
    profile = written(tmp_path, engine_settings=engine.as_document())
    config = scenario_of("--engine", "continuous", "--profile", profile).config
    held = config.continuous
    assert (config.max_batch, held.token_budget, held.watermark) == (96, 700.0, 0.02)
    assert (held.scheduling, held.prefix_cache, held.admission, held.prefill) == ("sync", "off", "prompt", "chunked")
