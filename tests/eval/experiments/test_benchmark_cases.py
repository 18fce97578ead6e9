"""The cases of the benchmark: their targets are as many times a request served alone as the scenario's own."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from llmsched.eval.experiments.benchmark.cases import CASES, base_of, cases_of, target_of, targets_of
from llmsched_env.profiles import load_profile
from llmsched_env.workload.targets import FACTOR, alone_slo, alone_target_s


def options(**about: Any) -> argparse.Namespace:
    """The options of the command that the cases depend on."""
    return argparse.Namespace(**{"scenario": "default", "engine": "batch", "cases": "all", "trace": [], **about})


@pytest.mark.parametrize("engine", ["batch", "continuous"])
def test_without_changes_the_targets_are_those_of_the_scenario(engine: str) -> None:
    here = options(engine=engine)
    base = base_of(here)
    assert targets_of(base, here) == base.config.slos[0]
    assert base.config.slos[0].e2e_s == (4.0 if engine == "batch" else float("inf"))


def test_other_hardware_and_lengths_change_the_target_in_proportion() -> None:
    """Twice the time alone, twice the target; a change that leaves the time alone as it is changes nothing."""
    here = options()
    profile, source = base_of(here).config.servers[0].profile, base_of(here).source
    usual = alone_target_s(profile, source)
    slower = load_profile("a100-80gb_bloom-176b_tp8")
    found = targets_of(base_of(here, "--profile", "a100-80gb_bloom-176b_tp8"), here)
    assert found.e2e_s == pytest.approx(4.0 * alone_target_s(slower, source) / usual)
    longer = targets_of(base_of(here, "--workload", "mooncake-conv"), here)
    assert longer.e2e_s == pytest.approx(4.0 * alone_target_s(profile, "mooncake-conv") / usual)
    assert targets_of(base_of(here, "--servers", "16", "--bins", "8"), here).e2e_s == 4.0
    both = options(engine="continuous")
    own, other = base_of(both), targets_of(base_of(both, "--profile", "a100-80gb_llama2-70b_tp8"), both)
    ratio = alone_slo(load_profile("a100-80gb_llama2-70b_tp8"), own.source).ttft_s
    ratio /= alone_slo(own.config.servers[0].profile, own.source).ttft_s
    assert other.ttft_s == pytest.approx(own.config.slos[0].ttft_s * ratio) and other.tpot_s < float("inf")


def test_targets_of_2023_are_multiples_of_the_time_alone() -> None:
    here = options(scenario="llama2-h100")
    base = base_of(here)
    assert targets_of(base, here).e2e_s == FACTOR * alone_target_s(base.config.servers[0].profile, base.source, 1.0)
    assert target_of(here).startswith("target 3 x the p99") and "4000 ms" in target_of(options())


def test_every_case_can_be_made() -> None:
    """By name, for both engines and scenarios; another name is refused."""
    for scenario in CASES:
        for engine in ("batch", "continuous"):
            here = options(scenario=scenario, engine=engine)
            found = cases_of(here)
            assert list(found)[:1] == ["4 servers"] and {"NEW profile", "NEW workload"} <= found.keys()
            for words in found.values():
                assert targets_of(base_of(here, *words), here).deadline_s > 0
    with pytest.raises(ValueError, match="'2 servers' is not known"):
        cases_of(options(cases="2 servers"))
