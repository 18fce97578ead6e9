"""Samples of an engine on a device: one prefill, or a burst of decode steps at one context.  Needs torch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch

from llmsched.eval.calibration.architectures import BYTES, Architecture
from llmsched.eval.calibration.campaign import DoesNotFitError
from llmsched.eval.calibration.cells import PREFILL, GridCell
from llmsched.eval.calibration.device.engine import ModelEngine, Slab
from llmsched.eval.calibration.device.hardware import Stopwatch, memory

EAGER, GRAPH = "eager", "cuda-graph"

BURST = 8
"""Decode steps in a sample, all at the cell's context; the sample is their mean."""


def engine_name(engine: str, versions: str) -> str:
    """The description of the engine in the profile."""
    how = "each decode step one CUDA graph" if engine == GRAPH else "eager"
    return f"{versions}; packed prefill, contiguous preallocated KV cache, SDPA, greedy; {how}"


def bytes_needed(sizes: Architecture, cell: GridCell, dtype: str) -> int:
    """Bytes of a cell besides the weights: cache, activations of the widest layer, logits."""
    tokens = cell.total if cell.phase == PREFILL else cell.batch
    widest = 6 * sizes.hidden + 3 * sizes.intermediate + 4 * sizes.heads * sizes.head_dim
    logits = cell.batch * sizes.vocabulary * (BYTES[dtype] + 4)
    return cell.total * sizes.kv_bytes_per_token(dtype) + tokens * widest * BYTES[dtype] + logits


class TorchMeasurer:
    """campaign.Measurer of a real model.  Every cell is warmed up once before its first sample."""

    def __init__(self, engine: ModelEngine, sizes: Architecture, dtype: str, mode: str) -> None:
        self.engine, self.sizes, self.dtype, self.mode = engine, sizes, dtype, mode
        self._timed = Stopwatch(engine.device)
        self._warm: set[GridCell] = set()

    def sample(self, cell: GridCell) -> float:
        """Milliseconds of one prefill, or of one decode step; raises ``DoesNotFitError``."""
        if bytes_needed(self.sizes, cell, self.dtype) > memory(self.engine.device)[0]:
            raise DoesNotFitError
        try:
            return self._prefill(cell) if cell.phase == PREFILL else self._decode(cell)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU allocator raises a plain one
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
        finally:
            if self.engine.device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
        raise DoesNotFitError

    def serve(self, prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        """Run one batch to completion, all rows to the longest output; ms to the first token, and then to the end."""
        engine = self.engine
        slab, ids = engine.slab(prompts, max(outputs)), engine.prompt_ids(prompts)
        positions = torch.tensor(slab.prompts, device=engine.device)
        tokens = torch.empty(0)

        def first() -> None:
            nonlocal tokens
            tokens = engine.prefill(slab, ids)

        def rest() -> None:
            nonlocal tokens, positions
            for _ in range(max(outputs) - 1):
                tokens = engine.step(slab, tokens, positions)
                positions = positions + 1

        return self._timed(first), self._timed(rest)

    def _prefill(self, cell: GridCell) -> float:
        prompts = [cell.tokens] * cell.batch
        ids, slab = self.engine.prompt_ids(prompts), self.engine.slab(prompts, 1)

        def work() -> None:
            slab.filled = 0
            self.engine.prefill(slab, ids)

        if cell not in self._warm:
            work()
            self._warm.add(cell)
        return self._timed(work)

    def _decode(self, cell: GridCell) -> float:
        slab = self.engine.slab([cell.tokens - 1] * cell.batch, 1)
        slab.keys.normal_()
        slab.values.normal_()
        step = (self._graph if self.mode == GRAPH else self._eager)(slab, cell)
        for _ in range(2):
            step()

        def burst() -> None:
            for _ in range(BURST):
                step()

        return self._timed(burst) / BURST

    def _eager(self, slab: Slab, cell: GridCell) -> Callable[[], None]:
        tokens = torch.zeros(cell.batch, dtype=torch.long, device=self.engine.device)
        positions = tokens + slab.longest

        def step() -> None:
            slab.filled = slab.longest
            self.engine.step(slab, tokens, positions)

        return step

    def _graph(self, slab: Slab, cell: GridCell) -> Callable[[], None]:
        step = self._eager(slab, cell)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay
