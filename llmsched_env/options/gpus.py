"""Memory of GPUs, as the device reports it."""

from __future__ import annotations

GIB = 2**30
"""Bytes."""

MEMORY_GIB = {
    "RTX4090": 23.5,
    "RTXPRO6000": 95.0,
    "A100": 79.2,
    "H100": 79.2,
    "H200": 139.8,
    "B200": 178.4,
    "B300": 268.0,
    "L40S": 44.5,
}
"""Memory that a GPU reports, GiB, by a word in its name without spaces (vendors' data sheets; logs of engines)."""


def memory_gib(gpu: str) -> float | None:
    """Memory of a GPU by its name (``NVIDIA H100 80GB HBM3``, ``h100-80gb``), GiB; None where it is not known."""
    words = gpu.replace(" ", "").upper()
    return next((gib for name, gib in MEMORY_GIB.items() if name in words), None)
