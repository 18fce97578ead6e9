"""The settings of a logged vLLM run, read from the JSON that was written beside the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_env.files.reading import CannotReadError, read_json

SHARE = 0.9
"""vLLM's gpu_memory_utilization where the run does not state it."""

WORKSPACE_GIB = 1.2
"""Memory for activations and CUDA graphs, GiB, where the capacity of the cache is estimated."""

ASYNCHRONOUS_SINCE = (0, 14)
"""Version of vLLM from which on GPUs schedule asynchronously by default."""


@dataclass(frozen=True)
class EngineMeta:
    """What a run was made with; ``kv_tokens`` None: not stated.  ``graphs``: numbers of tokens with a CUDA graph."""

    model: str
    version: str
    max_seqs: int
    token_budget: float
    tensor_parallel: int
    replicas: int
    prefix_cache: bool
    kv_tokens: float | None
    memory_bytes: float | None
    memory_share: float
    graphs: tuple[int, ...]
    asynchronous: bool


def read_meta(path: Path) -> EngineMeta:
    """The settings in ``path``; ``ValueError`` with one line that names the field and what is allowed."""
    try:
        raw = read_json(path)
    except CannotReadError as error:
        raise ValueError(f"--engine {str(path)!r}: {error}.") from None
    if type(raw) is not dict or type(raw.get("engine_kwargs")) is not dict:
        raise ValueError(f"--engine {str(path)!r}: no object 'engine_kwargs' with the settings of the engine.")
    given, cache, hardware = raw["engine_kwargs"], raw.get("kv_cache") or {}, raw.get("hardware") or {}
    model = raw.get("model") or given.get("model")
    if not isinstance(model, str) or not model:
        raise ValueError(f"--engine {str(path)!r}: the field 'model' is missing.")
    memory = hardware.get("device_total_memory_bytes")
    return EngineMeta(
        model=model,
        version=str(raw.get("vllm_version", "")),
        max_seqs=_whole(path, given, "max_num_seqs"),
        token_budget=float(_whole(path, given, "max_num_batched_tokens")),
        tensor_parallel=_whole(path, given, "tensor_parallel_size", 1),
        replicas=_whole(path, given, "data_parallel_size", 1),
        prefix_cache=bool(cache.get("enable_prefix_caching", given.get("enable_prefix_caching", True))),
        kv_tokens=_kv_tokens(path, cache),
        memory_bytes=float(memory) if isinstance(memory, (int, float)) and memory > 0 else None,
        memory_share=float(cache.get("gpu_memory_utilization", given.get("gpu_memory_utilization", SHARE))),
        graphs=_graphs(raw, given),
        asynchronous=_asynchronous(raw, given),
    )


def _graphs(raw: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[int, ...]:
    """Those that the run states, or vLLM's default for its number of sequences; none where it ran without."""
    if given.get("enforce_eager"):
        return ()
    stated = ((raw.get("resolved_config") or {}).get("compilation_config") or {}).get("cudagraph_capture_sizes")
    if isinstance(stated, list) and all(type(size) is int and size > 0 for size in stated):
        return tuple(sorted(stated))
    most = min(2 * given["max_num_seqs"], 512)
    return tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)) if size <= most)


def _asynchronous(raw: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether the engine composes a step while the one before it runs: as stated, or by default of its version."""
    stated = given.get("async_scheduling")
    if stated is None:
        stated = ((raw.get("resolved_config") or {}).get("scheduler_config") or {}).get("async_scheduling")
    if stated is not None:
        return bool(stated)
    parts = str(raw.get("vllm_version", "")).split(".")[:2]
    return len(parts) == 2 and all(part.isdigit() for part in parts) and tuple(map(int, parts)) >= ASYNCHRONOUS_SINCE


def _whole(path: Path, given: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = given.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not int or value < 1:
        raise ValueError(
            f"--engine {str(path)!r}: engine_kwargs.{name}={value!r} is not allowed: give a whole number of at least 1."
        )
    return value


def _kv_tokens(path: Path, cache: Mapping[str, Any]) -> float | None:
    """Tokens of the cache: its blocks without the one that vLLM keeps for itself."""
    blocks, size = cache.get("num_gpu_blocks"), cache.get("block_size", 16)
    if blocks is None:
        return None
    if type(blocks) is not int or type(size) is not int or blocks < 2 or size < 1:
        raise ValueError(
            f"--engine {str(path)!r}: kv_cache with num_gpu_blocks={blocks!r}, block_size={size!r} is not allowed: "
            "give whole numbers, at least 2 blocks."
        )
    return float((blocks - 1) * size)
