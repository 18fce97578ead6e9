"""KV memory of the servers of the atlas: the rows do not state it, so it is estimated from the sizes of the model."""

from __future__ import annotations

from collections.abc import Mapping

from llmsched.eval.calibration.model_shape import ModelShape, known_shape
from llmsched.eval.calibration.roofline import BYTES, GPUS, cache_tokens

OTHERS: Mapping[str, ModelShape] = {
    "gpt-oss-120b": ModelShape("gpt-oss-120b", 36, 2880, 64, 8, 64, 2880, 201088, 128, 4),
}
"""Sizes from the published configuration.  Every second layer of it looks back 128 tokens only; here all count, so the
memory is rather too small."""


def kv_tokens(model: str, gpu: str, gpus: int, precision: str) -> int | None:
    """Tokens of the KV cache of a server; None where the sizes of the model or its precision are not known."""
    short = model.rsplit("/", 1)[-1].lower()
    if precision not in BYTES or gpu not in GPUS:
        return None
    try:
        shape = OTHERS[short] if short in OTHERS else known_shape(model)
    except ValueError:
        return None
    tokens = int(cache_tokens(shape, GPUS[gpu], gpus, BYTES[precision]))
    return tokens if tokens >= 16 else None
