"""The network of the engine `batch`: it scores every (choice, batch size) and waiting; the highest score is done.

One set of weights serves any number of bins and servers.  Every choice is scored by the same function of its own
inputs and of what all choices share (batch_features).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from llmsched.policies.network.batch_features import is_open, write_choices, write_context, write_size
from llmsched.policies.network.batch_layout import CHOICE, CONTEXT, OVERDUE, OWN, SHARED, SIZES
from llmsched_env.compiler.columns import add_columns
from llmsched_env.core.view.observation import write_observation

SCALE_S = 30.0
"""T where the SLO has no deadline, as in the environments (lanes.DEFAULT_SCALE_S)."""


@njit
def read_vector(weights, at, out):
    """Fill ``out`` (H,) from ``weights[at]`` on; returns the place behind what was read."""
    for h in range(len(out)):
        out[h] = weights[at + h]
    return at + len(out)


@njit
def score_waiting(weights, at, units, context):
    """The score of waiting, from its hidden layer ``units`` (H,) before the ReLU and from the context.

    ``weights[at]`` is the first weight of ``wait_out``.
    """
    hidden = len(units)
    total = weights[at + hidden + len(context)]
    for h in range(hidden):
        total += weights[at + h] * max(units[h], 0.0)
    for j in range(len(context)):
        total += weights[at + hidden + j] * context[j]
    return total


@njit
def score_actions(image, bins, max_batch, can_wait, weights, scores):
    """Write the score of every action of the ladder (spaces.ladder) into ``scores``; -inf: not allowed.

    ``image`` is an observation for ``bins`` bins, with or without an overdue queue, ``weights`` (P,) are packed
    (layouts.Layout.pack).  A size above the
    number of waiting requests is not allowed, except the smallest size that takes all of them.
    """
    hidden, total_choices = int(weights[0]), (len(image) - SHARED) // OWN
    context, choices, sized = np.empty(CONTEXT), np.empty((total_choices, CHOICE)), np.empty(SIZES)
    facts = np.empty((total_choices, 4))
    skips_overdue = image[SHARED + bins * OWN + OVERDUE] < 1.0  # `any` is not the overdue queue: other requests wait
    write_choices(image, bins, skips_overdue, choices, facts)
    write_context(image, bins, choices, skips_overdue, context)
    shared, unit, units, own = np.empty(hidden), np.empty(hidden), np.empty(hidden), np.empty(hidden)
    at = read_vector(weights, 1, shared)
    at = add_columns(weights, at, context, shared, shared)
    of_choice = at
    of_size = of_choice + hidden * CHOICE
    out = of_size + hidden * SIZES
    straight = out + hidden
    at = straight + CHOICE + SIZES
    at = read_vector(weights, at, units)
    at = add_columns(weights, at, context, units, units)
    scores[:] = -np.inf
    if can_wait:
        scores[0] = score_waiting(weights, at, units, context)
    rungs = (len(scores) - 1) // total_choices
    for k in range(total_choices):
        if not is_open(choices[k], skips_overdue):
            continue
        add_columns(weights, of_choice, choices[k], shared, own)
        line = 0.0
        for j in range(CHOICE):
            line += weights[straight + j] * choices[k, j]
        count, target, before = facts[k, 0], max(1.0, round(choices[k, 7] * max_batch)), 0.0
        for rung in range(rungs):
            last = rung == rungs - 1
            size = target if last else min(2.0**rung, float(max_batch))
            if not last and size >= count and (count <= target or before >= count):
                continue  # the target takes all, or a smaller size does
            before = size
            taken = min(size, count)
            write_size(taken, 1.0 if last else 0.0, count, facts[k, 1], facts[k, 2], facts[k, 3], sized)
            add_columns(weights, of_size, sized, own, unit)
            total = line
            for j in range(SIZES):
                total += weights[straight + CHOICE + j] * sized[j]
            for h in range(hidden):
                total += weights[out + h] * max(unit[h], 0.0)
            scores[1 + k * rungs + rung] = total


@njit
def choose_batch(record, weights):
    """The answer (choice, batch size) of the network, size 0 for waiting."""
    bins, cap = record.num_bins, record.max_batch
    scale_s = min(record.slo_ttft, record.slo_e2e)
    if scale_s == math.inf:
        scale_s = SCALE_S
    choices = bins + 2 if record.overdue >= 0 else bins + 1
    image = np.empty(SHARED + choices * OWN, np.float32)
    write_observation(record, image, scale_s, bins, np.empty(record.num_servers))
    rungs = 1
    while 1 << (rungs - 1) < cap:
        rungs += 1
    rungs += 1
    scores = np.empty(1 + choices * rungs)
    score_actions(image, bins, cap, record.can_wait, weights, scores)
    best = 0
    for i in range(1, len(scores)):
        if scores[i] > scores[best]:
            best = i
    if best == 0:
        return bins, 0
    choice, rung = (best - 1) // rungs, (best - 1) % rungs
    if rung == rungs - 1:
        return choice, record.target[choice]
    return choice, min(1 << rung, cap)
