"""The network's probabilities of the actions that were taken, from the allowed actions alone, and the critic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmsched.policies.network.batch_layout import CHOICE, CONTEXT, SHARED
from llmsched.train.grouped.recording import ENTRIES
from llmsched.train.network import Scorer


@dataclass(frozen=True, eq=False)
class Features:
    """Inputs of N decisions, which no weight changes: P open choices and R allowed actions, waiting apart."""

    context: Tensor  # (N, CONTEXT)
    choices: Tensor  # (P, CHOICE)
    of_choice: Tensor  # (P,): decision
    sized: Tensor  # (R, SIZES)
    of_size: Tensor  # (R,): place among the P choices
    decision: Tensor  # (R + W,): decision of every allowed action, those that wait last
    waits: Tensor  # (W,): decisions that may wait
    taken: Tensor  # (N,): place of the action that was taken among the R + W
    count: int


def features_of(scorer: Scorer, images: Tensor, actions: Tensor) -> Features:
    """The inputs of decisions with observations (N, ENTRIES) and actions (N,) on the ladder."""
    with torch.no_grad():
        context, choices, facts = scorer.describe(images)
        sized, allowed = scorer.describe_sizes(choices, facts)
        n, rungs = len(images), allowed.shape[-1]
        is_open = allowed.any(dim=-1)
        place = torch.full(is_open.shape, -1, dtype=torch.long)
        of_choice, which = is_open.nonzero(as_tuple=True)
        place[of_choice, which] = torch.arange(len(of_choice))
        decision, choice, rung = allowed.nonzero(as_tuple=True)
        waits = (images[:, SHARED - 1] >= 0.5).nonzero(as_tuple=True)[0]
        at = torch.full((n, 1 + allowed[0].numel()), -1, dtype=torch.long)
        at[decision, 1 + choice * rungs + rung] = torch.arange(len(decision))
        at[waits, 0] = len(decision) + torch.arange(len(waits))
        taken = at[torch.arange(n), actions]
        assert (taken >= 0).all(), "an action that the mask of torch does not allow was taken"
        return Features(
            context,
            choices[of_choice, which],
            of_choice,
            sized[decision, choice, rung],
            place[decision, choice],
            torch.cat([decision, waits]),
            waits,
            taken,
            n,
        )


def log_probabilities(scorer: Scorer, x: Features) -> Tensor:
    """(R + W,): log probability of every allowed action, as `Scorer.forward` scores it."""
    base = scorer.bias + x.context @ scorer.context.T
    own = base[x.of_choice] + x.choices @ scorer.choice.T
    line = x.choices @ scorer.straight[:CHOICE]
    hidden = torch.relu(own[x.of_size] + x.sized @ scorer.size.T)
    scores = hidden @ scorer.out + line[x.of_size] + x.sized @ scorer.straight[CHOICE:]
    context = x.context[x.waits]
    waiting = torch.relu(scorer.wait_bias + context @ scorer.wait_context.T)
    wait = waiting @ scorer.wait_out + context @ scorer.wait_straight + scorer.wait_offset
    every = torch.cat([scores, wait])
    most = torch.full((x.count,), -torch.inf, dtype=every.dtype).scatter_reduce(0, x.decision, every.detach(), "amax")
    total = torch.zeros_like(most).index_add(0, x.decision, torch.exp(every - most[x.decision]))
    return every - (most + torch.log(total))[x.decision]


class Critic(nn.Module):
    """The cost to come, from the observation and the cost to come of the group's other runs."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        inputs = CONTEXT + ENTRIES + 2
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, context: Tensor, images: Tensor, others: Tensor) -> Tensor:
        """(N,): the cost to come; at the start that of the other runs."""
        inputs = torch.cat([context, images, torch.log1p(others)[:, None], others[:, None] / 30.0], dim=-1)
        return others + 5.0 * self.net(inputs)[:, 0]
