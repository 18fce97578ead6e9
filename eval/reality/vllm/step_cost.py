"""What a policy costs at each step of vLLM's scheduler: ``python -m llmsched.eval.reality.vllm.step_cost``

The scheduler runs without a model, with a full running set and a queue.  Printed are medians over the steps, in
microseconds: vLLM's own part of `schedule` and `update_from_output`, and what the policy adds to it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmsched.eval.reality.vllm.policy_parity import Setting
from llmsched.eval.reality.vllm.tiny_model import write_config
from llmsched.eval.reality.vllm.virtual_time import VirtualEngine
from llmsched.eval.reality.vllm_systems import System
from llmsched_env.commands.terminal import show

RUNNING, REQUESTS = 256, 1500
POLICIES = ("static:batch=256", "sjf:batch=256", "longest-queue", "network")


def _system() -> System:
    lengths = [100 + 37 * i % 400 for i in range(REQUESTS)]
    arrival = tuple(0.004 * i for i in range(REQUESTS))
    return System(60_000, RUNNING, 8192, (10, 0.05, 0, 10, 0.01, 0), arrival, tuple([64] * REQUESTS), tuple(lengths))


class _Meter:
    """Time by owner: of nested calls each owner gets what its own code takes."""

    def __init__(self) -> None:
        self.spent = {"vllm": 0.0, "policy": 0.0}
        self._owners: list[str] = []
        self._since = 0.0

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._owners:
            self.spent[self._owners[-1]] += now - self._since
        self._since = now

    def timed(self, owner: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose time is counted for ``owner``."""

        def call(*arguments: Any, **more: Any) -> Any:
            self._switch()
            self._owners.append(owner)
            try:
                return function(*arguments, **more)
            finally:
                self._switch()
                self._owners.pop()

        return call

    def taken(self) -> dict[str, float]:
        """Seconds since the last call, by owner."""
        found, self.spent = self.spent, dict.fromkeys(self.spent, 0.0)
        return found


PASSES = ("schedule", "update_from_output", "_update_after_schedule", "_free_request")
QUESTIONS = ("__bool__", "peek_request", "pop_request")


def measure(policy: str, folder: Path) -> tuple[float, float, float, int]:
    """Microseconds a step: (vLLM's own, the policy's, the policy's where it was asked, number of those)."""
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    from llmsched.policies.vllm.queue import PolicyQueue
    from llmsched.policies.vllm.scheduler import PolicyScheduler

    options = {"bins": (0, 200, 350), "slo": {"ttft": 5000.0, "e2el": 60_000.0}, "admission": "prompt"}
    system, model, meter = _system(), write_config(folder / "model"), _Meter()
    setting = Setting(system, policy, system.output, folder, model, options=options)
    steps: list[tuple[float, float, bool]] = []
    asked = [False]

    def prepare(engine: VirtualEngine) -> None:
        """Give the scheduler the virtual clock, and note what its steps cost."""
        scheduler = engine.scheduler
        scheduler.clock, scheduler.origin = lambda: engine.now, 0.0
        ask, update = scheduler.seat.ask, scheduler.update_from_output

        def noted_ask(*facts: float) -> Any:
            """The question, noted."""
            asked[0] = True
            return ask(*facts)

        def noted_update(*arguments: Any) -> Any:
            """The end of a step, noted with its cost where the running set is nearly full."""
            full = len(scheduler.running) > RUNNING - 16
            result, taken = update(*arguments), meter.taken()
            if full:
                steps.append((1e6 * taken["vllm"], 1e6 * taken["policy"], asked[0]))
            asked[0] = False
            return result

        scheduler.seat.ask, scheduler.update_from_output = noted_ask, noted_update

    own: dict[str, Any] = {"SETTINGS": setting.settings}
    for name in PASSES:
        own[name] = meter.timed("policy", getattr(PolicyScheduler, name))
    originals = [(AsyncScheduler, name, getattr(AsyncScheduler, name)) for name in PASSES]
    originals += [(PolicyQueue, name, getattr(PolicyQueue, name)) for name in QUESTIONS]
    for kind, name, function in originals:
        setattr(kind, name, meter.timed("vllm" if kind is AsyncScheduler else "policy", function))
    try:
        made = type("Scheduler", (PolicyScheduler,), own)
        VirtualEngine(system, model, scheduler_class=made, predicted=system.output, prepare=prepare).run()
    finally:
        for kind, name, function in originals:
            setattr(kind, name, function)
    with_question = [ours for _, ours, question in steps if question]
    theirs, ours = (statistics.median(column) for column in list(zip(*steps, strict=True))[:2])
    return theirs, ours, statistics.median(with_question) if with_question else 0.0, len(with_question)


def main() -> None:
    """Print a line for each policy."""
    with tempfile.TemporaryDirectory() as name:
        for policy in POLICIES:
            theirs, ours, asked, n = measure(policy, Path(name))
            note = f"where asked {asked:.0f} us ({n} steps)"
            show(f"{policy:16} vLLM {theirs:.0f} us a step, the policy {ours:.0f} us; {note}")


if __name__ == "__main__":
    main()
