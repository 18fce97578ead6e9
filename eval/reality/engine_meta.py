"""The settings of a logged vLLM run, read from the JSON that was written beside the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_env.core.constants import MAX_SERVERS
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.showing import shortened

SHARE = 0.9
"""vLLM's gpu_memory_utilization where the run does not state it."""

WORKSPACE_GIB = 1.2
"""Memory for activations and CUDA graphs, GiB, where the capacity of the cache is estimated."""

MOST = 10**9
"""The largest whole number that is read."""

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
    given, cache, hardware = raw["engine_kwargs"], _part(path, raw, "kv_cache"), _part(path, raw, "hardware")
    resolved = _part(path, raw, "resolved_config")
    model = raw.get("model") or given.get("model")
    if not isinstance(model, str) or not model:
        raise ValueError(f"--engine {str(path)!r}: the field 'model' is missing.")
    return EngineMeta(
        model=model,
        version=str(raw.get("vllm_version", "")),
        max_seqs=_whole(path, given, "max_num_seqs"),
        token_budget=float(_whole(path, given, "max_num_batched_tokens")),
        tensor_parallel=_whole(path, given, "tensor_parallel_size", 1),
        replicas=_whole(path, given, "data_parallel_size", 1, MAX_SERVERS),
        prefix_cache=bool(cache.get("enable_prefix_caching", given.get("enable_prefix_caching", True))),
        kv_tokens=_kv_tokens(path, cache),
        memory_bytes=_bytes(hardware.get("device_total_memory_bytes")),
        memory_share=_share(path, cache.get("gpu_memory_utilization", given.get("gpu_memory_utilization", SHARE))),
        graphs=_graphs(_part(path, resolved, "compilation_config"), given),
        asynchronous=_asynchronous(raw, _part(path, resolved, "scheduler_config"), given),
    )


def _part(path: Path, raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under ``name``; empty where there is none."""
    found = raw.get(name)
    if found is not None and type(found) is not dict:
        raise ValueError(f"--engine {str(path)!r}: {name} is {type(found).__name__}: give an object, or leave it out.")
    return found or {}


def _bytes(stated: Any) -> float | None:
    """The memory of the GPU; None where none is stated that can be used."""
    return float(stated) if isinstance(stated, int | float) and 0 < stated < math.inf else None


def _share(path: Path, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise ValueError(
            f"--engine {str(path)!r}: gpu_memory_utilization={shortened(repr(value))} is not allowed: give a number "
            "above 0 and up to 1."
        )
    return float(value)


def _graphs(compilation: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[int, ...]:
    """Those that the run states, or vLLM's default for its number of sequences; none where it ran without."""
    if given.get("enforce_eager"):
        return ()
    stated = compilation.get("cudagraph_capture_sizes")
    if isinstance(stated, list) and all(type(size) is int and size > 0 for size in stated):
        return tuple(sorted(stated))
    most = min(2 * given["max_num_seqs"], 512)
    return tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)) if size <= most)


def _asynchronous(raw: Mapping[str, Any], scheduler: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether the engine composes a step while the one before it runs: as stated, or by default of its version."""
    stated = given.get("async_scheduling")
    if stated is None:
        stated = scheduler.get("async_scheduling")
    if stated is not None:
        return bool(stated)
    parts = str(raw.get("vllm_version", "")).split(".")[:2]
    return len(parts) == 2 and all(part.isdigit() for part in parts) and tuple(map(int, parts)) >= ASYNCHRONOUS_SINCE


def _whole(path: Path, given: Mapping[str, Any], name: str, default: int | None = None, most: int = MOST) -> int:
    value = given.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(
            f"--engine {str(path)!r}: engine_kwargs.{name}={shortened(repr(value))} is not allowed: give a whole "
            f"number from 1 to {most}."
        )
    return value


def _kv_tokens(path: Path, cache: Mapping[str, Any]) -> float | None:
    """Tokens of the cache: its blocks without the one that vLLM keeps for itself."""
    blocks, size = cache.get("num_gpu_blocks"), cache.get("block_size", 16)
    if blocks is None:
        return None
    if type(blocks) is not int or type(size) is not int or not 2 <= blocks <= MOST or not 1 <= size <= MOST:
        about = f"num_gpu_blocks={shortened(repr(blocks))}, block_size={shortened(repr(size))}"
        raise ValueError(
            f"--engine {str(path)!r}: kv_cache with {about} is not allowed: give whole numbers, 2 to {MOST} blocks."
        )
    return float((blocks - 1) * size)
