"""A profile from logged steps: the law comes back, the server's settings are kept, bad logs are refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval import calibrate_steps
from llmsched.eval.calibration.cells import Work
from llmsched.eval.reality.steps.grouping import group_steps
from llmsched.eval.reality.steps.profile import fit_steps, speed
from llmsched.eval.reality.steps.reading import LoggedServer, LoggedStep, merge_logs, read_log
from llmsched_env.profiles import from_json, load_profile
from tests.reality.steps.tools import AFFINE, SERVER, lines_of, write_log

SPLIT = {"d0": 5.0, "d1": 0.2, "d2": 1e-3, "p0": 8.0, "p1": 0.05, "p2": 2e-5}
TOKENS = {"w0": 8.0, "e0": 3.0, "w1": 0.1, "a_p": 2e-5, "a_d": 2e-3}


def log_of(form: str, law: dict[str, float], tmp_path: Path, *, count: int = 3000, sigma: float = 0.0) -> LoggedServer:
    """A log of steps of a law, read."""
    lines = lines_of(np.random.default_rng(5), law, form, count, sigma)
    return read_log(write_log(tmp_path / "steps.jsonl", lines))


def test_a_known_law_is_found_under_noise(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Through the command: its own form, coefficients, range and settings; the profile is read by the simulator."""
    lines = lines_of(np.random.default_rng(5), AFFINE, "affine", 6000, 0.1)
    log, out = write_log(tmp_path / "steps.jsonl", lines), tmp_path / "mine.json"
    assert calibrate_steps.main([str(log), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "chosen: affine" in printed and "max_seqs 16" in printed
    profile = load_profile(out)
    assert profile.form == "affine" and profile.kv_tokens == 32768
    for name, rel in {"d0": 0.05, "d1": 0.1, "d2": 0.1, "p0": 0.1, "p1": 0.1}.items():
        assert profile.coefficients[name] == pytest.approx(AFFINE[name], rel=rel), name
    about = profile.meta
    assert about["engine_settings"] == {
        "admission": "prompt",
        "prefill": "chunked",
        "max_seqs": 16,
        "token_budget": 256,
        "scheduling": "sync",
        "prefix_cache": "off",
        "watermark": 0.0,
    }
    assert about["measured_range"]["clients"] == [1, 18] and about["measured_range"]["context"][1] < 400
    assert about["errors"]["decode"]["median"] < 0.03 and abs(about["errors"]["time_of_all_steps"]) < 0.02


@pytest.mark.parametrize(("form", "law"), [("split", SPLIT), ("tokens", TOKENS), ("affine", AFFINE)])
def test_every_form_is_told_from_the_others(form: str, law: dict[str, float], tmp_path: Path) -> None:
    """Prompts beside decoding are part of the fit of every form."""
    best = fit_steps(log_of(form, law, tmp_path)).best
    assert best.form == form
    for work in (Work(4, 800, 0, 0), Work(16, 4000, 0, 0), Work(8, 1600, 150, 150**2), Work(0, 0, 120, 120**2)):
        found = from_json(document(best.form, best.coefficients)).iteration_ms(*work)
        assert found == pytest.approx(from_json(document(form, law)).iteration_ms(*work), rel=0.04)


def document(form: str, law: dict[str, float]) -> dict[str, Any]:
    """A profile of a law."""
    head = {"schema": "llmsched-profile/v1", "units": "ms; tokens", "name": "x", "kv_tokens": None}
    return {**head, "form": form, "coefficients": law}


def test_pauses_are_left_out_and_said(tmp_path: Path) -> None:
    """A step of a second among those of 10 ms is no part of the law, and its share of the time is known."""
    log = log_of("affine", AFFINE, tmp_path)
    clean = fit_steps(log, ("affine",)).best.coefficients
    slow = [LoggedStep(step.work, 1000.0) for step in log.steps[100:104]]
    with_pauses = LoggedServer(log.server, [*log.steps, *slow])
    found = fit_steps(with_pauses, ("affine",))
    assert found.grouped.pauses == 4
    assert found.grouped.pause_share == pytest.approx(4000.0 / sum(s.ms for s in with_pauses.steps))
    assert found.best.coefficients == pytest.approx(clean)


def test_without_steps_of_prompts_alone_their_constant_is_that_of_decoding(tmp_path: Path) -> None:
    """And the profile says so."""
    log = log_of("affine", AFFINE, tmp_path)
    busy = LoggedServer(log.server, [step for step in log.steps if step.work.members])
    assert busy.steps != log.steps
    coefficients = fit_steps(busy, ("affine",)).best.coefficients
    assert coefficients["p0"] == coefficients["d0"] == pytest.approx(AFFINE["d0"], rel=0.02)


def test_speed_is_measured_over_predicted_time(tmp_path: Path) -> None:
    """A machine that is 10 % slower has speed 1.1."""
    log = log_of("affine", AFFINE, tmp_path)
    slower = LoggedServer(log.server, [LoggedStep(step.work, 1.1 * step.ms) for step in log.steps])
    profile = from_json(document("affine", AFFINE))
    assert speed(log, profile) == pytest.approx(1.0, abs=0.01)
    assert speed(slower, profile) / speed(log, profile) == pytest.approx(1.1)


def test_groups_hold_like_steps_and_few_are_rare() -> None:
    """Nothing is lost: every step is in a group, a pause or rare; a short log has smaller groups."""
    prompts = [LoggedStep(Work(0, 0, t, t * t), 10.0) for t in (16, 32, 64, 128, 256, 512) for _ in range(5)]
    more = [LoggedStep(Work(b, 3000 * b, 0, 0), 10.0) for b in (1, 2, 4, 8) for _ in range(5)]
    steps = [LoggedStep(Work(b, 100 * b, 0, 0), 10.0) for b in (1, 1, 1, 1, 1, 8, 8, 8, 8, 8, 8, 16)]
    assert len(group_steps(steps).groups) == 3
    found = group_steps([*steps, *prompts, *more])
    assert found.steps + found.rare == 12 + 30 + 20
    found = replace(found, groups=tuple(g for g in found.groups if 0 < g.work.context < 1000), steps=found.steps - 50)
    assert [(group.work.members, len(group.samples)) for group in found.groups] == [(1, 5), (8, 6)]
    assert (found.steps, found.pauses, found.rare) == (11, 0, 1)
    assert found.rare_share == pytest.approx(1 / 62)


VLLM_LINES = """INFO 11-30 [loggers.py:198] Engine 000: Iteration(12): 2 context requests, 200 context tokens, \
3 generation requests, 3 generation tokens, iteration elapsed time: 20.50 ms, GPU KV cache usage: 12.5%
INFO Iteration(13): 0 context requests, 0 context tokens, 5 generation requests, 5 generation tokens, \
iteration elapsed time: 9.00 ms, GPU KV cache usage: 12.6%
INFO Iteration(14): 0 context requests, 0 context tokens, 0 generation requests, 0 generation tokens, \
iteration elapsed time: 9.00 ms (dummy), GPU KV cache usage: 12.6%
INFO something else
"""


def test_the_log_of_vllm_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """The context comes from the memory in use; without its size there is none."""
    path = tmp_path / "server.log"
    path.write_text(VLLM_LINES.replace("\\\n", ""), encoding="utf-8")
    log = read_log(path, 8000.0)
    assert log.of_vllm and [step.ms for step in log.steps] == [20.5, 9.0]
    assert log.steps[0].work == Work(3, 800.0, 200, 20000.0) and log.steps[1].work == Work(5, 1008.0, 0, 0)
    assert read_log(path).steps[1].work.context == 0


BAD = {
    '{"end_s": 1, "ms": 2}': "'decodes' is missing",
    "[1]": "list, not an object",
    "{nonsense": "not a line of a log",
    '{"end_s": 1, "ms": -1, "decodes": 1, "kv": 5, "chunks": [], "running": 1, "waiting": 0}': "ms=-1",
    '{"end_s": 1, "ms": 1, "decodes": 5, "kv": 4, "chunks": [], "running": 1, "waiting": 0}': "kv=4 for 5",
    '{"end_s": 1, "ms": 1, "decodes": 0, "kv": 0, "chunks": [], "running": 1, "waiting": 0}': "without work",
    '{"server": {"max_seqs": 8}}': "another server than before: max_seqs 8, not 16",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named(line: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """File, line, reason; exit 2."""
    path = write_log(tmp_path / "steps.jsonl", [])
    path.write_text(path.read_text() + line + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        calibrate_steps.main([str(path), "--out", str(tmp_path / "p.json")])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.count("\n") == 1
    assert "line 2" in told and BAD[line] in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.jsonl"], "not readable"),
        (["text.log"], "no steps: give a file that LLMSCHED_VLLM_STEPS named"),
        (["few.jsonl"], "0 steps of 0 kinds (0 with prefill, 0 with decode): a fit needs 4 of each. Log more requests"),
        (["few.jsonl", "--max-seqs", "8"], "--max-seqs 8: the log says 16: drop the option"),
        (["few.jsonl", "other.jsonl"], "another server than before: kv_tokens 5, not 32768: fit them apart"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, exit 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    write_log(Path("few.jsonl"), [])
    write_log(Path("other.jsonl"), [], SERVER | {"kv_tokens": 5})
    Path("text.log").write_text("INFO hello\n")
    with pytest.raises(SystemExit) as stopped:
        calibrate_steps.main([*words, "--out", "p.json"])
    assert stopped.value.code == 2 and told in capsys.readouterr().err and not Path("p.json").exists()


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    """That of a server that was killed."""
    lines = lines_of(np.random.default_rng(0), AFFINE, "affine", 5)
    path = write_log(tmp_path / "steps.jsonl", [*lines, {"request": "a", "added_s": 1, "first_s": 2, "done_s": 3}])
    path.write_text(path.read_text() + json.dumps(lines[0])[:30], encoding="utf-8")
    log = read_log(path)
    assert len(log.steps) == 5 and log.requests[0].first_s == 1002.0 and log.steps[0].end_s > 1000
    assert len(merge_logs([log, log]).steps) == 10
