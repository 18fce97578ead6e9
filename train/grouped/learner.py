"""One update of PPO from the runs of several groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from llmsched.train.grouped.costs import Floats
from llmsched.train.grouped.groups import Played
from llmsched.train.grouped.sparse import Critic, Features, features_of, log_probabilities
from llmsched.train.network import Scorer

MOST_GRADIENT = 0.5
"""Gradients of the actor are cut to this norm."""


@dataclass(frozen=True)
class UpdateSettings:
    """How an update is made; the defaults are those of GroupedSettings."""

    learning_rate: float
    critic_rate: float
    clip: float
    epochs: int
    batch: int
    entropy: float
    credit: float  # horizons / time constant of lambda


@njit
def _advantages(costs, gaps, values, credit, out):
    later = 0.0
    for i in range(len(out) - 1, -1, -1):
        after = values[i + 1] if i + 1 < len(values) else 0.0
        kept = np.exp(-gaps[i])
        delta = costs[i] + kept * after - values[i]
        later = delta + (kept * np.exp(-credit * gaps[i]) * later if i + 1 < len(out) else 0.0)
        out[i] = later


def advantages(run: Played, values: Floats, credit: float) -> Floats:
    """(N,): how much more than ``values`` (N,) each decision of a run cost; lambda is exp(-``credit`` x gap)."""
    out = np.empty(len(values))
    _advantages(run.costs, run.gaps, values, credit, out)
    return out


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Decisions of some runs."""

    features: Features
    images: Tensor
    others: Tensor
    to_go: Tensor
    scored: Tensor
    advantage: Tensor  # minus the cost above the baseline
    before: Tensor  # log probability at the time of the runs
    group: Tensor


def gather(scorer: Scorer, critic: Critic, runs: Sequence[Played], settings: UpdateSettings) -> Minibatch:
    """The decisions of ``runs``, with advantages by the present critic."""

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(run, name) for run in runs]))

    images, others = joined("images"), joined("others").float()
    features = features_of(scorer, images, joined("actions"))
    with torch.no_grad():
        before = log_probabilities(scorer, features)[features.taken]
        values = critic(features.context, images, others).numpy().astype(np.float64)
    cuts = np.cumsum([len(run.actions) for run in runs])[:-1]
    parts = [advantages(run, v, settings.credit) for run, v in zip(runs, np.split(values, cuts), strict=True)]
    advantage = -torch.from_numpy(np.concatenate(parts)).float()
    return Minibatch(
        features, images, others, joined("to_go").float(), joined("scored"), advantage, before, joined("group")
    )


def split_runs(runs: Sequence[Played], batch: int, rng: np.random.Generator) -> list[list[Played]]:
    """``runs`` in parts of about ``batch`` decisions, in random order."""
    parts: list[list[Played]] = [[]]
    for place in rng.permutation(len(runs)):
        if sum(len(run.actions) for run in parts[-1]) >= batch:
            parts.append([])
        parts[-1].append(runs[place])
    return parts


def spreads(parts: Sequence[Minibatch]) -> Tensor:
    """Root mean square of the advantages of every group, by its number: no group outweighs the others."""
    group, advantage = torch.cat([part.group for part in parts]), torch.cat([part.advantage for part in parts])
    count = torch.zeros(int(group.max()) + 1).index_add(0, group, torch.ones(len(group)))
    squares = torch.zeros(len(count)).index_add(0, group, advantage**2)
    return torch.sqrt(squares / count.clamp(min=1.0)) + 1e-8


class Learner:
    """Actor, critic and their optimisers."""

    def __init__(self, scorer: Scorer, settings: UpdateSettings) -> None:
        self.scorer, self.critic, self.settings = scorer, Critic(), settings
        self.actor_steps = torch.optim.Adam(scorer.parameters(), lr=settings.learning_rate)
        self.critic_steps = torch.optim.Adam(self.critic.parameters(), lr=settings.critic_rate)

    @property
    def _parts(self) -> dict[str, Any]:
        return {"s": self.scorer, "c": self.critic, "a": self.actor_steps, "b": self.critic_steps}

    def state(self) -> dict[str, Any]:
        """What `put_back` takes."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Go back to a ``state``."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])

    def update(
        self, runs: Sequence[Played], rng: np.random.Generator, *, actor: bool = True, rate: float = 1.0
    ) -> dict[str, float]:
        """Learn from ``runs``; ``rate`` is a factor of the actor's learning rate.  Returns figures about the update."""
        settings = self.settings
        parts = [gather(self.scorer, self.critic, part, settings) for part in split_runs(runs, settings.batch, rng)]
        spread = spreads(parts)
        rest = torch.cat([part.to_go - part.others for part in parts])
        for group in self.actor_steps.param_groups:
            group["lr"] = settings.learning_rate * rate
        errors, steps = [], []
        for _ in range(settings.epochs):
            for place in rng.permutation(len(parts)):
                errors.append(self._critic_step(parts[place]))
                if actor:
                    steps.append(self._actor_step(parts[place], spread))
        clipped, kl, entropy = np.mean(steps or [(0.0, 0.0, 0.0)], axis=0).tolist()
        unexplained = float(np.mean(errors[: len(parts)])) / max(rest.var().item(), 1e-9)
        return {
            "clipped": clipped,
            "kl": kl,
            "entropy": entropy,
            "unexplained": unexplained,
            "spread": spread.max().item(),
        }

    def _critic_step(self, part: Minibatch) -> float:
        """A step of the critic; returns its mean squared error before."""
        value = self.critic(part.features.context, part.images, part.others)
        self.critic_steps.zero_grad()
        torch.nn.functional.smooth_l1_loss(value, part.to_go, beta=5.0).backward()
        self.critic_steps.step()
        return ((value.detach() - part.to_go) ** 2).mean().item()

    def _actor_step(self, part: Minibatch, spread: Tensor) -> tuple[float, float, float]:
        """A step of the actor; returns (share of clipped ratios, KL divergence, entropy)."""
        settings = self.settings
        every = log_probabilities(self.scorer, part.features)
        after = every[part.features.taken]
        ratio, gain = torch.exp(after - part.before), part.advantage / spread[part.group]
        bounded = torch.clamp(ratio, 1.0 - settings.clip, 1.0 + settings.clip)
        loss = -(torch.minimum(ratio * gain, bounded * gain) * part.scored).mean()
        entropy = -(torch.exp(every) * every).sum() / part.features.count
        self.actor_steps.zero_grad()
        (loss - settings.entropy * entropy).backward()
        torch.nn.utils.clip_grad_norm_(self.scorer.parameters(), MOST_GRADIENT)
        self.actor_steps.step()
        with torch.no_grad():
            moved = ((ratio - 1.0).abs() > settings.clip).float().mean().item()
            return moved, (part.before - after).mean().item(), entropy.item()
