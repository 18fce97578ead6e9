"""Latency profiles: what a server costs, read from JSON and checked (no code is executed)."""

from __future__ import annotations

from dataclasses import dataclass, field

FORMS = ("split", "tokens", "batch-length")


@dataclass(frozen=True)
class Profile:
    """Latency of one server (a GPU or tensor-parallel group) for one model.

    ``coefficients`` are in ms and tokens, named as in docs/semantics.md: ``split``: d0 d1 d2 p0 p1 p2;
    ``tokens``: w0 e0 w1 a_p a_d; ``batch-length``: a beta g.
    """

    name: str
    form: str
    coefficients: dict[str, float]
    kv_tokens: float  # KV capacity in tokens, inf where there is no limit
    tensor_parallel: int = 1
    length: str = "output"  # batch-length only: "output" or "total"
    noise_sigma: float = 0.0
    meta: dict = field(default_factory=dict, hash=False, compare=False)  # gpu, model, source, errors, caveats
