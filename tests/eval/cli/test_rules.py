"""Named rules of a serving engine: the same on the command line, in the environments and as a scheduler."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmsched.eval.cli.options import parser_for
from llmsched.eval.report.textual import heading
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.policies import parse
from llmsched_env.config import Continuous, SimConfig
from llmsched_env.envs.continuous import continuous_options
from llmsched_env.envs.options import parse_options
from llmsched_env.options.presets import RULES, vllm_sizes
from llmsched_env.options.table import OPTIONS
from llmsched_env.simulation.simulator import simulate

BIG, SMALL = "h100-80gb_llama2-70b_tp4", "a100-80gb_llama2-70b_tp4"
ENGINE = ("--engine", "continuous")


def config_of(*words: str) -> SimConfig:
    """The configuration of a command line."""
    return scenario_from(parser_for("test", "").read([*ENGINE, *words])).config


def as_set(config: SimConfig) -> dict[str, Any]:
    """What rules set in a configuration."""
    ours = config.continuous
    own = {name: getattr(ours, name) for name in (*RULES["vllm-0.32"], "token_budget")}
    return own | {"max_batch": config.max_batch}


@pytest.mark.parametrize("rules", [name for name in RULES if name != "own"])
@pytest.mark.parametrize(
    ("profile", "caps"), [(BIG, (1024, 8192)), (SMALL, (256, 2048)), (f"{BIG}:1,{SMALL}:1", (256, 2048))]
)
def test_rules_set_what_the_engine_does_on_that_gpu(rules: str, profile: str, caps: tuple[int, int]) -> None:
    """All their options, and the caps of the GPU; of two kinds the smaller."""
    found = as_set(config_of("--rules", rules, "--profile", profile))
    assert found == {**RULES[rules], "max_batch": caps[0], "token_budget": caps[1]}
    made = parse_options({"engine": "continuous", "rules": rules, "profile": profile}).simulation()
    assert as_set(made) == found


def test_what_is_given_wins() -> None:
    """An option of the command line or an argument over that of the rules."""
    words = ("--rules", "vllm-0.32", "--scheduling", "sync", "--max-batch", "64", "--token-budget", "512")
    found = as_set(config_of(*words))
    assert (found["scheduling"], found["max_batch"], found["token_budget"]) == ("sync", 64, 512)
    assert found["admission"] == "prompt"
    given = {"scheduling": "sync", "max_batch": 64, "token_budget": 512}
    made = parse_options({"engine": "continuous", "rules": "vllm-0.32", **given}).simulation()
    assert as_set(made) == found


def test_no_rules_change_nothing() -> None:
    """`own` is the engine as it stands; the default scenario has rules."""
    own = config_of("--rules", "own")
    assert own.continuous == Continuous() and own.max_batch == OPTIONS["max_batch"].default_in("continuous") == 256
    assert config_of() == config_of("--rules", "vllm-0.32") != own


def test_a_smaller_token_budget_caps_the_running_set() -> None:
    """As in vLLM, where no cap is given; of the command line, of a profile's fit, as an argument, in the scheduler."""
    assert config_of("--token-budget", "512").max_batch == 512
    assert config_of("--token-budget", "4096").max_batch == 1024
    made = parse_options({"engine": "continuous", "rules": "vllm-0.32", "token_budget": 512}).simulation()
    assert (made.max_batch, made.continuous.token_budget) == (512, 512)
    served = parse("vllm:budget=512").ready(config_of()).config
    assert (served.max_batch, served.continuous.token_budget) == (512, 512)
    for given in (("--max-batch", "600"), ("--rules", "own", "--max-batch", "600")):
        with pytest.raises(ValueError, match="token_budget=512 is less than max_batch=600"):
            config_of("--token-budget", "512", *given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kv_tokens": math.inf}, "needs a limit of the KV memory"),
        ({"discipline": "oracle-srpt"}, "does not go with discipline='oracle-srpt'"),
    ],
)
def test_the_cache_of_rules_that_nobody_asked_for_yields(given: dict[str, Any], said: str) -> None:
    """Where there can be none; rules and a cache that were asked for are refused there."""

    def made(**options: Any) -> SimConfig:
        return parse_options(continuous_options({**given, **options, "bins": 1})).simulation()

    assert as_set(made()) == as_set(config_of()) | {"prefix_cache": "off"}
    for asked in ({"rules": "vllm-0.32"}, {"prefix_cache": "on"}):
        with pytest.raises(ValueError, match=f"prefix_cache='on' {said}.*prefix_cache='off'"):
            made(**asked)


def test_on_the_command_line_a_cache_that_yields_is_said() -> None:
    """A line for what the default rules leave out; nothing where the cache was asked for, which is refused."""
    words = ("--kv-tokens", "inf")
    with pytest.warns(
        UserWarning, match="vllm-0.32 are used without their prefix cache, which needs a limit of the KV"
    ):
        found = config_of(*words)
    assert as_set(found) == as_set(config_of()) | {"prefix_cache": "off"}
    for asked in (("--rules", "vllm-0.32"), ("--prefix-cache", "on")):
        with pytest.raises(ValueError, match="prefix_cache='on' needs a limit of the KV memory.*prefix_cache='off'"):
            config_of(*words, *asked)


def test_the_heading_of_the_default_names_no_rule_as_another() -> None:
    """The rules of the default scenario are its default; where they are left the heading says what is other."""
    heading_of = {
        words: " ".join(heading(scenario_from(parser_for("test", "").read([*ENGINE, *words])), [0]).split())
        for words in ((), ("--rules", "own"))
    }
    assert "not the default" not in heading_of[()]
    others = heading_of["--rules", "own"].partition("not the default: ")[2]
    for said in ("scheduling sync", "prefix cache off", "token budget 2,048 tokens", "admission predicted"):
        assert said in others


def test_rules_belong_to_the_engine_continuous() -> None:
    """In the other engine they are refused, on both borders."""
    with pytest.raises(ValueError, match="belongs to the engine continuous"):
        scenario_from(parser_for("test", "").read(["--rules", "vllm-0.32"]))
    with pytest.raises(ValueError, match="belongs to the engine 'continuous'"):
        parse_options({"rules": "vllm-0.32"})
    with pytest.raises(ValueError, match="Choose one of"):
        parse_options({"rules": "vllm", "engine": "continuous"})


@pytest.mark.parametrize(
    "gpu", ["NVIDIA H100 80GB HBM3", "h200", "gb200", "NVIDIA A100-SXM4-80GB", "l40s", "", "gpu of tomorrow"]
)
def test_caps_by_the_name_of_a_gpu(gpu: str) -> None:
    """Large ones for at least 70 GiB, but not for an A100, nor for what is not known."""
    large = gpu.lower().startswith(("nvidia h100", "h200", "gb200"))
    assert vllm_sizes(gpu)["max_batch"] == (1024 if large else 256)


def test_the_scheduler_vllm_is_first_come_first_served_under_these_rules() -> None:
    """Whatever the scenario sets: the stamps of `sarathi` in a scenario with the rules."""
    scenario = scenario_from(
        parser_for("test", "").read([*ENGINE, "--rules", "own", "--requests", "300", "--kv-tokens", "6000"])
    )
    requests, ruled = (
        scenario.workload.draw(0),
        replace(
            scenario.config,
            max_batch=1024,
            continuous=replace(
                scenario.config.continuous, token_budget=8192.0, **{**RULES["vllm-0.32"], "prefix_cache": "off"}
            ),
        ),
    )
    runs = []
    for name, config in (("vllm", scenario.config), ("sarathi", ruled)):
        ready = parse(name).ready(config)
        runs.append(simulate(ready.config, requests, ready.decide, **ready.options))
    for stamp in ("first_token", "completion"):
        assert np.array_equal(runs[0].requests[stamp], runs[1].requests[stamp], equal_nan=True)
    assert runs[0].requests["preemptions"].sum() > 0
    assert parse("vllm:seqs=7:budget=99").ready(scenario.config).config.max_batch == 7
