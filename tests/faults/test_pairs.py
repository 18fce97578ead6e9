"""Every policy with every output option, in one run per engine, and again from the store; other commands likewise."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmsched.eval import capacity, levels, stress
from llmsched.policies import names
from tests.faults.tools import run

OVERDUE = "static,network,longest-queue:overdue=2"
"""Policies with an overdue queue that the scenario has not, the learned one among them."""


def outputs(folder: Path) -> list[str | Path]:
    """Every output option."""
    return ["--out", folder / "out", "--report", folder / "page.html", "--timeline", folder / "trace.json", "--json"]


@pytest.mark.parametrize("engine", ["batch", "continuous"])
def test_every_policy_with_every_output(tmp_path: Path, engine: str) -> None:
    """A row per policy in the table, the page, the trace and the summary; a restart gives the same."""
    policies = names(engine)
    cache = ["--prefix-cache", "off"] if engine == "continuous" else []  # which oracle-srpt refuses
    words = ["--engine", engine, *cache, "--policies", ",".join(policies), *outputs(tmp_path)]
    first, second = run(*words), run(*words)
    assert first.code == second.code == 0, first
    assert [entry["policy"] for entry in json.loads(first.out)["policies"]] == list(policies)
    assert first.out == second.out
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert [row["policy"] for row in csv.DictReader(file)] == list(policies)
    page, trace = (tmp_path / "page.html").read_text(), (tmp_path / "trace.json").read_text()
    assert all(f">{name}" in page and f"{name}, seed 0" in trace for name in policies)


TINY = {
    "levels": (levels.main, ["--requests", "1000"]),
    "capacity": (capacity.main, ["--requests", "60", "--multiples", "1", "--scales", "1"]),
    "stress": (
        stress.main,
        ["--sizes", "100", "--at", "100", "--server-counts", "1", "--bin-counts", "2", "--loads", "1"],
    ),
}


@pytest.mark.parametrize("name", TINY)
def test_other_commands_with_overdue_queues_and_every_output(tmp_path: Path, name: str) -> None:
    """Policies whose queues are not those of the scenario."""
    main, words = TINY[name]
    ended = run(*words, "--seeds", "1", "--jobs", "1", "--policies", OVERDUE, *outputs(tmp_path), main=main)
    assert ended.code == 0 and json.loads(ended.out), ended
    assert "network" in (tmp_path / "page.html").read_text() and json.loads((tmp_path / "trace.json").read_text())
