"""The law of a generator of sessions: how many turns, how the context grows, how long clients think."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.workload.contents import Contents, mixed
from llmsched_env.workload.lengths import Component, IntPair, LognormalMixture

HASH_TOKENS = 1024
"""Tokens of a hash of a drawn prompt; the last one may cover fewer."""

MOST_TURNS = 100
"""About the most requests of a session, to foresee how much memory a draw takes."""

_AHEAD = 64
"""Sessions that are drawn in one go where only the number of requests is known."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of lognormals: rows (weight, mean and sigma of the logarithm)."""

    rows: tuple[tuple[float, float, float], ...]

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``n`` values above 0."""
        weight, mean, sigma = np.array(self.rows).T
        part = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(n), side="right")
        part = np.minimum(part, len(weight) - 1)
        return np.exp(mean[part] + sigma[part] * rng.standard_normal(n))


def _mixture(rows: list[dict[str, float]]) -> Mixture:
    return Mixture(tuple((row["w"], row["mu"], row["sigma"]) for row in rows))


@dataclass(frozen=True)
class DrawnSessions:
    """Sessions one after the other: ``turns`` (S,) requests of each; prompts, outputs, think times of all (N,)."""

    turns: NDArray[np.int64]
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    think_s: NDArray[np.float64]


@dataclass(frozen=True)
class SessionLaw:
    """Chains of requests, each of which continues the text of the one before it.

    ``shape`` is the joint law of the number of turns and of the first prompt.  What every turn adds to the prompt (the
    answer before it included), outputs and think times are drawn independently of it and of each other.  Values above
    ``prompt_max``, ``output_max`` and ``think_max_s`` are clipped.
    """

    shape: LognormalMixture
    growth: Mixture
    output: Mixture
    think: Mixture
    prompt_max: int
    output_max: int
    think_max_s: float

    @classmethod
    def of(cls, raw: dict[str, Any]) -> SessionLaw:
        """The law of the JSON of a generator."""
        parts = tuple(Component(c["w"], tuple(c["mu"]), tuple(c["cov"])) for c in raw["turns_and_first_prompt"])
        shape = LognormalMixture(parts, raw["turns_max"], raw["prompt_max"])
        growth, output, think = (_mixture(raw[name]) for name in ("growth", "output", "think_s"))
        return cls(shape, growth, output, think, raw["prompt_max"], raw["output_max"], raw["think_max_s"])

    @property
    def mean_turns(self) -> float:
        """Requests of a session in the mean."""
        return float(self.shape.draw(100_000, np.random.default_rng(0))[0].mean())

    def sessions(self, n: int, rng: np.random.Generator) -> DrawnSessions:
        """``n`` sessions, drawn in sequence from ``rng``."""
        turns, first = (values.astype(np.int64) for values in self.shape.draw(n, rng))
        total, starts = int(turns.sum()), np.cumsum(turns) - turns
        added = _clipped(self.growth.draw(total, rng), self.prompt_max)
        added[starts] = first
        grown = np.cumsum(added)
        prompt = np.minimum(grown - np.repeat(grown[starts] - added[starts], turns), self.prompt_max)
        output = _clipped(self.output.draw(total, rng), self.output_max)
        think = np.minimum(self.think.draw(total, rng), self.think_max_s)
        think[starts] = 0.0
        return DrawnSessions(turns, prompt.astype(np.int32), output.astype(np.int32), think)

    def draw(self, n: int, rng: np.random.Generator) -> IntPair:
        """Prompts and outputs of ``n`` requests, session after session."""
        prompts, outputs = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        while sum(map(len, prompts)) < n:
            drawn = self.sessions(_AHEAD, rng)
            prompts.append(drawn.prompt)
            outputs.append(drawn.output)
        return np.concatenate(prompts)[:n], np.concatenate(outputs)[:n]


def contents_of_sessions(
    session: NDArray[np.int64], prompt: NDArray[np.int32], output: NDArray[np.int32], rng: np.random.Generator
) -> Contents:
    """Hashes of requests (N,), ``session`` after session: a prompt begins with the prompt and the answer before it.

    Sessions share nothing.
    """
    follows = np.r_[session[1:] == session[:-1], False]
    answered = np.minimum(prompt.astype(np.int64) + output, np.roll(prompt, -1))
    hashed = np.where(follows, np.maximum(prompt, answered), prompt)
    counts = -(-hashed // HASH_TOKENS)
    text = rng.integers(2**63, size=int(session[-1]) + 1).astype(np.uint64)[session]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    hashes = mixed(np.repeat(text, counts) + mixed(within.astype(np.uint64) + np.uint64(1)))
    return Contents(hashes.view(np.int64), hashed.astype(np.int32), HASH_TOKENS)


def _clipped(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    return np.clip(np.rint(values), 1, most).astype(np.int64)
