"""What docs/results/returns.md says of PPO from nothing is what its command makes of the committed result file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from statistics import median

from tests.project.pages import ROOT

TOOL = "docs/tools/make_first_agent.py"
PAGE = ROOT / "docs" / "results" / "returns.md"
CURVES = json.loads((ROOT / "docs" / "results" / "first_agent.json").read_text(encoding="utf-8"))
TEN_MINUTES, HALF_AN_HOUR = 600.0, 1800.0


def rule(name: str) -> float:
    """The return of a rule in the table of LLMSched-v0."""
    found = re.search(rf"^{name} +(-[\d.]+) ±", PAGE.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return float(found[1])


def seconds_to(bar: float) -> list[float]:
    """By seed: the training time after which it first earns ``bar``."""
    return [
        next((point["seconds"] for point in curve if point["return"] >= bar), float("inf")) for curve in CURVES.values()
    ]


def test_the_page_is_up_to_date() -> None:
    """The table between its marks."""
    done = subprocess.run([sys.executable, str(ROOT / TOOL), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_the_ten_lines_come_as_far_as_the_rules() -> None:
    """Five seeds; the median reaches multibin within ten minutes and longest-queue within thirty."""
    assert list(CURVES) == ["0", "1", "2", "3", "4"]
    assert median(curve[-1]["return"] for curve in CURVES.values()) > rule("multibin")
    assert median(seconds_to(rule("multibin"))) < TEN_MINUTES
    assert median(seconds_to(rule("longest-queue"))) < HALF_AN_HOUR


def test_the_curves_are_those_of_the_example() -> None:
    """They end at its number of steps, and rise from an untrained agent."""
    steps = re.search(r"model\.learn\(([\d_]+)\)", (ROOT / "examples" / "train_ppo.py").read_text(encoding="utf-8"))
    assert steps is not None
    for curve in CURVES.values():
        assert curve[0]["steps"] == 0 and curve[-1]["steps"] >= int(steps[1])
        assert curve[-1]["return"] > curve[0]["return"] + 0.05
