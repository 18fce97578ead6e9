"""The settings of train/ppo_grouped.py; every field is a flag."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from llmsched.train.arguments import flag, setting
from llmsched.train.grouped.learner import UpdateSettings


@dataclass(frozen=True)
class GroupedSettings:
    """The settings of a run."""

    out: str = setting("runs/grouped", "folder of the run")
    start: str = setting("rule", "weights to start from: rule (with random hidden units), or a checkpoint")
    hidden: int = setting(24, "hidden units of a network that starts from the rule")
    teacher: str = setting("network", "policy that is cloned before PPO begins, or none")
    clone: int = setting(100, "passes over what the teacher did")
    sharpen: float = setting(2.0, "the scores are multiplied by it after cloning: less is left to chance")
    temperature: float = setting(0.2, "the scores at the start are divided by it")
    queues: str = setting("network", "policy whose queues are used: network, or for example ppo:refuse=yes")
    seed: int = setting(0, "seed of weights, actions and arrivals")
    iterations: int = setting(60, "updates")
    groups: int = setting(16, "groups in an iteration, each of another system")
    runs: int = setting(8, "runs in a group")
    requests: int = setting(1_600, "requests in a run")
    systems: int = setting(0, "train on the first N systems only; 0: on all")
    horizon: float = setting(5.0, "targets (T) after which a miss counts 1/e")
    credit: float = setting(0.2, "horizon / time constant of generalised advantage estimation")
    learning_rate: float = setting(5e-4, "learning rate of the actor at the start; it falls to a tenth, linearly")
    critic_rate: float = setting(1e-3, "learning rate of the critic")
    critic_iterations: int = setting(8, "iterations at the start in which only the critic learns")
    clip: float = setting(0.2, "clip range of PPO")
    epochs: int = setting(3, "passes over the decisions of an iteration")
    batch: int = setting(2_048, "decisions in a batch, about")
    entropy: float = setting(0.0, "weight of the entropy bonus")
    evaluate_every: int = setting(10, "iterations between two evaluations on validation arrivals")
    evaluation_requests: int = setting(2_000, "requests in every validation run")

    @property
    def update(self) -> UpdateSettings:
        """How an update is made."""
        names = [field.name for field in dataclasses.fields(UpdateSettings)]
        return UpdateSettings(**{name: getattr(self, name) for name in names})


LEAST = {"seed": 0, "systems": 0, "critic_iterations": 0, "runs": 2}
"""Least value of a whole number where that is not 1."""


def check_settings(settings: GroupedSettings) -> GroupedSettings:
    """The settings themselves; ``ValueError`` in one line where a number is outside its bounds."""
    for field in dataclasses.fields(settings):
        name = field.name
        value: Any = getattr(settings, name)
        kind = {"str": str, "int": int, "float": float}[str(field.type)]
        fits = not isinstance(value, bool) and isinstance(value, (int, float) if kind is float else kind)
        if not fits:
            raise ValueError(f"{flag(name)} {value!r} is not allowed: give a {kind.__name__}.")
        if field.type == "int" and not LEAST.get(name, 1) <= value <= 10**7:
            raise ValueError(f"{flag(name)} {value} is not allowed: give a whole number from {LEAST.get(name, 1)}.")
        if field.type == "float" and not (0.0 <= value < math.inf and (value > 0.0 or name == "entropy")):
            raise ValueError(f"{flag(name)} {value} is not allowed: give a number above 0.")
    return settings
