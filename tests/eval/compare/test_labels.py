"""``label=TEXT``: the name of a policy wherever results are shown or written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmsched.eval import compare
from llmsched.policies import registry

POLICIES = "static:batch=4:label=fours,adaptive-memory:min=2:start=4:max=16:threshold=0.5:label=by memory"
SMALL = ["--requests", "200", "--seeds", "1", "--jobs", "1"]


def test_a_label_is_the_name_everywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In the table, the JSON, results.csv and the page; what it stands for is said, and nothing is cut."""
    out, page = tmp_path / "out", tmp_path / "page.html"
    words = ["--policies", POLICIES, *SMALL, "--out", str(out), "--report", str(page)]
    assert compare.main(words) == 0
    shown = capsys.readouterr().out
    rows = [line.split("  ")[0] for line in shown.splitlines()]
    assert "fours" in rows and rows.count("by memory") == 2 and "..#" not in shown
    assert "fours = static:batch=4" in shown
    found = json.loads((out / "summary.json").read_text())
    assert [policy["policy"] for policy in found["policies"]] == ["fours", "by memory"]
    assert found["policies"][0]["parameters"] == "static:batch=4"
    assert any("fours = static:batch=4" in note for note in found["notes"])
    with (out / "results.csv").open() as file:
        assert [row["policy"] for row in csv.DictReader(file)] == ["fours", "by memory"]
    html = page.read_text()
    assert "by memory" in html and html.count("adaptive-memory:") == html.count("= adaptive-memory:") + html.count(
        POLICIES.partition(",")[2]
    )


def test_a_label_changes_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    """The same policy with and without one."""
    found = []
    for text in ("static:batch=4", "static:batch=4:label=fours"):
        assert compare.main(["--policies", text, *SMALL, "--json"]) == 0
        (policy,) = json.loads(capsys.readouterr().out)["policies"]
        found.append({key: value for key, value in policy.items() if key not in ("policy", "wall_s")})
    assert found[0] == found[1]


def test_equal_labels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line: results could not be told apart."""
    with pytest.raises(SystemExit) as ended:
        compare.main(["--policies", "static:label=a,dynamic:label=a"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and "a is given 2 times" in error


KNOWING = '''
from llmsched.policies.registry import policy

@policy("knowing"{said})
def knowing(record, params, memory, rng):
    """Knows."""
    return record.num_bins, record.max_batch
'''


@pytest.mark.parametrize("said", [", clairvoyant=True", ", queueing=lambda params: {'discipline': 'oracle-sjf'}"])
def test_a_policy_of_a_user_that_knows_the_truth_is_marked(
    said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it says so or only orders by the truth: never the best of a column, and the note says why."""
    monkeypatch.setattr(registry, "_POLICIES", {**registry._POLICIES})
    file = tmp_path / "mine.py"
    file.write_text(KNOWING.replace("{said}", said))
    assert compare.main(["--policies", f"static,dynamic,{file}:knowing", *SMALL]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("oracle-"))
    assert "*" not in row and "never marked best" in shown
    with pytest.raises(SystemExit):
        compare.main(["--policies", f"{file}:knowing:label=mine", *SMALL])
    assert "its label begins with oracle-" in capsys.readouterr().err
