"""The latency law: service times on a server, for every latency form (docs/reference/semantics.md).

Written once.  The functions that take ``(form, c)`` are the law itself, in the unit of the numbers ``c``, which lie as
profiles.Profile.numbers has them; Python calls them through parts.plain.  The others take a HARDWARE record and give
seconds.
"""

from __future__ import annotations

import math

import numpy as np

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.latency_table import table_chunks, table_piece, table_prefill
from llmsched_env.core.layout import AFFINE, BATCH_LENGTH, EXPERTS, FLOOR, SPLIT, TABLE, TOKENS


@part
def prefill(form, c, tokens, squares):
    """Time to prefill prompts of ``tokens`` in all, whose squares add up to ``squares``."""
    if form in (SPLIT, FLOOR):
        return max(c[3], c[4] * tokens + c[5] * squares)
    if form == AFFINE:
        return c[3] + c[4] * tokens + c[5] * squares
    if form == TOKENS:
        return max(c[0], c[1] + c[2] * tokens) + c[3] * squares
    if form == EXPERTS:
        return max(max(c[3], c[4] * tokens + c[5] * squares), c[8])
    if form == TABLE:
        return table_prefill(c, tokens, squares)
    return c[0]


@apart
def touched(c, tokens):
    """Time to read the experts that ``tokens`` tokens are sent to (form `experts`)."""
    return c[6] * (1.0 - (1.0 - c[7]) ** tokens)


@part
def step_piece(form, c, batch, context):
    """A decode step of ``batch`` members with ``context`` tokens in all: (base, slope, end).

    It takes base + slope * context, and so does every later step of the same members before their tokens reach
    ``end`` (inf for most forms).
    """
    if form in (SPLIT, AFFINE):
        return c[0] + c[1] * batch, c[2], math.inf
    if form == FLOOR:
        return max(c[0], c[1] * batch), c[2], math.inf
    if form == TOKENS:
        return max(c[0], c[1] + c[2] * batch), c[4], math.inf
    if form == EXPERTS:
        base = c[0] + c[1] * batch + touched(c, batch)
        if base + c[2] * context >= c[8]:
            return base, c[2], math.inf
        return c[8], 0.0, (c[8] - base) / c[2] if c[2] > 0.0 else math.inf
    if form == TABLE:
        return table_piece(c, batch, context)
    return c[1] * (1.0 + c[2] * (batch - 1) / batch), 0.0, math.inf


@part
def step(form, c, batch, context):
    """Time of one decode step of ``batch`` members with ``context`` tokens in all."""
    base, slope, _ = step_piece(form, c, batch, context)
    return base + slope * context


@part
def mixed(form, c, batch, context, tokens, squares):
    """Time of an iteration in which ``batch`` >= 1 members, ``context`` tokens long in all, decode beside chunks of
    prompts of ``tokens`` in all with an attention of ``squares``; no form `batch-length`."""
    if form in (SPLIT, AFFINE):
        return c[0] + c[1] * batch + c[2] * context + c[4] * tokens + c[5] * squares
    if form == FLOOR:
        return max(c[0], c[1] * batch) + c[2] * context + c[4] * tokens + c[5] * squares
    if form == EXPERTS:
        base = c[0] + c[1] * batch + touched(c, batch + tokens)
        return max(base + c[2] * context + c[4] * tokens + c[5] * squares, c[8])
    if form == TABLE:
        return step(form, c, batch, context) + table_chunks(c, batch, tokens, squares)
    return max(c[0], c[1] + c[2] * (batch + tokens)) + c[4] * context + c[3] * squares


@part
def prefill_s(hardware, tokens, squares):
    """``prefill`` on ``hardware``, s."""
    return prefill(hardware.form, hardware.c, tokens, squares)


@part
def step_piece_s(hardware, batch, context):
    """``step_piece`` on ``hardware``, s."""
    return step_piece(hardware.form, hardware.c, batch, context)


@part
def step_s(hardware, batch, context):
    """``step`` on ``hardware``, s."""
    return step(hardware.form, hardware.c, batch, context)


@part
def mixed_s(hardware, batch, context, tokens, squares):
    """``mixed`` on ``hardware``, s."""
    return mixed(hardware.form, hardware.c, batch, context, tokens, squares)


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
def piece_steps(end, first, last, prompts, batch):
    """First decode step from ``first`` + 1 on, at most ``last``, at which the tokens of a batch have reached ``end``.

    At step j its members hold prompts + batch * j tokens.
    """
    if end == math.inf:
        return last
    return min(last, max(first + 1, int(math.ceil((end - prompts) / batch))))


@part
def decode_s(hardware, first, last, prompts, batch):
    """Time of the decode steps first, ..., last - 1 of ``batch`` members, whose prompts add up to ``prompts``."""
    total, j = 0.0, first
    while j < last:
        base, slope, end = step_piece_s(hardware, batch, prompts + batch * j)
        until = piece_steps(end, j, last, prompts, batch)
        total += steps_s(j, until, base, slope, prompts, batch)
        j = until
    return total


@part
def decode_until_s(hardware, batch, prompts, prompt, token):
    """Time from the first token to token number ``token`` of a member whose own prompt has ``prompt`` tokens.

    ``prompts`` is the sum over the batch; none is preempted on the way.
    """
    if hardware.form == BATCH_LENGTH:
        return step_s(hardware, batch, 0.0) * (token + prompt if hardware.total_length else token)
    return decode_s(hardware, 1, token, prompts, batch)


@part
def alone_s(hardware, prompt, token):
    """(prefill, time from the first token to token number ``token``) of a request served alone, s."""
    size = float(prompt)
    return prefill_s(hardware, size, size * size), decode_until_s(hardware, 1, size, size, token)


@part
def mixed_bits(x):
    """The finaliser of SplitMix64: 64 bits, each of which depends on all bits of ``x``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@apart
def noise_factor(sigma, key, batch_number):
    """Lognormal factor of mean 1 for batch ``batch_number``; a function of the lane's drawn ``key`` alone.

    A counter-based draw (SplitMix64 finaliser, Box-Muller), so that lanes, threads and environments agree bit for bit.
    """
    if sigma == 0.0:
        return 1.0
    x = np.uint64(key) + np.uint64(2 * batch_number + 1) * np.uint64(0x9E3779B97F4A7C15)
    scale = 1.0 / 9007199254740992.0
    u = (np.float64(mixed_bits(x) >> np.uint64(11)) + 1.0) * scale
    v = np.float64(mixed_bits(x + np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * scale
    z = math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)
    return math.exp(sigma * z - 0.5 * sigma * sigma)
