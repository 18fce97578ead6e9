"""vLLM's own scheduler classes in virtual time: no model, and a step takes what the form `split` says.

The scheduler, its KV cache manager and its requests are vLLM's.  The loops are those of ``vllm/v1/engine/core.py``:
`step`, and `step_with_batch_queue` with its queue of two, where the time of the host is 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from llmsched.eval.reality.vllm_systems import FIRST_OUTPUT, Stamps, System
from llmsched_env.core.constants import BLOCK_TOKENS

SPINS = 8
"""Empty passes in a row after which nothing but an arrival can change anything."""


@cache
def vllm_config(model: Path) -> Any:
    """A VllmConfig for the model configuration in the folder ``model``, made once: it takes most of a second."""
    from vllm.config import CacheConfig, DeviceConfig, ModelConfig, ParallelConfig, SchedulerConfig, VllmConfig

    shape = ModelConfig(model=str(model), dtype="bfloat16", skip_tokenizer_init=True)
    limits = {"max_num_seqs": 16, "max_num_batched_tokens": 512, "max_model_len": shape.max_model_len}
    return VllmConfig(
        model_config=shape,
        scheduler_config=SchedulerConfig(**limits, enable_chunked_prefill=True, is_encoder_decoder=False),
        cache_config=CacheConfig(block_size=BLOCK_TOKENS, enable_prefix_caching=False),
        parallel_config=ParallelConfig(),
        device_config=DeviceConfig("cpu"),
    )


@cache
def block_hasher() -> Any:
    """What vLLM names the blocks of a request with; made once."""
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

    function = get_hash_fn_by_name("sha256")
    init_none_hash(function)
    return get_request_block_hasher(BLOCK_TOKENS, function)


def make_scheduler(system: System, model: Path, *, scheduler_class: type | None, asynchronous: bool) -> Any:
    """A scheduler on the server of ``system``; without a class vLLM's own.  The prefix cache is on where the tokens of
    the requests are known."""
    import torch
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    config = vllm_config(model)
    limits = config.scheduler_config
    limits.max_num_seqs, limits.max_num_batched_tokens = system.seqs, system.budget
    limits.max_num_scheduled_tokens, limits.async_scheduling = None, asynchronous
    limits.long_prefill_token_threshold, limits.enable_chunked_prefill = system.threshold, system.chunked
    limits.scheduler_reserve_full_isl = system.reserve
    limits.policy = "priority" if system.priority else "fcfs"
    config.cache_config.enable_prefix_caching = bool(system.tokens)
    config.cache_config.num_gpu_blocks = system.blocks + 1  # block 0 is vLLM's null block
    layer = FullAttentionSpec(block_size=BLOCK_TOKENS, num_kv_heads=1, head_size=1, dtype=torch.float32)
    memory = KVCacheConfig(
        num_blocks=system.blocks + 1, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], layer)]
    )
    made = scheduler_class or (AsyncScheduler if asynchronous else Scheduler)
    return made(
        vllm_config=config,
        kv_cache_config=memory,
        structured_output_manager=StructuredOutputManager(config),
        block_size=BLOCK_TOKENS,
        log_stats=False,
    )


class VirtualEngine:
    """One run of a system by a scheduler of vLLM.

    ``predicted``: what the requests tell about their output; None: nothing.  ``prepare`` is called with the scheduler
    before the run, ``before`` with the engine before every pass.
    """

    def __init__(
        self,
        system: System,
        model: Path,
        *,
        asynchronous: bool = False,
        scheduler_class: type | None = None,
        predicted: Sequence[int] | None = None,
        prepare: Callable[[VirtualEngine], None] | None = None,
    ) -> None:
        self.system, self.asynchronous = system, asynchronous
        self.scheduler = make_scheduler(system, model, scheduler_class=scheduler_class, asynchronous=asynchronous)
        self.now = self.free_at = 0.0
        self._predicted = predicted
        self._next = 0
        n = len(system.arrival)
        self.first: list[float | None] = [None] * n
        self.done: list[float | None] = [None] * n
        self.preempted = [0] * n
        self.cached = [0] * n
        self.steps = 0
        self._to_prefill: dict[str, int] = {}  # tokens that the present stay of a request begins with
        if prepare is not None:
            prepare(self)

    @property
    def more_to_come(self) -> bool:
        """Whether requests are still to arrive."""
        return self._next < len(self.system.arrival)

    def run(self) -> Stamps:
        """Run to the end, or until a request stands still for ever."""
        under_way: deque[tuple[float, Any, set[str]]] = deque()
        depth = 2 if self.asynchronous else 1
        spins = 0
        while True:
            if not self.scheduler.has_requests() and not under_way:
                if not self.more_to_come:
                    break
                self.now = max(self.now, self.system.arrival[self._next])
            self._arrive()
            if self.scheduler.has_requests():
                out = self.scheduler.schedule()
                self._note_preemptions(out)
                worked = out.total_num_scheduled_tokens > 0
                start = max(self.now, self.free_at)
                if worked:
                    self.free_at = start + self._duration(out)
                    self.steps += 1
                under_way.append((self.free_at if worked else start, out, self._sampling(out)))
                works = any(one.total_num_scheduled_tokens for _, one, _ in under_way)
                spins = 0 if works else spins + 1
                if len(under_way) < depth and (worked or self.scheduler.has_requests()):
                    continue
            end, out, sampling = under_way.popleft()
            self.now = max(self.now, end)
            self._update(out, sampling)
            if spins >= SPINS and self.scheduler.get_num_unfinished_requests():
                if not self.more_to_come:
                    break
                self.now, spins = max(self.now, self.system.arrival[self._next]), 0
        found = tuple(self.cached) if self.system.tokens else ()
        return Stamps(tuple(self.first), tuple(self.done), tuple(self.preempted), found)

    def _arrive(self) -> None:
        while self.more_to_come and self.system.arrival[self._next] <= self.now:
            i = self._next
            self._next += 1
            self.scheduler.expects_arrivals = self.more_to_come
            self.scheduler.add_request(self._request(i))

    def _request(self, i: int) -> Any:
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        extra = None if self._predicted is None else {"predicted": int(self._predicted[i])}
        sampling = SamplingParams(
            max_tokens=self.system.output[i], ignore_eos=True, temperature=0.0, detokenize=False, extra_args=extra
        )
        return Request(
            request_id=str(i),
            prompt_token_ids=list(self.system.tokens[i]) if self.system.tokens else [0] * self.system.prompt[i],
            sampling_params=sampling,
            pooling_params=None,
            arrival_time=self.system.arrival[i],
            priority=self.system.priority[i] if self.system.priority else 0,
            block_hasher=block_hasher() if self.system.tokens else None,
        )

    def _note_preemptions(self, out: Any) -> None:
        for name in out.preempted_req_ids or ():
            self._to_prefill.pop(name, None)
            self.preempted[int(name)] += 1

    def _duration(self, out: Any) -> float:
        """Seconds of the step ``out``, whose tokens the scheduler has already counted (form `split`)."""
        decodes = context = 0
        tokens = squares = 0
        for name, n in out.num_scheduled_tokens.items():
            request = self.scheduler.requests[name]
            before = request.num_computed_tokens - n
            if name not in self._to_prefill:
                self.cached[int(name)] += before
            if before < self._to_prefill.setdefault(name, request.num_tokens):
                tokens += n
                squares += (before + n) ** 2 - before**2
            else:
                decodes += 1
                context += before + 1
        d0, d1, d2, p0, p1, p2 = self.system.coef_ms
        chunk = p1 * tokens + p2 * squares
        if decodes == 0:
            return 1e-3 * max(p0, chunk)
        return 1e-3 * (d0 + d1 * decodes + d2 * context + (chunk if tokens else 0.0))

    def _sampling(self, out: Any) -> set[str]:
        """Who gets a token from the step: those whose prefill ends in it, or ended before."""
        return {name for name in out.num_scheduled_tokens if not self.scheduler.requests[name].is_prefill_chunk}

    def _update(self, out: Any, sampling: set[str]) -> None:
        """The step is over: each request in ``sampling`` gets a token."""
        from vllm.v1.outputs import ModelRunnerOutput

        names = list(out.num_scheduled_tokens)
        sampled = [[FIRST_OUTPUT + int(name)] if name in sampling else [] for name in names]
        places = {name: place for place, name in enumerate(names)}
        found = self.scheduler.update_from_output(
            out, ModelRunnerOutput(req_ids=names, req_id_to_index=places, sampled_token_ids=sampled)
        )
        for outputs in found.values():
            for output in outputs.outputs:
                i = int(output.request_id)
                if output.new_token_ids and self.first[i] is None:
                    self.first[i] = self.now
                if output.finish_reason is not None:
                    self.done[i] = self.now
                    self._to_prefill.pop(output.request_id, None)
