"""Shapes of models that can be measured without downloading anything: their weights are random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by dtype."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a decoder-only transformer that its speed and its memory depend on."""

    family: str  # "qwen3", "llama" or "gpt2": which class of Transformers; others only by hub name or path
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool  # whether the output layer is the embedding table
    inner: int = 3  # matrices of the feed-forward part: 2, or 3 with a gate
    positions: int = 0  # of a learned table of positions; 0: there is none

    @property
    def parameters(self) -> int:
        """Number of weights, without norms (thousands among millions)."""
        return self.read_per_step + self.hidden * (self.positions + (0 if self.tied else self.vocabulary))

    @property
    def read_per_step(self) -> int:
        """Weights that every decode step reads: all but an untied embedding, of which it reads a few rows."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        inner = self.inner * self.hidden * self.intermediate
        return self.layers * (attention + inner) + self.vocabulary * self.hidden

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of cache per token: a key and a value in every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES[dtype]


PRESETS: Mapping[str, Architecture] = {
    "tiny": Architecture("qwen3", 4, 512, 8, 2, 64, 1536, 2048, tied=True),
    "gpt2-random": Architecture("gpt2", 12, 768, 12, 12, 64, 3072, 50257, tied=True, inner=2, positions=1024),
    "qwen3-0.6b": Architecture("qwen3", 28, 1024, 16, 8, 128, 3072, 151936, tied=True),
    "qwen3-1.7b": Architecture("qwen3", 28, 2048, 16, 8, 128, 6144, 151936, tied=True),
    "qwen3-8b": Architecture("qwen3", 36, 4096, 32, 8, 128, 12288, 151936, tied=False),
    "llama3-8b": Architecture("llama", 32, 4096, 32, 8, 128, 14336, 128256, tied=False),
}
"""Sizes from the models' published configurations; ``tiny`` is for CPUs and tests."""
