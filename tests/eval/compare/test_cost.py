"""Cost: GPU-hours and money follow from GPUs, times and counts alone."""

from __future__ import annotations

import json
import math

import pytest

from llmsched.eval import capacity
from llmsched.eval.compare import main
from llmsched.eval.report.cost import cost_of

SMALL = [
    "--policies",
    "static,multibin",
    "--requests",
    "200",
    "--seeds",
    "2",
    "--servers",
    "2",
    "--rate",
    "1",
    "--jobs",
    "1",
]


def test_the_money_of_a_policy_by_hand(capsys):
    """Two servers of two GPUs; what is paid for is the time, idle or not."""
    assert main([*SMALL, "--price", "3", "--json"]) == 0
    for policy in json.loads(capsys.readouterr().out)["policies"]:
        assert policy["gpus"] == 4
        assert policy["gpu_hours"] == pytest.approx(4 * policy["duration_s"] / 3600)
        tokens_an_hour = 3600 * policy["output_throughput"]
        assert policy["cost_per_million_output_tokens"] == pytest.approx(3 * 4 * 1e6 / tokens_an_hour)
        in_time_an_hour = 3600 * policy["request_goodput"]
        assert policy["cost_per_thousand_in_time"] == pytest.approx(3 * 4 * 1e3 / in_time_an_hour)


def test_without_a_price_there_are_gpu_hours_and_no_money(capsys):
    assert main([*SMALL, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["policies"][0]
    assert first["gpu_hours"] > 0 and not [key for key in first if key.startswith("cost")]
    assert main(SMALL) == 0
    assert "4 GPUs; GPU-hours of a run: static " in " ".join(capsys.readouterr().out.split())


def test_the_table_stands_under_that_of_the_policies(tmp_path, capsys):
    assert main([*SMALL, "--price", "2.5", "--report", str(tmp_path / "page.html")]) == 0
    assert "Cost at 2.5 per GPU-hour" in capsys.readouterr().out
    assert "Cost at 2.5 per GPU-hour" in (tmp_path / "page.html").read_text()


def test_what_never_comes_costs_without_end():
    assert cost_of(4, 0.0, 1000.0, 2.0) == math.inf == cost_of(4, math.nan, 1000.0)
    assert cost_of(4, 2.0, 3600.0) == pytest.approx(2.0)


def test_a_wrong_price_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, "--price", "-1"])
    assert stopped.value.code == 2 and "--price" in capsys.readouterr().err


def test_capacity_says_what_the_servers_cost(capsys):
    options = ["--policies", "multibin", "--requests", "100", "--seeds", "2", "--scales", "1", "--multiples", "1"]
    assert capacity.main([*options, "--shares", "0.9", "--price", "2", "--json", "--jobs", "1"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["tables"]["servers"]
    assert row["gpu_hours_a_day"] == 24 * row["gpus"]
    assert row["cost_per_thousand_in_time"] == pytest.approx(2 * row["gpus"] * 1e3 / (8 * row["met"]) / 3600)
