"""RLlib's new API stack: one iteration of PPO from the id alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from ray.rllib.algorithms.ppo import PPOConfig


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("LLMSched-v0", {"requests": 60}),
        ("LLMSched-v0", {"requests": 60, "action": "ladder"}),
        ("LLMSchedSmall-v0", {"requests": 60}),
    ],
)
def test_ppo_runs_for_an_iteration(env_id: str, options: dict[str, Any]) -> None:
    config = (
        PPOConfig()
        .environment(f"llmsched_env:{env_id}", env_config=options)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=400, minibatch_size=100, num_epochs=1, gamma=1.0)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    try:
        found = algorithm.train()["env_runners"]
    finally:
        algorithm.stop()
    assert found["num_env_steps_sampled"] >= 400
    assert np.isfinite(found["episode_return_mean"]) and found["episode_return_mean"] < 0
