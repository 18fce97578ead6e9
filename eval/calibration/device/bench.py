"""A model on its device, ready to be measured, and the description of both for the profile.  Needs torch."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from llmsched.eval.calibration import campaign
from llmsched.eval.calibration.architectures import BYTES, PRESETS
from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell
from llmsched.eval.calibration.device.engine import ModelEngine
from llmsched.eval.calibration.device.hardware import (
    clock_name,
    copy_bandwidth,
    device_name,
    device_of,
    keep_freed_memory,
    memory,
)
from llmsched.eval.calibration.device.measurer import TorchMeasurer, bytes_needed, engine_name
from llmsched.eval.calibration.device.models import architecture_of, config_of, load, say_less
from llmsched.eval.calibration.device.quiet import Undisturbed
from llmsched.eval.calibration.rows import Setup

MEMORY_SHARE = 0.9
"""Share of the device's memory that weights, activations and cache may take together."""


class Bench:
    """The model loaded on the device as the options of calibrate.py ask; ``ValueError`` where that fails."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = device_of(options.device)
        say_less()
        if self.device.type == "cpu":
            torch.set_num_threads(options.threads)
            keep_freed_memory()
        else:
            torch.cuda.set_device(self.device)
        torch.manual_seed(options.seed)
        config = config_of(options.model)
        self.sizes = architecture_of(config)
        self.random = options.random_weights or options.model in PRESETS
        self.engine = ModelEngine(load(options.model, config, self.device, options.dtype, random_weights=self.random))
        given = options.bandwidth
        self.bandwidth = 1e9 * given if given else copy_bandwidth(self.device)
        versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
        self.setup = Setup(
            model=options.model,
            device=device_name(self.device, options.threads),
            dtype=options.dtype,
            engine=engine_name(options.engine, versions),
            clock=clock_name(self.device),
        )

    @property
    def name(self) -> str:
        """``DEVICE_MODEL``, in letters, digits and dashes."""
        return "_".join(
            re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in (self.setup.device, self.setup.model)
        )

    def measurer(self) -> Undisturbed:
        """The measurer of this bench; on a CPU it repeats samples that other programs disturbed."""
        options = self.options
        patience = options.patience if self.device.type == "cpu" else 0.0
        return Undisturbed(TorchMeasurer(self.engine, self.sizes, options.dtype, options.engine), patience)

    def floors(self, cells: Sequence[GridCell]) -> dict[GridCell, float]:
        """Milliseconds to read weights and cache once, by decode cell: no engine is faster."""
        width = BYTES[self.options.dtype]
        kv, weights = self.sizes.kv_bytes_per_token(self.options.dtype), width * self.sizes.read_per_step
        return {c: (weights + kv * c.total) / self.bandwidth * 1e3 for c in cells if c.phase == DECODE}

    def kv_tokens(self, cells: Sequence[GridCell]) -> int:
        """Tokens of cache beside the weights and the activations of the largest prefill."""
        dtype = self.options.dtype
        weights = self.sizes.parameters * BYTES[dtype]
        work = max(
            bytes_needed(self.sizes, c, dtype) - c.total * self.sizes.kv_bytes_per_token(dtype)
            for c in cells
            if c.phase == PREFILL
        )
        free = MEMORY_SHARE * memory(self.device)[1] - weights - work
        return max(2, int(free // self.sizes.kv_bytes_per_token(dtype)))

    def about(self, plan: campaign.MeasurementPlan, out: Path, rows: Path) -> Mapping[str, Any]:
        """The fields of the profile besides coefficients and errors."""
        options, given = self.options, self.options.kv_tokens
        weights = "random, from the configuration (latency does not depend on them)" if self.random else "real"
        caveats = [
            "KV capacity was given"
            if given
            else f"KV capacity is {MEMORY_SHARE:.0%} of the memory less weights and "
            "activations, divided by the bytes of a token: computed, not measured",
        ]
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return {
            "kv_tokens": given or self.kv_tokens(plan.cells),
            "kv_bytes_per_token": self.sizes.kv_bytes_per_token(options.dtype),
            "weights": weights,
            "bandwidth_gb_s": round(self.bandwidth / 1e9, 1),
            "source": "measured by data/calibrate.py",
            "measured_on": {
                "date": datetime.now(UTC).date().isoformat(),
                "system": platform.system(),
                "cores": os.cpu_count(),
                "load_average": None if load is None else round(load, 2),
            },
            "campaign": {"repeats": plan.repeats, "seed": plan.seed, "most_cv": plan.most_cv},
            "range": {
                "batches": options.batches,
                "prompts": options.prompts,
                "contexts": options.contexts,
                "prefill_tokens": max(c.total for c in plan.cells if c.phase == PREFILL),
            },
            "rows": os.path.relpath(rows, out.parent).replace(os.sep, "/"),
            "caveats": caveats,
        }
