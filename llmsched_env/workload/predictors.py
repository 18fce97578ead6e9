"""Predictors: what a scheduler is told about the output length of a request, before it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched_env.options.suggest import did_you_mean
from llmsched_env.requests import MAX_TOKENS

KINDS = ("oracle", "noisy", "prompt-only", "none")
DEFAULT_NOISE = 0.3
PROMPT_FACTOR, PROMPT_POWER, PROMPT_NOISE = 1.5, 0.7, 0.1
"""``prompt-only`` = 1.5 prompt^0.7 lognormal(0, 0.1), the rule of the public multi-bin simulator."""


@dataclass(frozen=True)
class Predictor:
    """A rule from (prompt, output) to the predicted output tokens; ``sigma`` only for ``noisy``."""

    kind: str
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(_unknown(self.kind))
        if not (math.isfinite(self.sigma) and 0 <= self.sigma <= 5):
            raise ValueError(f"predictor noisy:{self.sigma!r} is not allowed: give a sigma from 0 to 5.")

    def predict(
        self, prompt: NDArray[np.int32], output: NDArray[np.int32], output_cap: int, rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """Predicted output tokens (int32, at least 1), one per request; ``none`` says ``output_cap``."""
        if self.kind == "oracle":
            return output.copy()
        if self.kind == "none":
            return np.full(len(output), output_cap, np.int32)
        z = rng.standard_normal(len(output))
        if self.kind == "noisy":
            guess = output.astype(np.float64) * np.exp(self.sigma * z)
        else:
            guess = PROMPT_FACTOR * prompt.astype(np.float64) ** PROMPT_POWER * np.exp(PROMPT_NOISE * z)
        return np.clip(np.rint(guess), 1, MAX_TOKENS).astype(np.int32)


def parse_predictor(text: str) -> Predictor:
    """``oracle``, ``noisy`` (sigma 0.3), ``noisy:S``, ``prompt-only`` or ``none``; else ``ValueError``."""
    kind, colon, value = text.partition(":")
    if kind not in KINDS or (colon and kind != "noisy"):
        raise ValueError(_unknown(text))
    if kind != "noisy":
        return Predictor(kind)
    try:
        return Predictor(kind, float(value) if colon else DEFAULT_NOISE)
    except ValueError as error:
        raise ValueError(f"predictor {text!r} is not allowed: give noisy:S with a sigma S from 0 to 5.") from error


def _unknown(text: str) -> str:
    close = did_you_mean(text, list(KINDS))
    return f"predictor {text!r} is not known.{close} Choose oracle, noisy:S, prompt-only or none."
