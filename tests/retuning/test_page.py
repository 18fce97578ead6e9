"""docs/results/retuning.md is what its command makes of the committed result file, and says the rule's own verdict."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.project.pages import ROOT

TOOL = "docs/tools/make_retuning.py"
RESULTS = ROOT / "docs" / "results" / "retuning" / "results.json"


def test_the_page_is_up_to_date() -> None:
    """The table between its marks."""
    done = subprocess.run([sys.executable, str(ROOT / TOOL), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_what_is_called_retuned_has_an_interval_below_zero() -> None:
    """And what is called generic has not."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8")).values()
    assert rows
    for row in rows:
        change = row["difference"]
        assert row["retuned"] == (change["mean"] < 0 and abs(change["mean"]) > change["half"])
