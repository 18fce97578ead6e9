"""Seconds of a prefill, of a decode step and of a request alone (docs/reference/semantics.md, Latency)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from llmsched_env.config import SimConfig
from llmsched_env.profiles import Profile


def prefill_s(profile: Profile, lengths: Sequence[int]) -> float:
    """Seconds to prefill a batch whose members bring ``lengths`` tokens."""
    c = profile.coefficients
    total = sum(lengths)
    squares = sum(length * length for length in lengths)
    if profile.form in ("split", "floor"):
        return max(c["p0"], c["p1"] * total + c["p2"] * squares) / 1000
    if profile.form == "affine":
        return (c["p0"] + c["p1"] * total + c["p2"] * squares) / 1000
    if profile.form == "tokens":
        return (max(c["w0"], c["e0"] + c["w1"] * total) + c["a_p"] * squares) / 1000
    if profile.form == "batch-length":
        return c["a"] / 1000
    if profile.form == "experts":
        return max(c["p0"], c["p1"] * total + c["p2"] * squares, c["h0"]) / 1000
    if profile.form == "table":
        return (tokens_ms(profile, total) + c["p2"] * squares) / 1000
    raise ValueError(f"unknown form {profile.form!r}")


def decode_step_s(profile: Profile, batch: int, kv: float) -> float:
    """Seconds of one decode step of ``batch`` members that together hold ``kv`` tokens."""
    c = profile.coefficients
    if profile.form in ("split", "affine"):
        return (c["d0"] + c["d1"] * batch + c["d2"] * kv) / 1000
    if profile.form == "floor":
        return (max(c["d0"], c["d1"] * batch) + c["d2"] * kv) / 1000
    if profile.form == "tokens":
        return (max(c["w0"], c["e0"] + c["w1"] * batch) + c["a_d"] * kv) / 1000
    if profile.form == "batch-length":
        return c["beta"] * (1 + c["g"] * (batch - 1) / batch) / 1000
    if profile.form == "experts":
        return max(c["h0"], kernel_ms(profile, batch, kv)) / 1000
    if profile.form == "table":
        return bilinear_ms(profile, batch, kv / batch) / 1000
    raise ValueError(f"unknown form {profile.form!r}")


def touched_ms(profile: Profile, tokens: int) -> float:
    """Milliseconds to read the experts that ``tokens`` tokens are sent to."""
    c = profile.coefficients
    return c["e0"] * (1 - (1 - c["e1"]) ** tokens)


def kernel_ms(profile: Profile, batch: int, kv: float) -> float:
    """Milliseconds of a decode step of the form `experts` where the host does not bind."""
    c = profile.coefficients
    return c["d0"] + c["d1"] * batch + c["d2"] * kv + touched_ms(profile, batch)


def along(points: Sequence[float], values: Sequence[float], at: float) -> float:
    """Linear between the points, constant before the first, straight on after the last."""
    if at <= points[0] or len(points) == 1:
        return values[0]
    high = next((k for k, point in enumerate(points) if k > 0 and at < point), len(points) - 1)
    share = (at - points[high - 1]) / (points[high] - points[high - 1])
    return values[high - 1] + share * (values[high] - values[high - 1])


def bilinear_ms(profile: Profile, batch: float, context: float) -> float:
    """Milliseconds of a decode step of a measured table; a fall along the context is levelled."""
    grids = profile.grids
    assert grids is not None
    rows = [[max(row[: j + 1]) for j in range(len(row))] for row in grids.decode_ms]
    return along(grids.batch, [along(grids.context, row, context) for row in rows], batch)


def tokens_ms(profile: Profile, tokens: float) -> float:
    """Milliseconds of a prefill of a measured table."""
    assert profile.grids is not None
    return along(profile.grids.tokens, profile.grids.prefill_ms, tokens)


def service_alone_s(profile: Profile, prompt: int, output: int) -> float:
    """Seconds that a request of these lengths takes alone on a server."""
    seconds = prefill_s(profile, [prompt])
    if profile.form == "batch-length":
        length = output if profile.length == "output" else prompt + output
        return seconds + decode_step_s(profile, 1, 0) * length
    for tokens in range(1, output):
        seconds += decode_step_s(profile, 1, prompt + tokens)
    return seconds


def safe_tbt_s(config: SimConfig) -> float:
    """D of the SLA controller: what is asked for, or the smallest that is safe on every server.

    The time between tokens of a batch of one is taken with no KV: the smallest it can be.
    """
    slowest = max(decode_step_s(server.profile, 1, 0) for server in config.servers)
    asked, eps = config.tbt_s, config.controller.eps_s
    if asked - eps >= slowest:
        return asked
    safe = slowest + eps
    warnings.warn(
        f"a time between tokens of {asked:g} s is below what one request needs: using {safe:g} s", stacklevel=2
    )
    return safe
