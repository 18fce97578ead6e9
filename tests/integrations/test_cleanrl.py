"""A PPO loop as CleanRL writes it: one file, plain torch, Gymnasium's vector interface as it comes (NEXT_STEP)."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.distributions import Categorical  # noqa: E402

GAMMA, LAMBDA, CLIP, STEPS, LANES = 1.0, 0.95, 0.2, 64, 32


class Agent(nn.Module):
    """Two small networks."""

    def __init__(self, inputs: int, actions: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, actions))

    def policy(self, observations: Tensor) -> Categorical:
        """Distribution over actions."""
        return Categorical(logits=self.actor(observations))


def advantages_of(rewards: Tensor, values: Tensor, ends: Tensor, last: Tensor) -> Tensor:
    """Generalised advantages (STEPS, LANES); ``values`` has one row more."""
    found, running = torch.zeros_like(rewards), torch.zeros_like(last)
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(rewards) else last
        delta = rewards[t] + GAMMA * following * (1 - ends[t]) - values[t]
        running = delta + GAMMA * LAMBDA * (1 - ends[t]) * running
        found[t] = running
    return found


def train(updates: int) -> list[float]:
    """Mean return of the episodes that ended in every update."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(
        gym.make_vec("llmsched_env:LLMSchedSmall-v0", num_envs=LANES, requests=100)
    )
    space = envs.single_action_space
    assert isinstance(space, gym.spaces.Discrete)
    agent = Agent(2, int(space.n))
    optimiser = torch.optim.Adam(agent.parameters(), lr=1e-3)
    image, _ = envs.reset(seed=0)
    starting, scale, history = np.zeros(LANES, bool), 100.0, []
    for _ in range(updates):
        rows: dict[str, list[Tensor]] = {name: [] for name in ("image", "action", "chance", "reward", "end", "use")}
        returns: list[float] = []
        for _ in range(STEPS):
            observed = torch.from_numpy(image)
            with torch.no_grad():
                chances = agent.policy(observed)
            action = chances.sample()
            image, reward, terminated, truncated, info = envs.step(action.numpy())
            over = terminated | truncated
            kept = (observed, action, chances.log_prob(action), reward / scale, over, ~starting)  # resets teach nothing
            for name, value in zip(rows, kept, strict=True):
                rows[name].append(torch.as_tensor(value, dtype=None if name == "action" else torch.float32))
            starting = over
            if over.any():
                returns += info["episode"]["r"][over].tolist()
        data = {name: torch.stack(values) for name, values in rows.items()}
        with torch.no_grad():
            values, last = agent.critic(data["image"]).squeeze(-1), agent.critic(torch.from_numpy(image)).squeeze(-1)
        advantage = advantages_of(data["reward"], values, data["end"], last)
        target = advantage + values
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(4):
            chances = agent.policy(data["image"])
            ratio = (chances.log_prob(data["action"]) - data["chance"]).exp()
            gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            error = (agent.critic(data["image"]).squeeze(-1) - target) ** 2
            loss = (data["use"] * (0.5 * error - gain - 0.01 * chances.entropy())).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        history.append(float(np.mean(returns)) if returns else float("nan"))
    return history


def test_the_loop_learns() -> None:
    """The return rises by a third at least."""
    history = train(80)
    first, last = np.nanmean(history[:10]), np.nanmean(history[-10:])
    assert first < last < 0
    assert last > 0.67 * first
