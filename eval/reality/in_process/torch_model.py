"""A model of Transformers that serves rows which come and go: the engine that is calibrated, with a shared cache.

Needs torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from llmsched.eval.calibration.architectures import PRESETS
from llmsched.eval.calibration.device.engine import ModelEngine
from llmsched.eval.calibration.device.hardware import device_name, device_of, keep_freed_memory, memory
from llmsched.eval.calibration.device.models import architecture_of, config_of, load, say_less
from llmsched.eval.reality.in_process.rows import SPARE_COLUMNS, RowSlab

MEMORY_SHARE = 0.5
"""Share of the memory beside the weights that the KV cache may take, where ``--kv-tokens`` does not say it: while it
is moved there are two of it."""

WARM = {0: np.full(24, 11), 1: np.full(8, 11)}
"""Prompts that are computed before anything is measured."""


class TorchModel:
    """loop.Model of a ModelEngine."""

    def __init__(self, engine: ModelEngine) -> None:
        self.engine = engine
        self.positions = int(getattr(engine.model.config, "max_position_embeddings", 0) or 2**31)
        self.numbers: list[int] = []
        self._slab: RowSlab | None = None
        self._tokens = self._places = torch.empty(0, dtype=torch.long, device=engine.device)

    def start(self, prompts: Mapping[int, NDArray[np.int64]], reach: int) -> dict[int, int]:
        """Compute prompts in one pass, without padding, and add their rows; their first tokens."""
        try:
            return self._start(prompts, reach)
        except RuntimeError as error:
            raise self._refused(error) from None

    def _start(self, prompts: Mapping[int, NDArray[np.int64]], reach: int) -> dict[int, int]:
        lengths = [len(prompt) for prompt in prompts.values()]
        device = self.engine.device
        ids = torch.from_numpy(np.concatenate(list(prompts.values()))).to(device)[None]
        alone = self._slab is None
        new = self.engine.slab(lengths, max(0, reach + SPARE_COLUMNS - max(lengths)) if alone else 0)
        first = self.engine.prefill(new, ids)
        if self._slab is None:
            self._slab = RowSlab(new)
        else:
            self._slab.join(new, reach)
        self.numbers += prompts
        self._tokens = torch.cat([self._tokens, first])
        self._places = torch.cat([self._places, torch.tensor(lengths, device=device)])
        return dict(zip(prompts, first.tolist(), strict=True))

    def step(self, reach: int) -> dict[int, int]:
        """One more token of every row."""
        assert self._slab is not None
        try:
            self._slab.make_room(reach)
            self._tokens = self.engine.step(self._slab, self._tokens, self._places)
        except RuntimeError as error:
            raise self._refused(error) from None
        self._places = (self._places + 1).clamp(max=self.positions - 1)  # of rows that are held; nobody reads them
        return dict(zip(self.numbers, self._tokens.tolist(), strict=True))

    def drop(self, numbers: Iterable[int]) -> None:
        """These rows leave; the last ones take their places."""
        gone = set(numbers)
        if gone.issuperset(self.numbers):
            self.clear()
            return
        assert self._slab is not None
        order = self._slab.leave([row for row, number in enumerate(self.numbers) if number in gone])
        self.numbers = [self.numbers[row] for row in order]
        rows = torch.tensor(order, device=self.engine.device)
        self._tokens, self._places = self._tokens[rows], self._places[rows]

    def clear(self) -> None:
        """Nobody is in service."""
        self.numbers, self._slab = [], None
        self._tokens, self._places = self._tokens[:0], self._places[:0]

    def _refused(self, error: RuntimeError) -> Exception:
        """What to raise for an error of torch: `MemoryError` where memory was missing."""
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            return error
        self.clear()
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        return MemoryError("not enough memory")


class Loaded:
    """The model that the options name, on its device, warm.  ``ValueError`` in one line where that fails.

    ``facts``: what a run depends on; ``kv_tokens``: tokens that fit beside the weights.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        kv_tokens, device = options.kv_tokens, device_of(options.device)
        say_less()
        if device.type == "cpu":
            torch.set_num_threads(options.threads)
            keep_freed_memory()
        else:
            torch.cuda.set_device(device)
        torch.manual_seed(0)
        config = config_of(options.model)
        random = options.random_weights or options.model in PRESETS
        model = load(options.model, config, device, options.dtype, random_weights=random)
        self.model = TorchModel(ModelEngine(model))
        per_token = architecture_of(config).kv_bytes_per_token(options.dtype)
        self.kv_tokens = int(kv_tokens or MEMORY_SHARE * memory(device)[0] / per_token)
        self.facts = {
            "model": options.model,
            "weights": "random" if random else "real",
            "device": device_name(device, options.threads),
            "dtype": options.dtype,
            "kv_tokens": kv_tokens,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        self._warm()

    def _warm(self) -> None:
        """Compute what a first use would have to wait for."""
        self.model.start(WARM, 64)
        for _ in range(4):
            self.model.step(64)
        self.model.clear()
