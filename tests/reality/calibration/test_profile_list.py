"""The command that lists the profiles, and what our own ones rest on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmsched.eval import profiles
from llmsched.eval.calibration import campaign, document
from llmsched.eval.calibration.campaign import MeasurementPlan, measurements
from llmsched.eval.calibration.fit import fit_all
from llmsched.eval.calibration.rows import read_rows
from llmsched.eval.figures import style
from llmsched_env.profiles import load_profile, shipped_profiles
from tests.reality.calibration.tools import CELLS, Table, opened, profile_of

ROOT = Path(__file__).parents[3]


def test_every_shipped_profile_is_listed_with_its_errors(capsys):
    assert profiles.main([]) == 0
    out = capsys.readouterr().out
    for name in shipped_profiles():
        assert sum(line.startswith(f"{name} ") for line in out.splitlines()) == 1
        if "/" not in name:  # those of the atlas have one source
            assert f"{name}: {load_profile(name).meta['source'][:40]}" in out
    assert "1.9 / 11.2   3.7 / 11.0   1.7 / 14.9" in " ".join(out.split("h100-80gb_llama2-70b_tp4")[1].splitlines()[:1])
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert " NO " in rows["peer-qwen3-1.7b-rtx4080"] and "GEMMs only" in rows["h100_llama2-7b_tp1-gemm"]
    assert "MADE FROM A FORMULA" in out and "not included: " in out


def test_the_list_as_json(capsys):
    assert profiles.main(["ideal", "h100_llama2-7b_tp1-gemm", "--json"]) == 0
    ideal, gemm = json.loads(capsys.readouterr().out)["profiles"]
    assert (ideal["measured"], ideal["kv_tokens"], ideal["errors"]) == (False, None, {})
    assert gemm["errors"]["step"] == {"median": 0.0435, "p95": 0.1257}


def test_an_unknown_profile_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        profiles.main(["idael"])
    assert stopped.value.code == 2 and "Did you mean ideal?" in capsys.readouterr().err


@pytest.mark.skipif(not style.available(), reason="matplotlib missing")
def test_measured_against_fitted_is_drawn_where_there_are_rows(tmp_path, capsys):
    plan, file = MeasurementPlan(CELLS, repeats=2), opened(tmp_path)
    campaign.run(plan, file, Table(sigma=0.02))
    document.write(tmp_path / "mine.json", profile_of(plan, file.rows))
    folder = tmp_path / "figures\x1b[31m"
    assert profiles.main([str(tmp_path / "mine.json"), "ideal", "--plot", str(folder)]) == 0
    assert (folder / "mine.png").stat().st_size > 10_000
    said = capsys.readouterr().err
    assert "not drawn: ideal" in said and r"figures\x1b[31m" in said and "\x1b" not in said


@pytest.mark.parametrize("name", [n for n in shipped_profiles() if "rows" in load_profile(n).meta])
def test_our_own_profiles_are_the_fit_to_their_committed_rows(name):
    """Measurement numbers, not made ones: the fit is redone, and repeats scatter as measurements do."""
    profile = load_profile(name)
    rows = [row for _, row in read_rows(ROOT / "data" / "profiles" / profile.meta["rows"])]
    about = profile.meta["campaign"]
    cells = list(dict.fromkeys(sorted(row.cell for row in rows)))
    found = measurements(MeasurementPlan(cells, about["repeats"], most_cv=about["most_cv"], seed=about["seed"]), rows)
    best = fit_all({m.cell: m.ms for m in found if m.samples})[0]
    assert best.form == profile.form
    assert best.coefficients == pytest.approx(profile.coefficients, rel=1e-3)
    assert len({round(m.cv, 4) for m in found}) > len(found) / 2  # a formula has one spread for all cells
