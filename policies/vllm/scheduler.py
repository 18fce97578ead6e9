"""vLLM's scheduler with a policy of ours at every admission.

``--scheduler-cls llmsched.policies.vllm.scheduler.PolicyScheduler``.  The policy and the rest come from the file that
LLMSCHED_VLLM names, or from LLMSCHED_VLLM_POLICY (docs/howto/vllm.md).
The interface that this class extends is not public: `TRIED` names the versions of vLLM that it was run with.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request, RequestStatus

from llmsched.policies.vllm.facts import installed_version, server_facts
from llmsched.policies.vllm.queue import PolicyQueue
from llmsched.policies.vllm.seat import Seat
from llmsched.policies.vllm.settings import Settings, from_environment
from llmsched.policies.vllm.steps import Step, StepClock, StepLog
from llmsched_env.core.constants import BLOCK_TOKENS

TRIED = ("0.32.0",)

PREDICTED, SLO_CLASS = "predicted", "slo_class"
"""Entries of a request's ``vllm_xargs``: its predicted output tokens, its SLO class."""


class PolicyScheduler(AsyncScheduler):
    """Works with asynchronous scheduling and without; the memory, the steps and the outputs are vLLM's."""

    SETTINGS: Settings | None = None
    """What is used instead of the environment, where it is set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refuse()
        settings = self.SETTINGS or from_environment()
        self._settings = settings
        self.clock = time.time
        self.origin = time.time()
        self.expects_arrivals = False  # nothing but an arrival would ask an idle server again: it does not wait
        self._pool = self.kv_cache_manager.block_pool
        self._blocks = self._pool.num_gpu_blocks - 1  # block 0 is vLLM's null block
        self._caches = self.cache_config.enable_prefix_caching
        ready = settings.ready(
            max_batch=self.max_num_active_reqs,
            kv_tokens=float(self._blocks * self.block_size),
            token_budget=float(self.max_num_scheduled_tokens),
            asynchronous=bool(self.scheduler_config.async_scheduling),
            watermark=self.scheduler_config.watermark,
        )
        self.max_num_scheduled_tokens: int = int(ready.config.continuous.token_budget)
        self.seat = Seat(ready, seed=settings.seed)
        self._details = ready.details
        self.waiting = PolicyQueue(self)
        self._events, self._seen = 0, -1
        self._quiet = False
        self._prefilling: list[Request] = []
        self._leaving: list[Request] = []
        self._steps: deque[tuple[Step, list[Request]]] = deque()
        self._finished: list[Request] | None = None
        self._step_clock = StepClock()
        self._window = (0, 0.0, 0)  # iterations with decoding members since the last settling, their time, members
        self._log = None
        if settings.steps is not None:
            self._log = StepLog(settings.steps, server_facts(self, origin=self.origin, policy=settings.policy))

    def _refuse(self) -> None:
        """Warn of an untried version; refuse what the class does not do, in one line."""
        version = installed_version()
        if version not in TRIED:
            warnings.warn(
                f"vLLM {version} was not tried with this scheduler: tried were {', '.join(TRIED)}.", stacklevel=3
            )
        reasons = {
            "a KV connector": self.connector is not None,
            "--scheduling-policy priority": self.policy.value != "fcfs",
            "--no-enable-chunked-prefill": not self.scheduler_config.enable_chunked_prefill,
            "pipeline parallelism": self.parallel_config.pipeline_parallel_size > 1,
        }
        for what, there in reasons.items():
            if there:
                raise ValueError(f"PolicyScheduler does not work with {what}: start vLLM without it.")

    def now(self) -> float:
        """Seconds since the scheduler was made."""
        return self.clock() - self.origin

    # what the queue asks

    def may_ask(self) -> bool:
        """Whether something happened since the policy last admitted nothing, and a seat is free."""
        return not self._quiet and self._seen < self._events and len(self.running) < self.max_num_active_reqs

    def members(self) -> int:
        """Members of the running set, those included whose last token is under way."""
        return len(self.running)

    def park(self) -> None:
        """Nothing is admitted before the next event."""
        self._seen = self._events

    def finds_room(self, request: Request) -> bool:
        """Whether the whole prompt finds room now; with a prefix cache vLLM itself finds out."""
        if self._caches:
            return True
        free = self._pool.get_num_free_blocks()
        if self.running:
            free -= self.kv_cache_manager.watermark_blocks
        return -(-request.num_tokens // self.block_size) <= free

    def question(self) -> tuple[float, ...]:
        """kernel.FACTS of this instant; the members' next iteration already has its blocks."""
        used = self._blocks - self._pool.get_num_free_blocks()
        backlog = sum(r.num_tokens - r.num_computed_tokens for r in self._prefilling)
        context, promised = self._context() if self._details else (0.0, 0.0)
        return (
            self.now(),
            len(self.running),
            len(self._leaving),
            len(self._prefilling),
            float(backlog),
            used * (self.block_size / BLOCK_TOKENS),
            context,
            promised,
            bool(self.running) or self.expects_arrivals,
        )

    def _context(self) -> tuple[float, float]:
        """Tokens of context of the decoding members, and the predicted tokens that all members lack."""
        decoding = self._decoding()
        context = sum([r.num_computed_tokens for r in decoding]) + len(decoding)
        produced = context - sum([r.num_prompt_tokens for r in decoding])
        produced += sum([r.num_output_tokens for r in self._prefilling])
        return float(context), float(self.seat.promised - produced)

    def _decoding(self) -> list[Request]:
        """Members that decode in the next iteration."""
        if not (self._prefilling or self._leaving):
            return self.running
        others = {*self._prefilling, *self._leaving}
        return [r for r in self.running if r not in others]

    # what the queue tells

    def arrived(self, request: Request) -> None:
        """A request arrives: it waits for the policy."""
        if self._log is not None:
            self._log.arrived(request.request_id, self.now())
        extra = (request.sampling_params.extra_args if request.sampling_params else None) or {}
        most = max(1, request.max_tokens)
        predicted = extra.get(PREDICTED, self._settings.predicted or most)
        classes = len(self.seat.ready.config.slos)
        self.seat.arrive(
            request.request_id,
            max(0.0, request.arrival_time - self.origin),
            max(1, request.num_prompt_tokens),
            most,
            max(1, int(predicted)),
            min(max(0, int(extra.get(SLO_CLASS, 0))), classes - 1),
        )
        self._events += 1

    def admitted(self, request: Request) -> None:
        """A request leaves the queue for the running set."""
        if self._window[0]:
            self._settle(self.now())
        self.seat.take(request.request_id, self.now())
        self._prefilling.append(request)

    def returned(self, request: Request) -> None:
        """vLLM could not begin it."""
        self.seat.untake(request.request_id)
        self._prefilling.remove(request)

    # vLLM's steps

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Make room by the contract's rule, then vLLM's own pass."""
        self._quiet = self._make_room() and bool(self._steps)
        self._leaving = leaving(self.running) if self._steps else []
        self._events += sum([self.seat.release(r.request_id) for r in self._leaving])
        before = len(self._prefilling)
        self.waiting.begin()
        out = super().schedule(*args, **kwargs)
        self.waiting.end()
        if before or self._prefilling:
            self._prefilling = [r for r in self._prefilling if r.is_prefill_chunk]
        return out

    def _update_after_schedule(self, scheduler_output: Any) -> None:
        """Note the composition of the step, before vLLM counts its tokens."""
        scheduled = scheduler_output.num_scheduled_tokens
        if scheduler_output.total_num_scheduled_tokens:
            chunks = [r for r in self._prefilling if r.request_id in scheduled]
            self._steps.append((self._compose(scheduled, chunks), chunks))
        super()._update_after_schedule(scheduler_output)

    def _compose(self, scheduled: dict[str, int], chunks: list[Request]) -> Step:
        decodes = len(scheduled) - len(chunks)
        kv = 0
        if self._log is not None and decodes:
            own = {r.request_id for r in chunks}
            kv = decodes + sum([self.requests[i].num_computed_tokens for i in scheduled if i not in own])
        parts = tuple((r.num_computed_tokens, scheduled[r.request_id]) for r in chunks)
        return Step(self.now(), decodes, kv, parts, len(self.running), len(self.waiting))

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """A step is over: vLLM counts its tokens, the policy hears of what completed."""
        self._finished = []
        try:
            result = super().update_from_output(scheduler_output, model_runner_output)
        finally:
            finished, self._finished = self._finished, None
        if not scheduler_output.total_num_scheduled_tokens:
            return result
        (step, chunks), now = self._steps.popleft(), self.now()
        seconds = self._step_clock.seconds(step, now, busy=bool(self.running))
        if step.decodes:
            steps, time_s, members = self._window
            self._window = steps + 1, time_s + seconds, members + step.decodes
        if finished:
            self._complete(finished, chunks, now)
        if step.chunks:
            self._seen = -1
        if step.chunks or finished:
            self._settle(now)
        if self._log is not None:
            self._log.add(step.as_json(now, seconds))
            self._log.produced(result, now)
            if not self.running:  # a killed server loses nothing that it had time to write
                self._log.flush()
        return result

    def _complete(self, finished: list[Request], chunks: list[Request], now: float) -> None:
        """Members that decoded complete in order of number, then those whose prefill ended, as they were admitted."""
        numbers = self.seat.numbers
        decoded = sorted((r for r in finished if r not in chunks), key=lambda r: numbers[r.request_id])
        left = len(self.running) + len(finished)
        share = 1.0 - self._pool.get_num_free_blocks() / self._blocks
        for request in [*decoded, *(r for r in chunks if r in finished)]:
            self.seat.complete(request.request_id, request.num_output_tokens, left, share, now)
            left -= 1
        self._events += len(finished)

    def _settle(self, now: float) -> None:
        """A segment is over: the SLA controller hears of its iterations."""
        steps, seconds, members = self._window
        self.seat.settle(now, steps, seconds, members)
        self._window = (0, 0.0, 0)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """A request ends: with its last token, or because its client is gone."""
        if request in self._prefilling:
            self._prefilling.remove(request)
        if (
            self._finished is not None
            and request.num_output_tokens
            and request.status != RequestStatus.FINISHED_ABORTED
        ):
            self._finished.append(request)
        elif request.request_id in self.seat.numbers:
            self.seat.give_up(request.request_id)
            self._events += 1
        return super()._free_request(request, *args, **kwargs)

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """A member returns to its queue; a token of it that is under way counts."""
        generated = request.num_output_tokens + request.num_output_placeholders
        if request in self._prefilling:
            self._prefilling.remove(request)
        super()._preempt_request(request, *args, **kwargs)
        self.seat.put_back(request.request_id, generated)
        self._events += 1

    def _make_room(self) -> bool:
        """Preempt members until the next step of the others has its blocks; whether any was.

        vLLM takes the member that was admitted last.  The contract takes the one of largest number, which is the same
        in first-come order (docs/reference/continuous.md, 3.4).
        """
        preempted = False
        while len(self.running) > 1 and self._lacks_blocks():
            numbers = self.seat.numbers
            victim = max(self.running, key=lambda r: numbers[r.request_id])
            self.running.remove(victim)
            self._preempt_request(victim, time.monotonic())
            preempted = True
        if preempted:
            self._settle(self.now())
        return preempted

    def _lacks_blocks(self) -> bool:
        """Whether the next step of the members needs more blocks than are free."""
        free, size = self._pool.get_num_free_blocks(), self.block_size
        budget = self.max_num_scheduled_tokens
        if not (self._prefilling or self.num_spec_tokens) and budget >= len(self.running):
            if free >= len(self.running):
                return False
            stay = self.running
            if self._steps and (gone := set(leaving(self.running))):
                stay = [r for r in stay if r not in gone]
            return sum([r.num_computed_tokens % size == 0 for r in stay]) > free
        if free > len(self.running) + budget // size + 1:
            return False
        gone, need = set(leaving(self.running)), 0
        for r in self.running:
            if r in gone:
                continue
            computed = r.num_computed_tokens
            tokens = min(r.num_tokens_with_spec + r.num_output_placeholders - computed, budget)
            if tokens > 0:
                need += -(-(computed + tokens) // size) - -(-computed // size)
                budget -= tokens
        return need > free

    def shutdown(self) -> None:
        """Write what is left of the log of steps."""
        if self._log is not None:
            self._log.flush()
        super().shutdown()


def leaving(members: Sequence[Request]) -> list[Request]:
    """Members whose last token is under way (asynchronous scheduling; vLLM's own condition)."""
    return [
        r
        for r in members
        if r.num_output_placeholders > 0
        and r.num_computed_tokens + 2 - r.num_output_placeholders >= r.num_prompt_tokens + r.max_tokens
    ]
