"""Steps of like work put together: what a fit is made from, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmsched.eval.calibration.cells import Work
from llmsched.eval.reality.steps.reading import LoggedStep

MOST_GROUPS = 48
"""Most groups: a fit is made without each of them."""

FEWEST = (5, 2, 1)
"""Fewest steps of a group: the first with which there are ENOUGH groups, of a short log a smaller one."""

ENOUGH = 6
"""Groups with decoding, and with prompts, that there are to be."""

PAUSE = 5.0
"""A step that takes this many times the median of its group is a pause of the server, and left out."""

WIDTHS = (0.5, 1.0, 2.0)
"""Widths of a group tried, in octaves of every quantity, until there are few enough groups."""


@dataclass(frozen=True)
class Group:
    """Steps of like work: the mean of the work, their milliseconds."""

    work: Work
    samples: tuple[float, ...]

    @property
    def ms(self) -> float:
        """The mean: a server's time is a sum of steps."""
        return float(np.mean(self.samples))


@dataclass(frozen=True)
class Grouped:
    """The groups; ``steps`` that they hold, ``pauses`` and ``rare`` steps left out; shares of the time of all."""

    groups: tuple[Group, ...]
    steps: int
    pauses: int
    pause_share: float
    rare: int
    rare_share: float


def group_steps(steps: Sequence[LoggedStep]) -> Grouped:
    """Steps by work, in groups as narrow as their number allows."""
    for fewest in FEWEST:
        found = _narrow_groups(steps, fewest)
        kinds = [group.work for group in found.groups]
        if min(sum(w.members > 0 for w in kinds), sum(w.tokens > 0 for w in kinds)) >= ENOUGH:
            break
    return found


def _narrow_groups(steps: Sequence[LoggedStep], fewest: int) -> Grouped:
    for width in WIDTHS:
        found = _grouped(steps, width, fewest)
        if len(found.groups) <= MOST_GROUPS:
            break
    if len(found.groups) > MOST_GROUPS:  # the ones with the most time
        kept = sorted(found.groups, key=lambda group: -sum(group.samples))[:MOST_GROUPS]
        return Grouped(tuple(kept), found.steps, found.pauses, found.pause_share, found.rare, found.rare_share)
    return found


def _grouped(steps: Sequence[LoggedStep], width: float, fewest: int) -> Grouped:
    lists: dict[tuple[int, ...], list[LoggedStep]] = {}
    for step in steps:
        lists.setdefault(place_of(step.work, width), []).append(step)
    groups, pauses, rare = [], [], []
    for own in lists.values():
        limit = PAUSE * float(np.median([step.ms for step in own]))
        slow = [step for step in own if step.ms > limit]
        kept = [step for step in own if step.ms <= limit and step.ms > 0.0]
        pauses += slow
        if len(kept) < fewest:
            rare += kept
            continue
        work = Work(*np.mean([step.work for step in kept], axis=0).tolist())
        groups.append(Group(work, tuple(step.ms for step in kept)))
    total = sum(step.ms for step in steps) or 1.0
    return Grouped(
        tuple(groups),
        sum(len(group.samples) for group in groups),
        len(pauses),
        sum(step.ms for step in pauses) / total,
        len(rare),
        sum(step.ms for step in rare) / total,
    )


def place_of(work: Work, width: float) -> tuple[int, ...]:
    """The group of a step: octaves of its members, of their mean context, of the tokens of its chunks."""
    per_member = work.context / work.members if work.members else 0.0
    wide = 2 * width if work.phase == "mixed" else width
    return tuple(
        round(math.log2(value) / each) if value >= 1.0 else -1
        for value, each in ((work.members, wide), (per_member, 2 * wide), (work.tokens, wide))
    )
