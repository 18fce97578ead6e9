"""The policy `agent` decides as its network does on the environment, bit for bit; what does not fit is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.policies import names, parse
from llmsched.policies.agent import checkpoint, fit
from llmsched_env.config import Continuous, SimConfig
from llmsched_env.envs import spaces
from llmsched_env.envs.continuous import LLMSchedContinuousEnv
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.profiles import load_profile
from tests.policies.agent.tools import (
    ABOUT,
    SCENARIOS,
    check_equal,
    compiled,
    drive,
    plain_action,
    random_agent,
    requests_of,
)
from tests.policies.tools import Asked

WAYS = (("multidiscrete", True), ("multidiscrete", False), ("ladder", True), ("ladder", False))


@pytest.mark.parametrize(("action", "masked"), WAYS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_agent_decides_as_on_the_environment(scenario: str, action: str, masked: bool, tmp_path: Path) -> None:
    """Observation, mask and meaning of the actions are those of the environment: equal batches, equal stamps."""
    (config, _, bins), requests = SCENARIOS[scenario], requests_of(scenario)
    relu = "relu" if action == "ladder" and masked else "tanh"
    agent = random_agent(tmp_path / "mine", config, action, bins=bins, masked=masked, activation=relu, seed=3)
    seen = set()

    def act(observation: Any, mask: Any) -> Any:
        found = plain_action(agent, observation, mask)
        seen.add(tuple(found))
        return found[0] if action == "ladder" else found

    env = drive(act, config, requests, action, bins)
    check_equal(env, compiled(f"agent:path={tmp_path / 'mine'}", config, requests, env))
    assert len(seen) > 1


def test_a_layer_without_hidden_units(tmp_path: Path) -> None:
    """And a deep one."""
    config, _, bins = SCENARIOS["batch"]
    requests = requests_of("batch")
    for hidden in ((), (4, 3, 4, 3, 4)):
        agent = random_agent(tmp_path / "mine", config, "multidiscrete", bins=bins, hidden=hidden)

        def act(observation: Any, mask: Any, agent: Any = agent) -> Any:
            return plain_action(agent, observation, mask)

        env = drive(act, config, requests, "multidiscrete", bins)
        check_equal(env, compiled(f"agent:path={tmp_path / 'mine'}.npz", config, requests, env))


def test_masked_choices_are_never_taken(tmp_path: Path) -> None:
    """The output of an empty bin may be the highest: a masked agent takes another, waiting included."""
    config, _, _ = SCENARIOS["batch"]
    agent = random_agent(tmp_path / "mine", config, hidden=())
    weights, rungs = np.zeros_like(agent.arrays["weight0"]), len(spaces.ladder(config.max_batch))
    bias = np.zeros(len(weights))
    bias[0], bias[1 + 2 * rungs], bias[1 + 3 * rungs] = 3.0, 4.0, 2.0  # wait, a request of bin 2, of bin 3
    checkpoint.save(tmp_path / "mine", agent.face, [(weights, bias)], **ABOUT)
    asked = Asked("longest-queue")
    asked.bound = parse(f"agent:path={tmp_path / 'mine'}")
    asked.ready = asked.bound.ready(config)
    usual = {"max_batch": config.max_batch, "num_servers": 1, "slo_ttft": 1.0, "slo_e2e": 1.0}
    assert asked((1, 1, 1, 1), **usual) == (2, 1)
    assert asked((1, 1, 0, 1), **usual) == (4, 0)
    assert asked((1, 1, 0, 1), can_wait=0, **usual) == (3, 1)


# What does not fit -------------------------------------------------------------------------------------------------


def changed(config: SimConfig, **fields: Any) -> SimConfig:
    """``config`` with other fields, those of the queues too."""
    queueing = {name: fields.pop(name) for name in ("edges", "overdue_factor") if name in fields}
    return dataclasses.replace(config, queueing=dataclasses.replace(config.queueing, **queueing), **fields)


BATCH, CACHED = SCENARIOS["batch"][0], SCENARIOS["continuous, prefix cache"][0]


@pytest.mark.parametrize(
    ("trained", "run", "said"),
    [
        (BATCH, changed(CACHED, max_batch=12), "trained for the engine 'batch', but this run is of 'continuous'"),
        (BATCH, changed(BATCH, edges=(10, 20, 30, 40)), "at most 4 bins, but this run has 5: give --bins 4"),
        (BATCH, changed(BATCH, max_batch=13), "max_batch=12, but this run has 13: give --max-batch 12"),
        (BATCH, changed(BATCH, overdue_factor=1.0), "trained without an overdue queue, but this run has one"),
        (changed(BATCH, overdue_factor=1.0), BATCH, "with an overdue queue, but this run has none: give :overdue=X"),
        (BATCH, SCENARIOS["batch, refusals"][0], "trained without refusals: give --refusals off"),
        (CACHED, changed(CACHED, continuous=Continuous()), "trained with a prefix cache: give --prefix-cache on"),
        (changed(CACHED, continuous=Continuous()), CACHED, "trained without a prefix cache: give --prefix-cache off"),
    ],
)
def test_a_scenario_that_does_not_fit_is_refused(trained: SimConfig, run: SimConfig, said: str, tmp_path: Path) -> None:
    random_agent(tmp_path / "mine", trained)
    with pytest.raises(ValueError, match="mine: trained ") as caught:
        parse(f"agent:path={tmp_path / 'mine'}").ready(run)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_parameter_makes_the_overdue_queue(tmp_path: Path) -> None:
    """`overdue=` counts as the scenario's own."""
    random_agent(tmp_path / "mine", changed(BATCH, overdue_factor=1.0))
    ready = parse(f"agent:path={tmp_path / 'mine'}:overdue=1").ready(BATCH)
    assert ready.config.queueing.overdue_factor == 1.0
    random_agent(tmp_path / "other", BATCH)
    with pytest.raises(ValueError, match="without an overdue queue"):
        parse(f"agent:path={tmp_path / 'other'}:overdue=1").ready(BATCH)


def test_it_needs_a_file_and_is_in_no_list() -> None:
    """Whoever walks all policies meets only those that can run."""
    assert "agent" not in names()
    with pytest.raises(ValueError, match=r"give agent:path=NAME, which train/export\.py wrote"):
        parse("agent")


# Faces -------------------------------------------------------------------------------------------------------------

PROFILE = load_profile("h100-80gb_llama2-70b_tp4").name


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("LLMSched-v0", {"max_batch": 20, "bins": 3, "max_bins": 5, "action": "ladder"}),
        ("LLMSched-v0", {"max_batch": 20, "overdue_factor": 1.5, "bins": (0, 50), "max_episode_steps": 9}),
        ("llmsched_env:LLMSchedContinuous-v0", {"max_batch": 33, "prefix_cache": "on", "profile": PROFILE}),
        ("LLMSchedContinuous-v0", {"max_batch": 33, "prefix_cache": "off", "profile": PROFILE}),
    ],
)
def test_the_face_of_an_environment_has_its_spaces(env_id: str, options: dict[str, Any]) -> None:
    """Without making it."""
    made = (LLMSchedContinuousEnv if "Continuous" in env_id else LLMSchedEnv)(requests=20, **options)
    face = fit.face_of_environment(env_id, requests=20, **options)
    assert (face.inputs,) == made.observation_space.shape
    assert face.parts == spaces.action_sizes(made.options.action, made._lanes.limits)
    assert face.limits == made._lanes.limits and face.engine == made.config.engine
    assert sum(face.parts) == len(made.action_masks())


def test_other_environments_are_refused() -> None:
    for name in ("LLMSchedSmall-v0", "CartPole-v1"):
        with pytest.raises(ValueError, match="no environment whose agents can be entered"):
            fit.face_of_environment(name)
