"""The inputs of the network of the engine `batch`, computed from an observation (batch_layout lists them).

Times are in T, the deadline of the SLO, unless a name ends in ``_s``.  An observation holds a time t as t / (t + T).
"""

from __future__ import annotations

import math

from numba import njit

from llmsched.policies.network.batch_layout import CHOICE, CONTEXT, OVERDUE, OWN, SERVED, SHARED

LARGEST_TIME = 99.0
"""Largest time, in T, that is read out of an observation."""

SMALLEST_AGE = 0.01
"""Smallest age, in T, that anything is divided by."""

FIXED_SHARE = 0.5
"""Assumed share of a full batch's service time that a batch of any size takes; the rest grows with the size."""

ADDED_TIME = 0.02
"""Time, in T, that is added to a service time before anything is divided by it."""


@njit
def unsquash(entry):
    """The x of an entry x / (|x| + 1), at most LARGEST_TIME in size."""
    return min(max(entry / max(1.0 - abs(entry), 1e-6), -LARGEST_TIME), LARGEST_TIME)


@njit
def logistic(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + math.exp(-x))


@njit
def decode_count(entry):
    """Number of requests that an entry `queue` stands for."""
    return round(2.0 ** (20.0 * entry) - 1.0)


@njit
def is_overdue(choice):
    """Whether a choice (CHOICE,) is the overdue queue, or `any` that stands for it."""
    return choice[OVERDUE] >= 1.0


@njit
def is_open(choice, skips_overdue):
    """Whether a choice (CHOICE,) holds requests that may be served now.

    ``skips_overdue``: the overdue queue may not, because other requests wait.
    """
    return choice[SERVED] >= 0.5 and not (skips_overdue and is_overdue(choice))


@njit
def write_choice(image, at, waiting, is_any, out):
    """Write the inputs of a choice into ``out`` (CHOICE,): its entries ``image[at:]``, then DERIVED.

    ``waiting`` is the number of requests that wait and may be served.  Returns (requests that wait there, requests in a
    full batch, its service time, age of its first request), both times in T; the age of an overdue one is LARGEST_TIME.
    """
    for j in range(OWN):
        out[j] = image[at + j]
    count = decode_count(out[0])
    full = count / max(1.0, unsquash(out[1]))
    age, time, slack = unsquash(out[2]), unsquash(out[5]), unsquash(out[6])
    overdue = is_overdue(out)
    on_time = 0.0 if overdue else min(max((1.0 - time) / max(age, SMALLEST_AGE), 0.0), 1.0)
    out[OWN] = on_time
    out[OWN + 1] = math.log2(1.0 + full * on_time / (time + ADDED_TIME)) / 10.0
    out[OWN + 2] = math.log2(1.0 + full) / 7.0
    out[OWN + 3] = math.log2(1.0 + 100.0 * time / max(full, 1.0)) / 10.0
    out[OWN + 4] = min(max(slack, -1.0), 1.0)
    out[OWN + 5] = 0.0 if overdue else logistic(40.0 * (0.1 - slack))
    out[OWN + 6] = 0.0 if overdue else logistic(15.0 * (0.3 - slack))
    out[OWN + 7] = min(count / max(waiting, 1.0), 1.0)
    out[OWN + 8] = is_any
    return count, full, time, LARGEST_TIME if overdue else age


@njit
def write_choices(image, bins, skips_overdue, choices, facts):
    """Write the inputs of every choice into ``choices`` (choices, CHOICE), and what `write_choice` returns of it into
    ``facts`` (choices, 4).  The choices are ``bins`` bins, `any`, and the overdue queue where there is one."""
    waiting = 0.0
    for k in range(len(choices)):
        at = SHARED + k * OWN
        if k != bins and not (skips_overdue and image[at + OVERDUE] >= 1.0):
            waiting += decode_count(image[at])
    for k in range(len(choices)):
        found = write_choice(image, SHARED + k * OWN, waiting, 1.0 if k == bins else 0.0, choices[k])
        facts[k, 0], facts[k, 1], facts[k, 2], facts[k, 3] = found


@njit
def write_size(size, is_target, count, full, time, age, out):
    """Write the inputs SIZED of a batch of the first ``size`` of ``count`` requests into ``out`` (SIZES,).

    ``full``, ``time`` and ``age`` are what `write_choice` returns.  Ages are assumed to fall evenly from the first
    request's to 0.
    """
    part = size / max(count, 1.0)
    spent = time * (FIXED_SHARE + (1.0 - FIXED_SHARE) * size / max(full, 1.0))
    youngest = age * (1.0 - part)
    on_time = (
        min(max((1.0 - spent - youngest) / max(age * part, SMALLEST_AGE), 0.0), 1.0) if age < LARGEST_TIME else 0.0
    )
    out[0] = part
    out[1] = math.log2(max(size, 1.0)) / 7.0
    out[2] = 1.0 if size >= count else 0.0
    out[3] = is_target
    out[4] = on_time
    out[5] = math.log2(1.0 + size * on_time / (spent + ADDED_TIME)) / 10.0
    out[6] = math.log2(1.0 + size * on_time) / 7.0
    out[7] = spent / (1.0 + spent)


@njit
def write_context(image, bins, choices, skips_overdue, out):
    """Write what all choices share into ``out`` (CONTEXT,): the entries of ``image`` that exist once, then the largest
    and the mean of every input of a choice, over the bins, or the overdue queue, that hold requests."""
    for j in range(SHARED):
        out[j] = image[j]
    filled = 0
    for j in range(SHARED, CONTEXT):
        out[j] = 0.0
    for k in range(len(choices)):
        if k == bins or not is_open(choices[k], skips_overdue):
            continue
        filled += 1
        for j in range(CHOICE):
            value = choices[k, j]
            if filled == 1 or value > out[SHARED + j]:
                out[SHARED + j] = value
            out[SHARED + CHOICE + j] += value
    for j in range(CHOICE):
        out[SHARED + CHOICE + j] /= max(filled, 1)
