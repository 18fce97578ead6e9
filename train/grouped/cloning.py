"""Behaviour cloning: the actor learns what a teacher does, before PPO begins."""

from __future__ import annotations

import numpy as np
import torch

from llmsched.policies import Bound
from llmsched.train.grouped.groups import Group
from llmsched.train.grouped.recording import make_watcher, read_log
from llmsched.train.grouped.sparse import Features, features_of, log_probabilities
from llmsched.train.network import Scorer
from llmsched.train.systems import TRAINING_SEED
from llmsched_env.core.layout import DECIDE

LOADS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
"""Loads of the runs that the teacher plays."""

LEARNING_RATE, LEAST_RATE = 1e-2, 1e-3

SMOOTHING = 0.02
"""Share of the probability that every allowed action shares: the clone goes on exploring."""


def watch(teacher: Bound, groups: list[Group], scorer: Scorer, seed: int) -> list[Features]:
    """What the teacher does in every system at every load, under the queues that go with the network."""
    watcher, found = make_watcher(teacher.decide), []
    for number, group in enumerate(groups):
        params = teacher.ready(group.system.config).params
        for load in LOADS:
            drawn = group.system.arrivals(load * group.system.capacity, group.requests).draw(
                TRAINING_SEED + seed + number
            )
            group.simulator.load(0, drawn)
            group.memory[0] = 0.0
            rng = np.random.default_rng(seed)
            assert group.simulator.run(watcher, params, group.memory, rng, details=True) != DECIDE
            _, actions, images = read_log(group.memory)
            found.append(features_of(scorer, torch.from_numpy(images), torch.from_numpy(actions)))
    return found


def clone(scorer: Scorer, parts: list[Features], epochs: int, rng: np.random.Generator) -> float:
    """Maximise the likelihood of what the teacher did; returns the share of decisions that agree at the end."""
    steps = torch.optim.Adam(scorer.parameters(), lr=LEARNING_RATE)
    for epoch in range(epochs):
        for group in steps.param_groups:
            group["lr"] = LEAST_RATE + (LEARNING_RATE - LEAST_RATE) * (1.0 - epoch / epochs)
        for place in rng.permutation(len(parts)):
            x = parts[place]
            every = log_probabilities(scorer, x)
            count = torch.zeros(x.count).index_add(0, x.decision, torch.ones(len(x.decision)))
            spread = (every / count[x.decision]).sum() / x.count
            loss = -(1.0 - SMOOTHING) * every[x.taken].mean() - SMOOTHING * spread
            steps.zero_grad()
            loss.backward()
            steps.step()
    with torch.no_grad():
        agreed = total = 0
        for x in parts:
            every = log_probabilities(scorer, x)
            most = torch.full((x.count,), -torch.inf).scatter_reduce(0, x.decision, every, "amax")
            agreed += int((every[x.taken] >= most).sum())
            total += x.count
    return agreed / total
