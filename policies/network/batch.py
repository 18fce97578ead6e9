"""The learned scheduler: a small network scores every (bin, batch size) and waiting, and the best one is done.

The weights are a file (network.checkpoint); this file is the network, compiled.  One set of weights serves any number
of bins and servers, because every bin is scored by the same function: of its own entries of the observation
(llmsched_env.core.view.observation), of what follows from them, and of what all bins have in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba import njit

from llmsched.policies.network import checkpoint, continuous, layouts
from llmsched.policies.network.checkpoint import CHOICE, CONTEXT, OWN, SHARED, SIZED
from llmsched.policies.parameters import Text, Value
from llmsched.policies.registry import Floats, Function, policy
from llmsched_env.compiler.parts import fingerprint
from llmsched_env.config import SimConfig
from llmsched_env.core.view.observation import write_observation

SIZES = len(SIZED)
SERVED, LATE = OWN - 2, OWN - 1
"""Places of two entries of a choice."""
GIVEN_UP, TRIAGE = 2.0, 0.75
"""Whom it gives up: its late bin and its triage (config.Queueing)."""

SCALE_S = 30.0
"""T where the SLO has no deadline, as in the environments (lanes.DEFAULT_SCALE_S)."""

MOST, LEAST_AGE, FIXED, SMALL = 99.0, 0.01, 0.5, 0.02
"""Largest time looked at, smallest age divided by, share of a batch's time that its size leaves alone, and what is
added to a time before it is divided by; all but the share in units of T."""


@njit
def unsquashed(x):
    """x of an entry x / (|x| + 1), at most MOST in size."""
    return min(max(x / max(1.0 - abs(x), 1e-6), -MOST), MOST)


@njit
def logistic(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + math.exp(-x))


@njit
def given_up(choice):
    """Whether a described choice is the late bin, or `any` that stands for it."""
    return choice[LATE] >= 1.0


@njit
def counted(entry):
    """Requests of an entry `queue`."""
    return round(2.0 ** (20.0 * entry) - 1.0)


@njit
def in_question(choice, passed_over):
    """Whether a described choice has something to serve now; ``passed_over``: the late bin does not count."""
    return choice[SERVED] >= 0.5 and not (passed_over and given_up(choice))


@njit
def describe(image, at, waiting, is_any, out):
    """Write a choice into ``out`` (CHOICE,): its entries ``image[at:]``, then DERIVED; ``waiting`` in the other bins.

    Returns (requests there, full batch, its time, age of its first), the last two in T; the age is MOST for those who
    are given up.
    """
    for j in range(OWN):
        out[j] = image[at + j]
    count = counted(out[0])
    full = count / max(1.0, unsquashed(out[1]))
    age, time, slack = unsquashed(out[2]), unsquashed(out[5]), unsquashed(out[6])
    late = given_up(out)
    on_time = 0.0 if late else min(max((1.0 - time) / max(age, LEAST_AGE), 0.0), 1.0)
    out[OWN] = on_time
    out[OWN + 1] = math.log2(1.0 + full * on_time / (time + SMALL)) / 10.0
    out[OWN + 2] = math.log2(1.0 + full) / 7.0
    out[OWN + 3] = math.log2(1.0 + 100.0 * time / max(full, 1.0)) / 10.0
    out[OWN + 4] = min(max(slack, -1.0), 1.0)
    out[OWN + 5] = 0.0 if late else logistic(40.0 * (0.1 - slack))
    out[OWN + 6] = 0.0 if late else logistic(15.0 * (0.3 - slack))
    out[OWN + 7] = min(count / max(waiting, 1.0), 1.0)
    out[OWN + 8] = is_any
    return count, full, time, MOST if late else age


@njit
def describe_size(size, is_target, count, full, time, age, out):
    """Write SIZED of launching the first ``size`` of ``count`` requests into ``out``."""
    part = size / max(count, 1.0)
    spent = time * (FIXED + (1.0 - FIXED) * size / max(full, 1.0))
    youngest = age * (1.0 - part)  # ages lie between those of the first and of a newcomer
    on_time = min(max((1.0 - spent - youngest) / max(age * part, LEAST_AGE), 0.0), 1.0) if age < MOST else 0.0
    out[0] = part
    out[1] = math.log2(max(size, 1.0)) / 7.0
    out[2] = 1.0 if size >= count else 0.0
    out[3] = is_target
    out[4] = on_time
    out[5] = math.log2(1.0 + size * on_time / (spent + SMALL)) / 10.0
    out[6] = math.log2(1.0 + size * on_time) / 7.0
    out[7] = spent / (1.0 + spent)


@njit
def summarise(image, bins, choices, passed_over, context):
    """Write the CONTEXT: the entries that exist once, then largest and mean of CHOICE over the bins that are not
    empty."""
    for j in range(SHARED):
        context[j] = image[j]
    filled = 0
    for j in range(SHARED, CONTEXT):
        context[j] = 0.0
    for k in range(bins):
        if not in_question(choices[k], passed_over):
            continue
        filled += 1
        for j in range(CHOICE):
            value = choices[k, j]
            if filled == 1 or value > context[SHARED + j]:
                context[SHARED + j] = value
            context[SHARED + CHOICE + j] += value
    for j in range(CHOICE):
        context[SHARED + CHOICE + j] /= max(filled, 1)


@njit
def layer(weights, at, inputs, out):
    """Add a matrix (len(out), len(inputs)) that begins at ``weights[at]``, times ``inputs``, to ``out``; its end."""
    for h in range(len(out)):
        total = 0.0
        for j in range(len(inputs)):
            total += weights[at] * inputs[j]
            at += 1
        out[h] += total
    return at


@njit
def copied(weights, at, out):
    """Fill ``out`` from ``weights[at]`` on; the end."""
    for h in range(len(out)):
        out[h] = weights[at + h]
    return at + len(out)


@njit
def describe_all(image, bins, passed_over, choices, facts):
    """Write every choice and what ``describe`` returns of it into ``choices`` and ``facts``, a row each."""
    waiting = 0.0
    for k in range(bins):
        at = SHARED + k * OWN
        if not (passed_over and image[at + LATE] >= 1.0):
            waiting += counted(image[at])
    for k in range(bins + 1):
        found = describe(image, SHARED + k * OWN, waiting, 1.0 if k == bins else 0.0, choices[k])
        facts[k, 0], facts[k, 1], facts[k, 2], facts[k, 3] = found


@njit
def waiting_score(weights, at, patience, context):
    """The score of waiting, whose last weights begin at ``weights[at]``, from its hidden layer and the context."""
    hidden = len(patience)
    total = weights[at + hidden + len(context)]
    for h in range(hidden):
        total += weights[at + h] * max(patience[h], 0.0)
    for j in range(len(context)):
        total += weights[at + hidden + j] * context[j]
    return total


@njit
def score(image, bins, max_batch, can_wait, weights, logits):
    """Write the score of every action of the ladder (spaces.ladder) into ``logits``; -inf: not to be chosen.

    ``image`` is an observation for ``bins`` bins, ``weights`` what network.checkpoint packs: the hidden units, then in
    the order of learned.SHAPES.  Sizes beyond what waits are left out, but for one that takes all of it.
    """
    hidden = int(weights[0])
    context, choices, sized = np.empty(CONTEXT), np.empty((bins + 1, CHOICE)), np.empty(SIZES)
    facts = np.empty((bins + 1, 4))
    passed_over = image[SHARED + bins * OWN + LATE] < 1.0  # `any` is not the late bin: somebody waits who is not late
    describe_all(image, bins, passed_over, choices, facts)
    summarise(image, bins, choices, passed_over, context)
    base, unit, patience, own = np.empty(hidden), np.empty(hidden), np.empty(hidden), np.empty(hidden)
    at = copied(weights, 1, base)
    at = layer(weights, at, context, base)
    of_choice = at
    of_size = of_choice + hidden * CHOICE
    out = of_size + hidden * SIZES
    straight = out + hidden
    at = straight + CHOICE + SIZES
    at = copied(weights, at, patience)
    at = layer(weights, at, context, patience)
    logits[:] = -np.inf
    if can_wait:
        logits[0] = waiting_score(weights, at, patience, context)
    rungs = (len(logits) - 1) // (bins + 1)
    for k in range(bins + 1):
        if not in_question(choices[k], passed_over):
            continue
        own[:] = base
        layer(weights, of_choice, choices[k], own)
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
            describe_size(taken, 1.0 if last else 0.0, count, facts[k, 1], facts[k, 2], facts[k, 3], sized)
            unit[:] = own
            layer(weights, of_size, sized, unit)
            total = line
            for j in range(SIZES):
                total += weights[straight + CHOICE + j] * sized[j]
            for h in range(hidden):
                total += weights[out + h] * max(unit[h], 0.0)
            logits[1 + k * rungs + rung] = total


def made(sources: str) -> Function:
    """The decide function; ``sources`` (compiled.fingerprint) is a closure variable and so part of its cache key,
    because it calls what the library observes with."""

    def ppo(record, params, memory, rng):
        """What a trained network scores highest: a bin and a batch size, or to wait (docs/results/learned.md)."""
        sources  # noqa: B018
        if record.continuous:
            return continuous.admit(record, params)
        bins, cap = record.num_bins, record.max_batch
        scale = min(record.slo_ttft, record.slo_e2e)
        if scale == math.inf:
            scale = SCALE_S
        image = np.empty(SHARED + (bins + 1) * OWN, np.float32)
        write_observation(record, image, scale, bins, np.empty(record.num_servers))
        rungs = 1
        while 1 << (rungs - 1) < cap:
            rungs += 1
        rungs += 1
        logits = np.empty(1 + (bins + 1) * rungs)
        score(image, bins, cap, record.can_wait, params, logits)
        best = 0
        for i in range(1, len(logits)):
            if logits[i] > logits[best]:
                best = i
        if best == 0:
            return bins, 0
        choice, rung = (best - 1) // rungs, (best - 1) % rungs
        if rung == rungs - 1:
            return choice, record.target[choice]
        return choice, min(1 << rung, cap)

    return ppo


FEW = 2
"""Up to so many servers, every one has to take what is shortest of all."""


def order(config: SimConfig) -> str:
    """Discipline inside the bins: shortest prediction first where few servers, or one bin, cannot keep lengths apart,
    else first come first served."""
    return "sjf" if len(config.servers) <= FEW or not config.queueing.edges else "fifo"


def fitted(config: SimConfig, values: Mapping[str, Value]) -> SimConfig:
    """``config`` as the network of its engine wants it; ``ValueError`` where ``path`` holds that of the other."""
    path = values["path"]
    made_for = config.engine if path is None else checkpoint.load(str(path)).engine
    if made_for != config.engine:
        raise ValueError(f"{path}: trained for the engine {made_for!r}: it decides nothing in {config.engine!r}.")
    if config.engine == "continuous":
        return continuous.fitted(config)
    queueing = replace(config.queueing, discipline=order(config), late_bin=GIVEN_UP, triage=TRIAGE)
    return replace(config, queueing=queueing)


def weights_of(values: Mapping[str, Value]) -> tuple[Floats, int]:
    """The network at ``path``, or both shipped ones (that of the engine `batch` reads from the start, the other from
    the end), and the numbers kept between decisions."""
    if values["path"] is not None:
        return checkpoint.load(str(values["path"])).packed, 0
    return np.concatenate([checkpoint.load(engine=engine).packed for engine in checkpoint.SHIPPED_FOR]), 0


SOURCES = fingerprint() + repr(checkpoint.LAYOUT) + repr(layouts.LAYOUT)
SOURCES += Path(continuous.__file__).read_text(encoding="utf-8")

policy(
    "ppo",
    params={"path": Text(None, allowed="a checkpoint that train/ exported, or none for those that are shipped")},
    fit=fitted,
    details=True,
    load=weights_of,
)(made(SOURCES))
