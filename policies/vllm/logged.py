"""vLLM's own scheduler, which writes its steps: for a profile of a server under its own order.

``--scheduler-cls llmsched.policies.vllm.logged.LoggedScheduler``; LLMSCHED_VLLM_STEPS names the file.  It decides
nothing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

from llmsched.policies.vllm.facts import server_facts
from llmsched.policies.vllm.settings import STEPS
from llmsched.policies.vllm.steps import Step, StepClock, StepLog


class LoggedScheduler(AsyncScheduler):
    """Works with asynchronous scheduling and without, as the class that it extends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        file = os.environ.get(STEPS)
        if not file:
            raise ValueError(f"LoggedScheduler: no file is given for the steps: set {STEPS}=FILE.")
        self.clock = time.time
        self.origin = time.time()
        self._log = StepLog(Path(file), server_facts(self, origin=self.origin, policy="own"))
        self._steps: deque[Step] = deque()
        self._stays: dict[str, tuple[int, int]] = {}  # by request: preemptions, tokens to prefill
        self._step_clock = StepClock()

    def now(self) -> float:
        """Seconds since the scheduler was made."""
        return self.clock() - self.origin

    def add_request(self, request: Request) -> None:
        """A request comes."""
        self._log.arrived(request.request_id, self.now())
        super().add_request(request)

    def _update_after_schedule(self, scheduler_output: Any) -> None:
        """Note the composition of the step, before vLLM counts its tokens."""
        for name in scheduler_output.finished_req_ids:
            self._stays.pop(name, None)
        if scheduler_output.total_num_scheduled_tokens:
            self._steps.append(self._compose(scheduler_output.num_scheduled_tokens))
        super()._update_after_schedule(scheduler_output)

    def _compose(self, scheduled: dict[str, int]) -> Step:
        requests = {name: self.requests[name] for name in scheduled}
        chunks = {name: r.num_computed_tokens for name, r in requests.items() if self._prefills(r)}
        kv = sum(r.num_computed_tokens + 1 for name, r in requests.items() if name not in chunks)
        parts = tuple((done, scheduled[name]) for name, done in chunks.items())
        return Step(self.now(), len(requests) - len(chunks), kv, parts, len(self.running), len(self.waiting))

    def _prefills(self, request: Request) -> bool:
        """Whether a member computes its prompt, or what it had generated before it was preempted (the contract's rule).

        The last of these tokens alone would look like a decoded one.
        """
        stay = self._stays.get(request.request_id)
        if stay is None or stay[0] != request.num_preemptions:
            stay = self._stays[request.request_id] = (request.num_preemptions, request.num_tokens)
        return bool(request.num_computed_tokens < stay[1])

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """A step is over."""
        result = super().update_from_output(scheduler_output, model_runner_output)
        if scheduler_output.total_num_scheduled_tokens:
            step, now = self._steps.popleft(), self.now()
            self._log.add(step.as_json(now, self._step_clock.seconds(step, now, busy=bool(self.running))))
            self._log.produced(result, now)
            if not self.running:
                self._log.flush()
        return result

    def shutdown(self) -> None:
        """Write what is left of the log."""
        self._log.flush()
        super().shutdown()
