"""TorchRL's GymEnv: specs that hold, rollouts, seeds."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torchrl")

import torch
from torchrl.envs import GymEnv, TransformedEnv
from torchrl.envs.transforms import RewardSum
from torchrl.envs.utils import check_env_specs


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("LLMSched-v0", {"requests": 60}),
        ("LLMSched-v0", {"requests": 60, "action": "ladder"}),
        ("LLMSchedSmall-v0", {"requests": 60}),
    ],
)
def test_specs_and_rollouts(env_id: str, options: dict[str, Any]) -> None:
    env = TransformedEnv(GymEnv(f"llmsched_env:{env_id}", **options), RewardSum())
    check_env_specs(env)
    rollouts = []
    for _ in range(2):
        env.set_seed(3)
        torch.manual_seed(0)
        rollouts.append(env.rollout(2000))
    assert bool(rollouts[0]["next", "terminated"][-1]) and not bool(rollouts[0]["next", "truncated"].any())
    assert torch.equal(rollouts[0]["next", "observation"], rollouts[1]["next", "observation"])
    assert float(rollouts[0]["next", "episode_reward"][-1]) < 0
