"""Every argument of the environments refuses what it cannot take: the message has the name, the value and a remedy."""

from __future__ import annotations

import argparse
import math
import re
import warnings
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from llmsched.eval.cli.readers import read_bins
from llmsched_env.envs.continuous import LLMSchedContinuousEnv
from llmsched_env.envs.options import EnvOptions
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.small import LLMSchedSmallEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.requests import Requests
from tests.envs.env_tools import own_requests, rollout

BAD: dict[str, list[Any]] = {
    "workload": ["nope", [], 3, ["azure-conv", 3], "missing.csv", None, {}],
    "rate": [0, -1, "fast", (2, 1), (1, 2, 3), math.nan, math.inf, (1, "a"), True, {}],
    "requests": [0, -5, 2.5, "many", None, True, 1e3],
    "duration_s": [0, -1, "x", math.inf, math.nan, True],
    "predictor": ["psychic", "noisy:-1", "noisy:x", 3, None],
    "concurrency": [0, -1, 2.5, "x", math.nan, True],
    "think": ["exp:-1", "later", "exp:3", 3, None],
    "burstiness": [0, -1, "x", math.nan],
    "profile": ["nope", 3, "a:b", None, "synthetic:0", "synthetic:200"],
    "servers": [0, 129, 2.5, "4", True],
    "kv_tokens": [1, "x", math.nan, -5],
    "bins": [
        0,
        33,
        2.5,
        "x",
        (64, 32),
        (0.5,),
        (-5,),
        ("a",),
        (64, 256),
        (0, 64, 64),
        (),
        True,
        None,
        tuple(range(1, 40)),
        [None],
    ],
    "max_bins": [3, 33, 4.5, "x", 0],
    "max_batch": [0, 2000, 8.5, "x", None],
    "slo": [{"e2el": -1}, {"e2el": "x"}, {"e2e": 1}, 5, {"e2el": math.nan}, {"e2el": 0}, {"ttft": None}],
    "discipline": ["lifo", 3, None],
    "overdue_batch_factor": [-1, "x", math.nan, math.inf, True],
    "overdue_factor": [-0.5, "x", math.nan, math.inf, True],
    "overdue": ["drop", 3, None, "refuse"],
    "patience_s": [0, -1, "x", math.nan, None, True],
    "queue_cap": [0, -1, 2.5, "x", math.nan, math.inf, True],
    "accept_rate": [0, -1, "x", math.nan, None, True],
    "accept_burst": [0, 0.5, "x", math.nan, math.inf, None, True, 8.0],
    "refusals": ["yes", 3, None, True],
    "hold_s": [0, True, -1, "x", math.nan, None],
    "tick_s": [0, -1, "x", math.nan, None],
    "controller": [{"alfa": 1}, {"alpha": "x"}, {"alpha": -1}, 3, {"kind": "x"}, {"b_min": 500}, {"ema": 0}],
    "reward": [{"mis": 1}, {"miss": -1}, {"miss": "x"}, 3, {"miss": math.nan}, {"miss": None}],
    "action": ["box", 3, None],
    "engine": ["orca", 3, None],
    "prefix_cache": ["always", 3, None, True],
    "shared_prefix": ["many", "0:100", "4:-1", "4", 3],
    "rules": ["vllm", 3, None, "vllm-0.32"],
    "prefill": ["last", 3, None],
    "scheduling": ["later", 3, None],
    "token_budget": [0, -1, "x", math.nan, None],
    "admission": ["all", 3, None],
    "routing": ["push", 3, None],
    "load_age_s": [-1, "x", math.nan, math.inf, None, True],
    "max_chunk": [0, -1, 2.5, "x", math.nan, None, True],
    "victim": ["oldest", 3, None],
    "returned": ["last", 3, None],
    "aging_s": [0, -1, "x", math.nan, None, True, 2.0],
    "watermark": [-0.1, 0.6, "x", math.nan, None, True],
    "window_s": [-1, "x", math.nan, math.inf, None],
    "release": ["never", 3, None],
    "overhead_s": [-1, "x", math.nan, math.inf, None, True],
    "max_tokens": [0, -1, "x", math.nan, None],
    "max_wait_s": [0, -1, "x", math.nan, None],
    "render_mode": ["x", 3],
    "max_episode_steps": [0, -1, 2.5, "x", True],
    "simulation": [3, {}],
}
CASES = [(name, value) for name, values in BAD.items() for value in values]


def test_every_argument_is_tried() -> None:
    """No option without a bad value in the table."""
    assert {field.name for field in fields(EnvOptions)} <= BAD.keys()


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_what_is_not_allowed_is_refused(name: str, value: Any) -> None:
    """A ValueError of one line that names the argument and the value and says what to give."""
    words = {"kv_tokens": "kv_tokens", "slo": "slo|SLO", "rate": "rate", "requests": "requests", "profile": "profile"}
    with pytest.raises(ValueError) as caught:
        LLMSchedEnv(**{name: value})
    message = str(caught.value)
    assert re.search(words.get(name, name), message, re.IGNORECASE), message
    assert "\n" not in message and message.endswith((".", ".)")), message
    inner = (
        [value]
        if not isinstance(value, (dict, list, tuple))
        else [*(value.values() if isinstance(value, dict) else value)]
    )
    shown = [repr(value), *map(repr, inner), *map(str, inner), *(value if isinstance(value, dict) else [])]
    assert any(text in message for text in shown), message
    assert re.search(
        r"\b(give|choose|drop|cannot|at most|at least|did you mean|no such file|shipped|generators)\b",
        message,
        re.IGNORECASE,
    )


def test_an_unknown_argument_names_the_nearest() -> None:
    """A slip of the pen is answered with what was meant."""
    for make in (LLMSchedEnv, LLMSchedVectorEnv):
        with pytest.raises(ValueError, match=r"no option 'server'\. Did you mean servers\? Options: workload, rate"):
            make(server=3)
    with pytest.raises(ValueError, match="Did you mean miss"):
        LLMSchedEnv(reward={"misses": 1.0})


@pytest.mark.parametrize(("old", "name"), [("late_bin", "overdue_factor"), ("triage", "overdue_batch_factor")])
def test_earlier_names_work_and_warn(old: str, name: str) -> None:
    """An argument under its earlier name does the same and says the present one; both together are refused."""
    one: dict[str, Any] = {old: 1.5} if old == "late_bin" else {old: 1.5, "overdue_factor": 2.0}
    both: dict[str, Any] = {old: 1.5, name: 1.5}
    with pytest.warns(UserWarning, match=f"the argument {old} is now called {name}"):
        env = LLMSchedEnv(**one)
    assert getattr(env.config.queueing, name) == 1.5
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=f"{name} is given twice"):
        LLMSchedEnv(**both)


def test_through_gym_make() -> None:
    """The message survives gym.make."""
    with pytest.raises(ValueError, match="max_batch=0 is not allowed"):
        gym.make("llmsched_env:LLMSched-v0", max_batch=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_envs": 2.5}, "num_envs=2.5"),
        ({"num_envs": 2, "threads": 0}, "threads=0"),
        ({"num_envs": 2, "threads": "2"}, "threads='2'"),
        ({"num_envs": 2, "autoreset_mode": "sometimes"}, "sometimes"),
        ({"num_envs": 2, "render_mode": "x"}, "render_mode='x'"),
        ({"num_envs": 2, "max_episode_steps": 0}, "max_episode_steps=0"),
        ({"num_envs": 2, "simulation": 3}, "simulation=3"),
    ],
)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_the_vector_environments_own_arguments(arguments: dict[str, Any], words: str) -> None:
    """Lanes, threads, autoreset mode; what was made by then is cleaned up without noise."""
    with pytest.raises(ValueError, match=re.escape(words)):
        LLMSchedVectorEnv(**arguments)


def test_a_workload_that_cannot_fit() -> None:
    """Where the memory is smaller than every prompt the constructor says so."""
    own = Requests.checked([1.0, 2.0], [500, 600], [5, 5])
    with pytest.raises(ValueError, match=r"kv_tokens.* 500 .*give"):
        LLMSchedEnv(workload=own, bins=1, kv_tokens=400)
    with pytest.raises(ValueError, match="kv_tokens"):
        LLMSchedEnv(workload="mooncake-conv", kv_tokens=400)
    LLMSchedEnv(workload=own, bins=1, kv_tokens=502)


def test_contradictions() -> None:
    """Options that are fine alone and not together."""
    with pytest.raises(ValueError, match="counts 3: drop one"):
        LLMSchedEnv(profile="synthetic:1,ideal:2", servers=4)
    with pytest.raises(ValueError, match="give the lower bounds"):
        LLMSchedEnv(workload=own_requests(), bins=4)
    with pytest.raises(ValueError, match="It cannot be below bins"):
        LLMSchedEnv(bins=(0, 1, 2, 3), max_bins=3)
    with pytest.raises(ValueError, match="give overdue_factor too"):
        LLMSchedEnv(overdue_batch_factor=1.0)
    with pytest.raises(ValueError, match="belongs to the engine 'batch'"):
        LLMSchedContinuousEnv(overdue_factor=1.0, overdue_batch_factor=1.0)
    with pytest.raises(ValueError, match="has 33 bins: at most 32 are possible"):
        LLMSchedEnv(bins=(0, *range(20, 340, 10)))
    with pytest.raises(ValueError, match="overdue_factor does not go with discipline='oracle-srpt'"):
        LLMSchedContinuousEnv(discipline="oracle-srpt", overdue_factor=1.0)


GOOD: list[dict[str, Any]] = [
    {"bins": (0, 64, 256)},  # lower bounds, as the command line takes them
    {"bins": [0]},
    {"bins": np.int64(3) and 3, "max_bins": 8},
    {"rate": [1, 4]},
    {"rate": None},
    {"rate": np.float64(2.0)},
    {"slo": {"ttft": math.inf, "e2el": 1}},
    {"kv_tokens": math.inf},
    {"hold_s": math.inf, "tick_s": 1},
    {"burstiness": math.inf},
    {"profile": "synthetic:2,ideal:1"},
    {"requests": 1},
    {"max_batch": 1},
    {"servers": 1, "bins": 1},
    {"reward": {"tardiness": 1}},
    {"controller": {"tbt_s": 0.06, "kind": "peer"}},
    {"max_episode_steps": 1},
    {"overdue_batch_factor": np.float64(1.0), "overdue_factor": 0},
    {"overdue_factor": 1, "bins": 1, "max_bins": 1},
    {"overdue_factor": 1.0, "bins": (0, *range(20, 330, 10))},
    {"overdue_batch_factor": 2.0, "overdue_factor": 1.0, "slo": {}},
]


@pytest.mark.parametrize("options", GOOD, ids=str)
def test_what_is_allowed_plays(options: dict[str, Any]) -> None:
    """Limits of the allowed: an episode comes to its end, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = rollout(LLMSchedEnv(**{"requests": 20, **options}), 0)
    assert steps[-1][2] or steps[-1][3]


def test_bins_are_given_as_on_the_command_line() -> None:
    """By their lower bounds, 0 first; what could be read in two ways is refused in both places, in the same words."""
    assert LLMSchedEnv(bins=(0, 64, 256)).config.queueing.edges == read_bins("(0,64,256)") == (64, 256)
    words = r"ambiguous: give .*, 0 first; in front of 64 that makes 3 bins, in place of it 2"
    with pytest.raises(ValueError, match=words):
        LLMSchedEnv(bins=(64, 256))
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        read_bins("64,256")


def test_a_short_time_in_which_often_nothing_comes() -> None:
    """An episode holds a request at least, however short: nothing is raised in the middle of a training."""
    env = LLMSchedEnv(requests=None, duration_s=2.0, rate=0.6, servers=1)
    for seed in range(60):
        env.reset(seed=seed)
        assert env.record["waiting"] == 1


@pytest.mark.parametrize("arguments", [{"max_batch": 2.5}, {"requests": 40.0}, {"max_batch": True}, {"max_batch": 65}])
def test_whole_numbers_of_the_small_environment(arguments: dict[str, Any]) -> None:
    """A fraction, a float and a bool are refused as in the others."""
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value!r} is not allowed: give a whole number from 1 to"):
        LLMSchedSmallEnv(**arguments)
