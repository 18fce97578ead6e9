"""The atlas: points read and refused, coefficients found again, the file, the names, and the command."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmsched.eval.atlas import main
from llmsched.eval.silicon import experiment
from llmsched.eval.silicon.closed_loop import Loop, LoopRules
from llmsched.eval.silicon.document import atlas_text, entry
from llmsched.eval.silicon.fitting import NAMES, FitProblem, fit, linearise, simulate_point, solve
from llmsched.eval.silicon.points import KEYS, Point, read_points
from llmsched.eval.silicon.results import FILE, FitResult, FitStore
from llmsched_env import atlas
from llmsched_env.profiles import load_profile

LOOPS = [Loop(p, o, c) for p, o in ((200, 40), (100, 100), (600, 30)) for c in (1, 3, 8)]
TRUTH = np.array([6.0, 0.3, 2e-4, 9.0, 0.05, 2e-6, 4.0, 15.0, 3.0])
RULES = LoopRules("chunked", 8192, 0.8)


def made_points(values: np.ndarray, share: float) -> tuple[Point, ...]:
    """The points of a server with these coefficients."""
    blank = FitProblem([], RULES, share, 1e12)
    times = [simulate_point(blank, values, loop) for loop in LOOPS]
    return tuple(Point(loop, at.ttft_ms, at.tpot_ms, 1) for loop, at in zip(LOOPS, times, strict=True))


@pytest.fixture(scope="module")
def points() -> tuple[Point, ...]:
    """Points of a mixture of experts."""
    return made_points(TRUTH, 0.05)


def test_coefficients_of_a_known_server_are_found_again(points):
    """Times within 0.2 %, left out within 2 %, though some coefficients can stand for each other."""
    found, left_out = fit(FitProblem(points, RULES, 0.05, 1e12))
    measured = np.array([(point.ttft_ms, point.tpot_ms) for point in points])
    np.testing.assert_allclose(found.simulated, measured, rtol=0.01)
    assert np.median(np.abs(left_out / measured - 1.0)) < 0.02
    assert found.values[0] + found.values[6] == pytest.approx(10.0, rel=0.15)


def test_a_point_that_is_left_out_has_no_say(points):
    """Whatever it is, the coefficients without it are the same."""
    problem = FitProblem(points, RULES, 0.05, 1e12)
    linear = linearise(problem, TRUTH, lambda: None)
    spoiled = replace(problem, points=(replace(points[0], tpot_ms=0.5 * points[0].tpot_ms), *points[1:]))
    kept, everything = range(1, len(points)), range(len(points))
    np.testing.assert_allclose(solve(spoiled, linear, kept), solve(problem, linear, kept), rtol=1e-2)
    assert not np.allclose(solve(spoiled, linear, everything), solve(problem, linear, everything), rtol=0.1)


def frame(points: tuple[Point, ...], **changes: object) -> pd.DataFrame:
    """Rows of the table."""
    about = dict.fromkeys(KEYS, 1) | {
        "model_path": "meta-llama/Llama-3.1-8B-Instruct",
        "system": "h100_sxm",
        "backend": "vllm",
        "backend_version": "0.1",
        "precision": "fp8",
        "gemm_quant_mode": "fp8",
        "moe_quant_mode": "fp8",
        "mode": "agg",
    }
    rows = [
        about
        | {
            "id": f"row{k}",
            "silicon_data_source": f"x; silicon_concurrency={point.loop.clients}; measured=2026-01-0{k % 9 + 1}T00",
            "isl": point.loop.prompt,
            "osl": point.loop.output,
            "silicon_ttft_ms": point.ttft_ms,
            "silicon_tpot_ms": point.tpot_ms,
        }
        | changes
        for k, point in enumerate(points)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of one dense configuration."""
    path = tmp_path / "points.csv"
    dense = made_points(np.where(np.array(NAMES) == "e0", 0.0, TRUTH), 0.0)
    frame(dense).to_csv(path, index=False)
    return path


def test_points_are_read_and_named(table):
    (found,) = read_points(table)
    assert found.name == "h100/llama-3.1-8b/vllm/fp8-tp1-0.1"
    assert (found.first_measured, found.last_measured) == ("2026-01-01", "2026-01-09")
    assert [point.loop for point in found.points] == sorted(
        LOOPS, key=lambda loop: (loop.prompt, loop.output, loop.clients)
    )


def test_repeated_rows_count_as_their_median_and_few_points_not_at_all(table):
    rows = pd.read_csv(table)
    more = rows.iloc[[0, 0]].assign(silicon_tpot_ms=[1e-3, 1e3])
    pd.concat([rows, more]).to_csv(table, index=False)
    (found,) = read_points(table)
    assert found.points[3].rows == 3 or any(point.rows == 3 for point in found.points)
    assert all(1.0 < point.tpot_ms < 100.0 for point in found.points)
    pd.concat([rows.astype(str), rows.columns.to_frame().T]).to_csv(table, index=False)  # files joined, head and all
    assert len(read_points(table)[0].points) == len(rows)
    rows.iloc[:5].to_csv(table, index=False)
    assert read_points(table) == []


@pytest.mark.parametrize(
    ("tp", "dp", "moe_tp", "ep", "gpus"),
    [
        (4, 1, 4, 1, 4),
        (16, 1, 4, 4, 4),
        (64, 1, 8, 8, 8),
        (1, 64, 8, 8, 8),
        (2, 2, 1, 4, 2),
        (1, 8, 1, 8, 8),
        (4, 1, 1, 4, 4),
    ],
)
def test_gpus_of_an_instance(table, tp, dp, moe_tp, ep, gpus):
    rows = pd.read_csv(table)
    rows = rows.assign(tp_size=tp, attention_dp_size=dp, moe_tp_size=moe_tp, moe_ep_size=ep)
    rows.to_csv(table, index=False)
    assert read_points(table)[0].gpus == gpus


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.assign(silicon_tpot_ms=-1.0), "silicon_tpot_ms=-1.0 is not allowed: give above 0"),
        (lambda rows: rows.assign(isl="x"), "isl=x is not allowed"),
        (lambda rows: rows.assign(osl=1e300), "osl=1e+300 is not allowed"),
        (lambda rows: rows.assign(tp_size="x"), "row 1: tp_size=x is not allowed"),
        (lambda rows: rows.assign(moe_ep_size=np.inf), "moe_ep_size=inf is not allowed"),
        (lambda rows: rows.assign(silicon_data_source=f"silicon_concurrency={10**400}"), "clients=inf is not allowed"),
        (lambda rows: rows.assign(silicon_data_source="silicon_concurrency=123456789"), "at most 20,000"),
        (lambda rows: rows.drop(columns="osl"), "no column osl; it has"),
    ],
)
def test_bad_points_are_refused_in_one_line(table, change, message, capsys):
    change(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(SystemExit) as stopped:
        main(["--points", str(table)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_the_command_writes_atlas_and_page_and_goes_on_where_it_was(table, tmp_path, monkeypatch, capsys):
    files = [
        "--write",
        str(tmp_path / "atlas.json"),
        "--page",
        str(tmp_path / "page.md"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["--points", str(table), *files]) == 0
    assert "1 configurations with 9 points" in " ".join(capsys.readouterr().out.split())
    written = (tmp_path / "atlas.json").read_text()
    (about,) = json.loads(written)["profiles"]
    assert about["errors"]["tpot"]["median"] < 0.03 and about["points"] == 9
    assert about["measured_range"] == {"clients": [1, 8], "prompt": [100, 600], "output": [30, 100]}
    assert "| h100/llama-3.1-8b/vllm/fp8-tp1-0.1 |" in (tmp_path / "page.md").read_text()

    def no_fit(*arguments: object) -> None:
        raise AssertionError("the fit is there already")

    monkeypatch.setattr(experiment, "fit", no_fit)
    assert main(["--points", str(table), *files]) == 0
    assert (tmp_path / "atlas.json").read_text() == written


def test_a_damaged_fit_is_made_again(table, tmp_path, capsys):
    """A torn line, a changed digit and a line of another version are said, and nothing of them is believed."""
    (configuration,) = read_points(table)
    result = FitResult(configuration, TRUTH, np.ones((9, 2)), np.ones((9, 2)))
    FitStore(tmp_path).put(result)
    file = tmp_path / FILE
    whole = file.read_bytes()
    kept = FitStore(tmp_path).get(configuration)
    assert kept is not None and np.array_equal(kept.values, TRUTH)
    earlier = b'{"key": "a", "values": [1.0], "own": [], "left_out": []}\n'
    for damaged in (whole[:-20], whole.replace(b"6.0", b"7.0"), earlier, b"[1]\n", b"17\n"):
        assert damaged != whole
        file.write_bytes(damaged)
        assert FitStore(tmp_path).get(configuration) is None
        assert "fits.jsonl: 1 of 1 lines" in capsys.readouterr().err


def test_a_table_without_enough_points_is_refused(table, capsys):
    pd.read_csv(table).iloc[:5].to_csv(table, index=False)
    with pytest.raises(SystemExit):
        main(["--points", str(table)])
    assert "no aggregated configuration in it has 6 points or more" in capsys.readouterr().err


def test_only_takes_a_pattern_and_refuses_one_that_fits_nothing(table, capsys):
    with pytest.raises(SystemExit):
        main(["--points", str(table), "--only", "b200/*"])
    assert "fits no configuration" in capsys.readouterr().err


def test_the_entry_of_a_profile_is_one_that_can_be_loaded(tmp_path, monkeypatch, table):
    (configuration,) = read_points(table)
    times = np.array([(point.ttft_ms, point.tpot_ms) for point in configuration.points])
    dense = np.where(np.array(NAMES) == "e0", 0.0, TRUTH)
    result = FitResult(configuration, dense, times, times)
    assert entry(result)["client_offset_ms"] == pytest.approx(15.0 + 3.0 * np.median(times[:, 1]), rel=1e-3)
    folder = tmp_path / "profiles" / atlas.FOLDER
    folder.mkdir(parents=True)
    (folder / atlas.FILE).write_text(atlas_text([result], table))
    monkeypatch.setattr(atlas.datafiles, "data_dir", lambda kind: tmp_path / kind)
    for cached in (atlas.entries, atlas.groups):
        cached.cache_clear()
    try:
        profile = atlas.find("h100/llama-3.1-8b/vllm")
        assert profile is not None and profile["coefficients"]["d0"] == 6.0 and profile["source_sha256"]
    finally:
        monkeypatch.undo()
        for cached in (atlas.entries, atlas.groups):
            cached.cache_clear()


def test_the_shipped_atlas_keeps_its_bars():
    """At least a hundred profiles, each with provenance and error; medians as the page says."""
    known = atlas.entries()
    assert len(known) >= 100
    for name, about in known.items():
        assert about["errors"]["tpot"]["median"] <= 0.08, name
        for field in ("source", "engine", "version", "points", "measured_range", "caveats", "not_included"):
            assert about[field], (name, field)
        points = np.array(about["measured_points"])
        assert len(points) == about["points"] >= 6
        errors = np.abs(points[:, 6] / points[:, 4] - 1.0)
        assert np.median(errors) == pytest.approx(about["errors"]["tpot"]["median"], abs=2e-3), name


def test_a_part_of_a_name_takes_the_last_measured_and_says_so():
    with pytest.warns(
        UserWarning, match=r"profile h100/llama-3.1-70b/vllm is h100/\S+ here, the last measured; others:"
    ):
        profile = load_profile("h100/llama-3.1-70b/vllm")
    assert profile.name.startswith("h100/llama-3.1-70b/vllm/")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_profile(profile.name) == profile
    with pytest.raises(ValueError, match=r"Did you mean \S*llama-3.1-\S*"):
        load_profile("h100/llama-3.1-8b/vlm2")
