"""The model with its shared cache gives every request the tokens that Transformers gives it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: make test-transformers")
pytest.importorskip("transformers", reason="transformers is not installed: make test-transformers")

import torch
import transformers

from llmsched.eval.calibration.architectures import PRESETS, Architecture
from llmsched.eval.calibration.device.engine import ModelEngine
from llmsched.eval.calibration.device.models import architecture_of, config_of
from llmsched.eval.reality.in_process.loop import ServingLoop
from llmsched.eval.reality.in_process.rows import SPARE_COLUMNS, SPARE_ROWS
from llmsched.eval.reality.in_process.rules import SCHEDULERS, parse
from llmsched.eval.reality.in_process.torch_model import TorchModel
from llmsched_env.requests import Requests
from tests.reality.in_process.stand_in import some

SHAPES = {
    "qwen3": Architecture("qwen3", 3, 64, 4, 2, 16, 96, 300, tied=True),
    "llama": Architecture("llama", 2, 64, 4, 1, 16, 96, 300, tied=False),
    "gpt2": Architecture("gpt2", 3, 64, 4, 4, 16, 128, 300, tied=True, inner=2, positions=160),
}
"""Small models of every family with random weights."""


def plain(family: str) -> Any:
    """A model as Transformers makes it, float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmsched.eval.calibration.device.models.PRESETS", {"small": SHAPES[family]})
        config = config_of("small")
    torch.manual_seed(3)
    torch.set_num_threads(1)  # tests run beside each other
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.0)  # answers that depend on their prompts: at first all are one token over and over
    return model


@pytest.fixture(scope="module", params=list(SHAPES))
def family(request: pytest.FixtureRequest) -> str:
    """A family of models."""
    return str(request.param)


@pytest.fixture(scope="module")
def alone(family: str) -> Any:
    """The greedy answer of Transformers' own `generate` to one prompt by itself."""
    model = plain(family)

    def answer(prompt: np.ndarray, tokens: int) -> list[int]:
        """``tokens`` tokens after a prompt."""
        ids = torch.from_numpy(prompt)[None]
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, eos_token_id=None
            )
        return found[0, len(prompt) :].tolist()

    return answer


@pytest.fixture(scope="module", params=[True, False], ids=["as on a CPU", "as on CUDA"])
def model(family: str, request: pytest.FixtureRequest) -> TorchModel:
    """The model that serves; ``by_row`` is how it attends on a CPU, one masked pass over all rows is CUDA's way."""
    return TorchModel(ModelEngine(plain(family), by_row=request.param))


class Ticks:
    """A clock on which every pass of the model takes a second."""

    def __init__(self, model: TorchModel) -> None:
        self.model, self.time = model, 0.0

    def now(self) -> float:
        """Seconds."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        self.time += seconds

    def start(self, prompts: Mapping[int, Any], reach: int) -> dict[int, int]:
        """As the model."""
        self.time += 1.0
        return self.model.start(prompts, reach)

    def step(self, reach: int) -> dict[int, int]:
        """As the model."""
        self.time += 1.0
        return self.model.step(reach)

    def drop(self, numbers: Any) -> None:
        """As the model."""
        self.model.drop(numbers)


def serve(model: TorchModel, text: str, requests: Requests) -> ServingLoop:
    """A run in which a second is one pass."""
    model.clear()
    ticks = Ticks(model)
    loop = ServingLoop(requests, parse(text)(), ticks, kv_tokens=10**6, timeout_s=1e9, seed=1, clock=ticks)
    loop.run()
    return loop


@pytest.mark.parametrize("name", [*SCHEDULERS, "iterative:batch=5"])
def test_tokens_are_those_of_generate(model: TorchModel, alone: Any, name: str) -> None:
    """Left padding, masks, positions, rows that join, leave and move change nobody's tokens."""
    requests = some(np.random.default_rng(4), 24, 2.0, 40)
    loop = serve(model, name, requests)
    assert max(loop.batches) > 3
    for job, prompt, tokens in zip(loop.jobs, loop.prompts, loop.produced, strict=True):
        assert tokens == alone(prompt, job.tokens), f"request {job.number}"
    assert len({tuple(tokens[-3:]) for tokens in loop.produced}) > 10  # they differ: a mix-up would be seen


def test_who_joins_changes_nobody_else(model: TorchModel) -> None:
    """A batch under way gives the same tokens with and without a request that joins it, longer than all others."""
    times, prompts, tokens = np.array([0.0, 0.0, 9.0]), np.array([9, 30, 80]), np.array([60, 50, 20])
    few = serve(model, "iterative", Requests.checked(times[:2], prompts[:2], tokens[:2]))
    more = serve(model, "iterative", Requests.checked(times, prompts, tokens))
    assert more.batches == [2, 3] and more.produced[:2] == few.produced


def test_a_cache_that_is_moved_and_grows(model: TorchModel, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without spare room every join and nearly every step moves it."""
    monkeypatch.setattr("llmsched.eval.reality.in_process.rows.SPARE_ROWS", 0)
    for module in ("rows", "torch_model"):
        monkeypatch.setattr(f"llmsched.eval.reality.in_process.{module}.SPARE_COLUMNS", 0)
    requests = some(np.random.default_rng(6), 20, 3.0, 30)
    loop = serve(model, "iterative", requests)
    for job, prompt, tokens in zip(loop.jobs, loop.prompts, loop.produced, strict=True):
        assert tokens == alone(prompt, job.tokens)


def test_the_cache_is_no_larger_than_the_loop_counts(model: TorchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows times the longest, and the spare room."""
    seen: list[tuple[int, int, int]] = []
    step = TorchModel.step

    def watched(self: TorchModel, reach: int) -> dict[int, int]:
        """A step, and the size of the cache after it."""
        found = step(self, reach)
        assert self._slab is not None
        seen.append((self._slab._keys.shape[1], self._slab.columns, reach))
        return found

    monkeypatch.setattr(TorchModel, "step", watched)
    loop = serve(model, "iterative:batch=6", some(np.random.default_rng(8), 80, 2.0, 40))
    assert max(rows for rows, _, _ in seen) <= max(loop.batches) + SPARE_ROWS
    longest = max(job.prompt + job.tokens for job in loop.jobs)
    assert max(columns for _, columns, _ in seen) <= longest + SPARE_COLUMNS


def test_memory_that_is_missing(model: TorchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises becomes `MemoryError`, and the model is empty; another error of torch stays what it is."""

    def refuse(*_: Any) -> None:
        """Torch's words."""
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    model.clear()
    prompt = {0: np.arange(20, 30)}
    model.start(prompt, 20)
    monkeypatch.setattr(model.engine, "step", refuse)
    with pytest.raises(MemoryError):
        model.step(20)
    assert model.numbers == []
    monkeypatch.setattr(model.engine, "prefill", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        model.start(prompt, 20)


def test_the_shape_of_gpt2() -> None:
    """124 million weights, and the sizes that the configuration of Transformers gives back."""
    sizes = PRESETS["gpt2-random"]
    assert architecture_of(config_of("gpt2-random")) == sizes
    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(config_of("gpt2-random"))
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(sizes.parameters, rel=0.002)
    assert sizes.parameters == pytest.approx(124.4e6, rel=0.002)
