"""The latency law: service times on a server, for every latency form (docs/reference/semantics.md).

Written once.  The functions that take ``(form, c)`` are the law itself, in the unit of the coefficients ``c``, which
lie in the order of profiles.COEFFICIENTS; ``plain`` makes one of them callable from Python.  The others take a SERVER
record and give seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import AFFINE, BATCH_LENGTH, FLOOR, SPLIT, TOKENS


def plain(law: Callable) -> Callable:
    """A function of ``(form, c, ...)`` of this file as Python calls it, not compiled."""
    return getattr(law, "py_func", law)  # nothing is compiled under NUMBA_DISABLE_JIT


@part
def prefill(form, c, tokens, squares):
    """Time to prefill prompts of ``tokens`` in all, whose squares add up to ``squares``."""
    if form in (SPLIT, FLOOR):
        return max(c[3], c[4] * tokens + c[5] * squares)
    if form == AFFINE:
        return c[3] + c[4] * tokens + c[5] * squares
    if form == TOKENS:
        return max(c[0], c[1] + c[2] * tokens) + c[3] * squares
    return c[0]


@part
def step_base(form, c, batch):
    """Part of a decode step that depends on the batch size alone."""
    if form in (SPLIT, AFFINE):
        return c[0] + c[1] * batch
    if form == FLOOR:
        return max(c[0], c[1] * batch)
    if form == TOKENS:
        return max(c[0], c[1] + c[2] * batch)
    return c[1] * (1.0 + c[2] * (batch - 1) / batch)


@part
def step_per_token(form, c):
    """Part of a decode step per KV token in the batch."""
    if form in (SPLIT, AFFINE, FLOOR):
        return c[2]
    if form == TOKENS:
        return c[4]
    return 0.0


@part
def mixed(form, c, batch, context, tokens, squares):
    """Time of an iteration in which ``batch`` >= 1 members, ``context`` tokens long in all, decode beside chunks of
    prompts of ``tokens`` in all with an attention of ``squares``; no form `batch-length`."""
    if form in (SPLIT, AFFINE):
        return c[0] + c[1] * batch + c[2] * context + c[4] * tokens + c[5] * squares
    if form == FLOOR:
        return max(c[0], c[1] * batch) + c[2] * context + c[4] * tokens + c[5] * squares
    return max(c[0], c[1] + c[2] * (batch + tokens)) + c[4] * context + c[3] * squares


@part
def prefill_s(server, tokens, squares):
    """``prefill`` on ``server``, s."""
    return prefill(server.form, server.c, tokens, squares)


@part
def step_base_s(server, batch):
    """``step_base`` on ``server``, s."""
    return step_base(server.form, server.c, batch)


@part
def step_per_token_s(server):
    """``step_per_token`` on ``server``, s."""
    return step_per_token(server.form, server.c)


@part
def mixed_s(server, batch, context, tokens, squares):
    """``mixed`` on ``server``, s."""
    return mixed(server.form, server.c, batch, context, tokens, squares)


@part
def steps_s(first, last, base, per_token, prompts, batch):
    """Time of the decode steps first, ..., last - 1 (none when last <= first).

    Step j costs base + per_token * (prompts + batch * j): a closed form, never accumulated.
    """
    if last <= first:
        return 0.0
    sum_j = 0.5 * ((last - 1.0) * last - (first - 1.0) * first)
    return (last - first) * (base + per_token * prompts) + per_token * batch * sum_j


@part
def decode_until_s(server, batch, prompts, prompt, token):
    """Time from the first token to token number ``token`` of a member whose own prompt has ``prompt`` tokens.

    ``prompts`` is the sum over the batch; nobody is preempted on the way.
    """
    base = step_base_s(server, batch)
    if server.form == BATCH_LENGTH:
        return base * (token + prompt if server.total_length else token)
    return steps_s(1, token, base, step_per_token_s(server), prompts, batch)


@part
def alone_s(server, prompt, token):
    """(prefill, time from the first token to token number ``token``) of a request served alone, s."""
    size = float(prompt)
    return prefill_s(server, size, size * size), decode_until_s(server, 1, size, size, token)


@part
def _hash(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@part
def noise_factor(sigma, key, batch_number):
    """Lognormal factor of mean 1 for batch ``batch_number``; a function of the lane's drawn ``key`` alone.

    A counter-based draw (SplitMix64 finaliser, Box-Muller), so that lanes, threads and environments agree bit for bit.
    """
    if sigma == 0.0:
        return 1.0
    x = np.uint64(key) + np.uint64(2 * batch_number + 1) * np.uint64(0x9E3779B97F4A7C15)
    scale = 1.0 / 9007199254740992.0
    u = (np.float64(_hash(x) >> np.uint64(11)) + 1.0) * scale
    v = np.float64(_hash(x + np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * scale
    z = math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)
    return math.exp(sigma * z - 0.5 * sigma * sigma)
