"""How long iterations take, and the noise on them (docs/reference/continuous.md, An iteration)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmsched_env.profiles import Profile
from tests.oracles.batch.latency import decode_step_s, kernel_ms, tokens_ms, touched_ms

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


def chunk_work(chunks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """T and Q of chunks given as (tokens done before, tokens of the chunk)."""
    tokens = sum(chunk for _, chunk in chunks)
    squares = sum((done + chunk) ** 2 - done**2 for done, chunk in chunks)
    return tokens, squares


def decode_parts_s(profile: Profile, batch: int, kv: float) -> tuple[float, float, float]:
    """(base, slope, end) of an iteration that only decodes: it takes base + slope * KV while KV is below ``end``."""
    c = profile.coefficients
    if profile.form in ("split", "affine"):
        return (c["d0"] + c["d1"] * batch) / 1000, c["d2"] / 1000, math.inf
    if profile.form == "floor":
        return max(c["d0"], c["d1"] * batch) / 1000, c["d2"] / 1000, math.inf
    if profile.form == "tokens":
        return max(c["w0"], c["e0"] + c["w1"] * batch) / 1000, c["a_d"] / 1000, math.inf
    if profile.form == "experts":
        base = kernel_ms(profile, batch, 0)
        if base + c["d2"] * kv >= c["h0"]:
            return base / 1000, c["d2"] / 1000, math.inf
        return c["h0"] / 1000, 0.0, (c["h0"] - base) / c["d2"]
    if profile.form == "table":
        assert profile.grids is not None
        points = profile.grids.context
        low = max((point for point in points if point <= kv / batch), default=None)
        if low is None:
            return decode_step_s(profile, batch, kv), 0.0, points[0] * batch
        later = [point for point in points if point > low]
        slope = (decode_step_s(profile, batch, kv + batch / 64) - decode_step_s(profile, batch, kv)) / (batch / 64)
        end = later[0] * batch if len(later) > 1 else math.inf
        return decode_step_s(profile, batch, kv) - slope * kv, slope, end
    raise ValueError(f"the form {profile.form} has no iterations")


def chunk_iteration_s(profile: Profile, batch: int, kv: int, chunks: Sequence[tuple[int, int]]) -> float:
    """Seconds of an iteration in which ``batch`` members decode (perhaps none) and chunks are prefilled."""
    c = profile.coefficients
    tokens, squares = chunk_work(chunks)
    if profile.form in ("split", "affine", "floor"):
        if batch == 0:
            linear = c["p1"] * tokens + c["p2"] * squares
            return (c["p0"] + linear if profile.form == "affine" else max(c["p0"], linear)) / 1000
        members = max(c["d0"], c["d1"] * batch) if profile.form == "floor" else c["d0"] + c["d1"] * batch
        return (members + c["d2"] * kv + c["p1"] * tokens + c["p2"] * squares) / 1000
    if profile.form == "tokens":
        linear = max(c["w0"], c["e0"] + c["w1"] * (batch + tokens))
        return (linear + c["a_d"] * kv + c["a_p"] * squares) / 1000
    if profile.form == "experts":
        if batch == 0:
            return max(c["p0"], c["p1"] * tokens + c["p2"] * squares, c["h0"]) / 1000
        experts = touched_ms(profile, batch + tokens) - touched_ms(profile, batch)
        return max(kernel_ms(profile, batch, kv) + experts + c["p1"] * tokens + c["p2"] * squares, c["h0"]) / 1000
    if profile.form == "table":
        if batch == 0:
            return (tokens_ms(profile, tokens) + c["p2"] * squares) / 1000
        more = tokens_ms(profile, batch + tokens) - tokens_ms(profile, batch)
        return decode_step_s(profile, batch, kv) + (more + c["p2"] * squares) / 1000
    raise ValueError(f"the form {profile.form} has no iterations")


@dataclass
class Segment:
    """Iterations between two changes; with a chunk it is one iteration."""

    start: float
    factor: float  # of the noise, on everything
    base: float  # seconds of an iteration, overhead included, without what grows with KV
    slope: float = 0.0  # seconds per token of KV
    kv: int = 0  # tokens at its start
    batch: int = 0  # tokens that an iteration adds
    end: float = math.inf  # tokens of KV from which on another line holds
    done: int = field(default=0)  # iterations that have ended

    @property
    def over(self) -> bool:
        """Whether the next iteration needs another line."""
        return self.kv + self.batch * self.done >= self.end

    def boundary(self, k: int) -> float:
        """End of its k-th iteration."""
        return self.start + self.factor * (
            k * (self.base + self.slope * self.kv) + self.slope * self.batch * (k * (k - 1) / 2)
        )


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return x ^ (x >> 31)


def noise_factor(sigma: float, key: int, number: int) -> float:
    """The lognormal factor of mean 1 that segment ``number`` draws from the lane's key."""
    if sigma == 0:
        return 1.0
    x = (key + (2 * number + 1) * GOLDEN) % WORD
    u = ((_mix(x) >> 11) + 1) / 2**53
    v = (_mix((x + GOLDEN) % WORD) >> 11) / 2**53
    z = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    return math.exp(sigma * z - sigma * sigma / 2)
