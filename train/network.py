"""The network of the engine `batch` in torch, the same as the compiled one of network.batch_scores, and a critic.

`Scorer` gives the same scores as batch_scores.score_actions for a batch of observations (a test holds them to 1e-6).
It has the same arrays under the same names, so that its weights can be saved as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from llmsched.policies.network.batch_features import ADDED_TIME, FIXED_SHARE, LARGEST_TIME, SMALLEST_AGE
from llmsched.policies.network.batch_layout import CHOICE, CONTEXT, OWN, SHARED, shapes
from llmsched.train.start_rule import rule_weights
from llmsched_env.core.view.observation import PER_BIN
from llmsched_env.envs.spaces import ladder

MASKED = -1e8
"""Score of an action that is not allowed: its probability is 0, and the score stays finite."""

NAMES = [name for name, *_ in PER_BIN]
QUEUE, BATCHES, WAIT, TIME, SLACK, TARGET, SERVED, OVERDUE = (
    NAMES.index(name)
    for name in ("queue", "queue_in_batches", "head_wait", "batch_time", "slack", "target", "served", "overdue")
)


def unsquash(x: Tensor) -> Tensor:
    """The x of an entry x / (|x| + 1), at most LARGEST_TIME in size (any shape)."""
    return (x / (1.0 - x.abs()).clamp(min=1e-6)).clamp(-LARGEST_TIME, LARGEST_TIME)


class Scorer(nn.Module):
    """Scores (N, 1 + choices * rungs) of the ladder's actions from observations (N, size).

    The choices are ``bins`` bins, `any`, and the overdue queue, which the network always has (network.settings).
    """

    rungs: Tensor

    def __init__(self, bins: int, max_batch: int, hidden: int) -> None:
        super().__init__()
        self.bins, self.choices, self.max_batch = bins, bins + 2, max_batch
        sizes = ladder(max_batch)[:-1].astype(np.float64)
        self.register_buffer("rungs", torch.tensor(sizes, dtype=torch.get_default_dtype()))
        for name, shape in shapes(hidden).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def load_arrays(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Take the weights of a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.as_tensor(arrays[name], dtype=parameter.dtype))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The weights as llmsched.policies.network.checkpoint.save takes them."""
        return {name: p.detach().cpu().numpy().astype(np.float64) for name, p in self.named_parameters()}

    def describe(self, image: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """(context (N, CONTEXT), choices (N, K + 2, CHOICE), facts) of observations (N, size).

        The facts are (N, K + 2) each: waiting requests, requests in a full batch, its service time (T), age of the
        first request (T), whether the choice may be served.
        """
        n, queues = image.shape[0], [*range(self.bins), self.bins + 1]
        own = image[:, SHARED:].reshape(n, self.choices, OWN)
        count = torch.round(torch.exp2(20.0 * own[..., QUEUE]) - 1.0)
        full = count / unsquash(own[..., BATCHES]).clamp(min=1.0)
        age, time, slack = (unsquash(own[..., place]) for place in (WAIT, TIME, SLACK))
        overdue = own[..., OVERDUE] >= 1.0
        hopeful = (~overdue).to(time.dtype)
        on_time = hopeful * ((1.0 - time) / age.clamp(min=SMALLEST_AGE)).clamp(0.0, 1.0)
        age = torch.where(overdue, torch.full_like(age, LARGEST_TIME), age)
        skipped = overdue & ~overdue[:, self.bins, None]  # other requests wait
        served = (own[..., SERVED] >= 0.5) & ~skipped
        waiting = torch.where(skipped, 0.0, count)[:, queues].sum(dim=1, keepdim=True).clamp(min=1.0)
        is_any = torch.zeros_like(count)
        is_any[:, self.bins] = 1.0
        derived = [
            on_time,
            torch.log2(1.0 + full * on_time / (time + ADDED_TIME)) / 10.0,
            torch.log2(1.0 + full) / 7.0,
            torch.log2(1.0 + 100.0 * time / full.clamp(min=1.0)) / 10.0,
            slack.clamp(-1.0, 1.0),
            hopeful * torch.sigmoid(40.0 * (0.1 - slack)),
            hopeful * torch.sigmoid(15.0 * (0.3 - slack)),
            (count / waiting).clamp(max=1.0),
            is_any,
        ]
        choices = torch.cat([own, torch.stack(derived, dim=-1)], dim=-1)
        bins = choices[:, queues]
        filled = served[:, queues, None]
        some = filled.any(dim=1)
        largest = torch.where(filled, bins, torch.full_like(bins, -torch.inf)).amax(dim=1)
        largest = torch.where(some, largest, torch.zeros_like(largest))
        mean = torch.where(filled, bins, torch.zeros_like(bins)).sum(dim=1) / filled.sum(dim=1).clamp(min=1)
        return torch.cat([image[:, :SHARED], largest, mean], dim=-1), choices, (count, full, time, age, served)

    def describe_sizes(self, choices: Tensor, facts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(inputs SIZED of every size (N, K + 2, rungs, SIZES), whether the size is allowed (N, K + 2, rungs))."""
        count, full, time, age, served = (fact[..., None] for fact in facts)
        target = torch.round(choices[..., TARGET] * self.max_batch).clamp(min=1.0)[..., None]
        fixed = self.rungs.expand(*count.shape[:-1], -1)
        before = torch.cat([torch.zeros_like(fixed[..., :1]), fixed[..., :-1]], dim=-1)
        useful = (fixed < count) | ((count > target) & (before < count))
        allowed = torch.cat([useful, torch.ones_like(useful[..., :1])], dim=-1)
        size = torch.minimum(torch.cat([fixed, target], dim=-1), count)
        is_target = torch.zeros_like(size)
        is_target[..., -1] = 1.0
        part = size / count.clamp(min=1.0)
        spent = time * (FIXED_SHARE + (1.0 - FIXED_SHARE) * size / full.clamp(min=1.0))
        youngest = age * (1.0 - part)
        on_time = ((1.0 - spent - youngest) / (age * part).clamp(min=SMALLEST_AGE)).clamp(0.0, 1.0)
        on_time = torch.where(age < LARGEST_TIME, on_time, torch.zeros_like(on_time))
        found = [
            part,
            torch.log2(size.clamp(min=1.0)) / 7.0,
            (size >= count).to(size.dtype),
            is_target,
            on_time,
            torch.log2(1.0 + size * on_time / (spent + ADDED_TIME)) / 10.0,
            torch.log2(1.0 + size * on_time) / 7.0,
            spent / (1.0 + spent),
        ]
        return torch.stack(found, dim=-1), allowed & served

    def forward(self, image: Tensor) -> Tensor:
        """The scores (N, 1 + choices * rungs) of observations (N, size)."""
        image = image.to(self.bias.dtype)
        context, choices, facts = self.describe(image)
        sized, allowed = self.describe_sizes(choices, facts)
        base = self.bias + context @ self.context.T
        hidden = torch.relu(
            base[:, None, None] + (choices @ self.choice.T)[:, :, None] + sized @ self.size.T,
        )
        straight = (choices @ self.straight[:CHOICE])[..., None] + sized @ self.straight[CHOICE:]
        scores = torch.where(allowed, hidden @ self.out + straight, torch.full_like(straight, MASKED))
        waiting = torch.relu(self.wait_bias + context @ self.wait_context.T)
        wait = waiting @ self.wait_out + context @ self.wait_straight + self.wait_offset
        wait = torch.where(image[:, SHARED - 1] >= 0.5, wait, torch.full_like(wait, MASKED))
        return torch.cat([wait[:, None], scores.flatten(1)], dim=-1)


class Critic(nn.Module):
    """The extractor of SB3's two heads: the actor gets the observation itself, the critic a small net of it."""

    def __init__(self, scorer: Scorer, width: int) -> None:
        super().__init__()
        inputs = CONTEXT + SHARED + scorer.choices * OWN
        self._describe = scorer.describe
        self.net = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.latent_dim_pi, self.latent_dim_vf = SHARED + scorer.choices * OWN, width

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(features for the actor, features for the critic)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """The observation."""
        return features

    def forward_critic(self, features: Tensor) -> Tensor:
        """The context and the observation, through the net."""
        context, _, _ = self._describe(features)
        return self.net(torch.cat([context, features], dim=-1))


class _ScorerActor:
    """Both policies of SB3 with a Scorer as the actor, which masks actions that are not allowed by itself."""

    def __init__(self, *args: Any, max_batch: int, hidden: int = 6, width: int = 64, **kwargs: Any) -> None:
        self._shape, self._width = (max_batch, hidden), width
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        space = self.observation_space  # type: ignore[attr-defined]
        self.scorer = Scorer((space.shape[0] - SHARED) // OWN - 2, *self._shape)
        self.mlp_extractor = Critic(self.scorer, self._width)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        self.action_net = self.scorer
        initialise(self.scorer)
        own: Any = self
        self.optimizer = own.optimizer_class(own.parameters(), lr=lr_schedule(1), **own.optimizer_kwargs)


class SchedulerPolicy(_ScorerActor, ActorCriticPolicy):
    """The policy for PPO."""


class MaskableSchedulerPolicy(_ScorerActor, MaskableActorCriticPolicy):
    """The policy for MaskablePPO."""


def initialise(scorer: Scorer) -> None:
    """The start rule, with small random hidden layers whose outputs have no effect yet."""
    scorer.load_arrays(rule_weights(len(scorer.bias)))
    with torch.no_grad():
        for name in ("bias", "context", "choice", "size", "wait_bias", "wait_context"):
            getattr(scorer, name).normal_(0.0, 0.1)
