"""The device that is measured: its name, memory, bandwidth and clock.  Needs torch."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

from llmsched.eval.runs.machine import processor

COPY_BYTES = 1 << 28


def device_of(text: str) -> torch.device:
    """The device ``cpu``, ``cuda`` or ``cuda:N``; ``ValueError`` where this machine does not have it."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise ValueError(f"--device {text!r} is not known: give cpu, cuda or cuda:N.")
    device = torch.device(text)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise ValueError(f"--device {text}: torch {torch.__version__} sees {count} CUDA devices here. Give cpu.")
    return torch.device("cuda", device.index or 0)


def device_name(device: torch.device, threads: int) -> str:
    """The name of the device in the profile."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {threads} thread{'s' * (threads > 1)}"


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes of memory of the device: available to this process now, and in all."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return int(text.split("MemAvailable:")[1].split()[0]) * 1024, total
    except (OSError, IndexError):
        return page * os.sysconf("SC_AVPHYS_PAGES"), total


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory, in blocks of up to 32 MiB; return whether it can (glibc).

    Otherwise freed memory returns to the system and is mapped again in every step, page by page: on a virtual machine
    most of the noise of short steps on a CPU.  Serving engines and torch on CUDA keep their memory as well.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_* of malloc.h
    never, largest, growth = -1, 32 << 20, 64 << 20
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    wanted = ((trim_threshold, never), (mmap_threshold, largest), (top_pad, growth))
    return min(mallopt(name, value) for name, value in wanted) == 1


class Stopwatch:
    """Times a piece of work in milliseconds, by events (CUDA) or wall time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def __call__(self, work: Callable[[], object]) -> float:
        """Run ``work``; return its milliseconds.  Python's garbage collection is off meanwhile."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._events(work) if self._cuda else self._host(work)
        finally:
            if collects:
                gc.enable()

    def _events(self, work: Callable[[], object]) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def _host(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1e3


def clock_name(device: torch.device) -> str:
    """The name of the clock in the profile."""
    return "CUDA events" if device.type == "cuda" else "wall"


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second that a copy reads and writes, the best of five."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target, timed = torch.empty_like(source), Stopwatch(device)
    best = min(timed(lambda: target.copy_(source)) for _ in range(5))
    return 2 * COPY_BYTES / best * 1e3
