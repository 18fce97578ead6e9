"""The environment's face of a decision record: the observation, the mask of valid actions, and what an action means.

The same as of an environment that was made for ``max_bins`` bins (llmsched_env.core.step): its ladder is that of
envs/spaces.py.  Everything here is compiled into a policy.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from llmsched_env.core.view.observation import GLOBAL, PER_BIN, write_observation
from llmsched_env.engines.continuous.record import write_running

SCALE_S = 30.0
"""T where the SLO has no deadline, as in the environments (lanes.DEFAULT_SCALE_S)."""

SHARED, OWN = len(GLOBAL), len(PER_BIN)


@njit
def write_image(record, max_bins, image):
    """Write the observation into ``image`` (size,) float32."""
    scale_s = min(record.slo_ttft, record.slo_e2e)
    if scale_s == math.inf:
        scale_s = SCALE_S
    write_observation(record, image, scale_s, max_bins, np.empty(record.num_servers))
    if record.continuous:
        choices = max_bins + 2 if record.overdue >= 0 else max_bins + 1
        write_running(record, image, SHARED + choices * OWN)


@njit
def write_valid(record, max_bins, valid):
    """Write which choices are valid into ``valid`` (choices + 1,) int8, then whether waiting is."""
    valid[:] = 0
    for k in range(record.num_bins):
        valid[k] = record.queue_length[k] > 0
    valid[max_bins] = 1
    if record.overdue >= 0:
        overdue = record.queue_length[record.overdue]
        valid[max_bins + 1] = 0 < overdue and overdue == record.waiting
    valid[len(valid) - 1] = record.can_wait


@njit
def rungs_of(max_batch):
    """Sizes of every choice of the ladder: 1, 2, 4, ... below ``max_batch``, ``max_batch``, the target."""
    rungs = 2
    while 1 << (rungs - 2) < max_batch:
        rungs += 1
    return rungs


@njit
def write_mask(valid, ladder, mask):
    """Write the valid actions into ``mask`` (actions,) bool, as `action_masks` of the environment has them."""
    choices = len(valid) - 1
    mask[:] = True
    if not ladder:
        for k in range(choices + 1):
            mask[k] = valid[k] != 0
        return
    mask[0] = valid[choices] != 0
    rungs = (len(mask) - 1) // choices
    for k in range(choices):
        for rung in range(rungs):
            mask[1 + k * rungs + rung] = valid[k] != 0


@njit
def answer_of(record, ladder, max_bins, first, second):
    """The (choice, batch size) that the action (first, second) means; of a ladder ``first`` alone counts.

    A size above ``max_batch``, or the rung behind the target, refuses the first request of the choice.
    """
    choice, size, is_target = first, second, False
    if ladder:
        if first == 0:
            return record.num_bins, 0
        sizes = rungs_of(record.max_batch)
        rungs = sizes + record.may_refuse
        choice, rung = (first - 1) // rungs, (first - 1) % rungs
        is_target = rung == sizes - 1
        size = min(1 << rung, record.max_batch) if rung < sizes else record.max_batch + 1
    if choice > max_bins:
        choice = record.num_bins + 1
    elif choice >= record.num_bins:
        choice = record.num_bins
    if is_target:
        size = record.target[choice]
    elif size > record.max_batch:
        size = -1
    return choice, size
