"""A profile where nothing was measured: a model's sizes over a GPU's peak figures, and three shares that stacks reach.

A decode step reads the weights that it touches and the cache, at the bandwidth; tokens cost arithmetic, at the peak;
GPUs that share a model exchange its hidden state twice a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmsched.eval.calibration.model_shape import ModelShape
from llmsched_env.options.gpus import GIB
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.profiles import Profile

BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}
"""Bytes of a weight; fp4 with a scale of a byte for every 16 weights."""

CACHE_BYTES = 2.0
"""Bytes of a number in the KV cache, and of an activation."""

BANDWIDTH_SHARE, ARITHMETIC_SHARE, LAYER_US, EXCHANGE_US = 0.9, 0.35, 18.0, 29.0
"""What stacks reach: shares of the peak bandwidth and arithmetic; us lost per layer of a step, and per exchange.

Chosen on the configurations of H100 in the atlas alone; eval/estimate.py prints the error on the others."""

MEMORY_SHARE, WORKSPACE_GIB = 0.9, 2.0
"""Memory that an engine takes, and what of it is neither weights nor cache."""


@dataclass(frozen=True)
class Gpu:
    """Peak figures: bandwidth and link in bytes/s, arithmetic in operations/s by precision (dense), memory in GiB."""

    name: str
    bandwidth: float
    operations: Mapping[str, float]
    memory_gib: float
    link: float


def _gpu(
    name: str, tb_s: float, tera: tuple[float, float, float], gib: float, link_gb_s: float, us: float = 5.0
) -> Gpu:
    operations = {precision: 1e12 * value for precision, value in zip(BYTES, tera, strict=True) if value}
    return Gpu(name, 1e12 * tb_s, operations, gib, 1e9 * link_gb_s)


GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("a100", 2.039, (312, 0, 0), 79.2, 300),
        _gpu("h100", 3.35, (989, 1979, 0), 79.2, 450),
        _gpu("h200", 4.8, (989, 1979, 0), 139.8, 450),
        _gpu("b200", 8.0, (2250, 4500, 9000), 178.4, 900),
        _gpu("b300", 8.0, (2250, 4500, 13500), 268.0, 900),
        _gpu("l40s", 0.864, (362, 733, 0), 44.5, 32),
        _gpu("rtx4090", 1.008, (165, 330, 0), 23.5, 16),
    )
}
"""Vendors' data sheets, dense arithmetic, one direction of the link."""


def known_gpu(name: str) -> Gpu:
    """A GPU by its name; ``ValueError`` names the nearest."""
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    close = did_you_mean(name, GPUS)
    raise ValueError(f"GPU {name!r} is not known.{close} Known: {', '.join(GPUS)}; or give its peak figures.")


@dataclass(frozen=True)
class Shares:
    """What of the peaks is reached, and us lost per layer and per exchange."""

    bandwidth: float = BANDWIDTH_SHARE
    arithmetic: float = ARITHMETIC_SHARE
    layer_us: float = LAYER_US
    exchange_us: float = EXCHANGE_US


REACHED = Shares()


def estimate(shape: ModelShape, gpu: Gpu, gpus: int, precision: str, shares: Shares = REACHED) -> Profile:
    """The profile of ``shape`` on ``gpus`` GPUs; ``ValueError`` where it does not fit or the precision is missing."""
    if precision not in gpu.operations:
        raise ValueError(f"{gpu.name} has no {precision} arithmetic: give one of {', '.join(gpu.operations)}.")
    weight, n = BYTES[precision], float(gpus)
    read = 1e3 / (n * gpu.bandwidth * shares.bandwidth)  # ms a byte
    compute = 1e3 / (n * gpu.operations[precision] * shares.arithmetic)  # ms an operation
    head = shape.vocabulary * shape.hidden
    always = shape.layers * (shape.attention_weights + (0 if shape.experts else shape.expert_weights))
    experts = shape.layers * shape.experts * shape.expert_weights
    per_token = always + head + shape.layers * shape.experts_per_token * shape.expert_weights
    exchange, waits = _exchange_ms(shape, gpu, gpus, shares)
    own = {
        "d0": read * (weight * always + CACHE_BYTES * head) + 1e-3 * shares.layer_us * shape.layers + waits,
        "d1": 2.0 * compute * per_token + exchange,
        "d2": read * CACHE_BYTES * shape.kv_numbers_per_token,
        "p0": 0.0,
        "p1": 2.0 * compute * (per_token - head) + exchange,
        "p2": 2.0 * compute * shape.layers * shape.heads * shape.head_dim,
    }
    own["p0"] = own["d0"] + read * weight * experts
    kv_tokens = cache_tokens(shape, gpu, gpus, weight)
    if kv_tokens < 16:
        raise ValueError(
            f"{shape.name} in {precision} does not fit into {gpus} x {gpu.memory_gib:g} GiB: give more GPUs."
        )
    form = "split"
    if shape.experts:
        form = "experts"
        own |= {"e0": read * weight * experts, "e1": shape.experts_per_token / shape.experts, "h0": 0.0}
    name = f"estimated/{gpu.name}/{shape.name.lower()}/{precision}-tp{gpus}"
    return Profile(name, form, own, kv_tokens, tensor_parallel=gpus)


def cache_tokens(shape: ModelShape, gpu: Gpu, gpus: int, weight_bytes: float) -> float:
    """Tokens of the KV cache that ``gpus`` GPUs have beside the weights, whole blocks of 16; below 16: no room."""
    head = shape.vocabulary * shape.hidden
    weights = weight_bytes * (shape.weights - 2 * head) + 2 * CACHE_BYTES * head
    memory = gpus * GIB * (MEMORY_SHARE * gpu.memory_gib - WORKSPACE_GIB) - weights
    return 16.0 * (memory / (CACHE_BYTES * shape.kv_numbers_per_token) // 16)


def _exchange_ms(shape: ModelShape, gpu: Gpu, gpus: int, shares: Shares) -> tuple[float, float]:
    """(ms a token, ms a step) of the exchanges between GPUs: a ring, twice a layer."""
    if gpus == 1:
        return 0.0, 0.0
    size = CACHE_BYTES * shape.hidden * 2.0 * (gpus - 1) / gpus
    return 2e3 * shape.layers * size / gpu.link, 2e-3 * shape.layers * shares.exchange_us
