"""vLLM's policy `priority` in virtual time beside our `vllm-priority`: what is equal, and the rules that are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.reality import vllm_parity
from llmsched.eval.reality.vllm.virtual_time import VirtualEngine
from llmsched.eval.reality.vllm_systems import Stamps, System
from tests.integrations.vllm.test_vllm import (
    model,
    random_system,
    with_contents,
    with_switches,
)

__all__ = ["model"]

SYSTEMS = 300


def with_priorities(rng: np.random.Generator, system: System) -> System:
    """The system with a priority for every request, and without ties: vLLM breaks them by the text of the id."""
    n = len(system.arrival)
    priority = rng.integers(0, int(rng.choice([2, 3, 5, 9])), n)
    arrival = tuple(time + 1e-7 * place for place, time in enumerate(system.arrival))
    return replace(system, arrival=arrival, priority=tuple(map(int, priority)))


def systems(seed: int, cached: bool = False, switched: bool = False) -> Iterator[tuple[int, System]]:
    """SYSTEMS random systems with priorities."""
    rng = np.random.default_rng(seed)
    for place in range(SYSTEMS):
        system = random_system(rng)
        system = with_contents(rng, system) if cached else system
        yield place, with_priorities(rng, with_switches(rng, system) if switched else system)


def room_first() -> type:
    """vLLM's scheduler, but for one rule: before a pass it preempts whom `priority` would, until the members fit."""
    from vllm.v1.core.sched.interface import PauseState
    from vllm.v1.core.sched.scheduler import Scheduler

    class RoomFirst(Scheduler):
        """Contract 3.4 and 10.5 in place of vLLM's loop."""

        def lacks_blocks(self) -> bool:
            """Whether the next step of the members needs more blocks than are free."""
            budget, need = self.max_num_scheduled_tokens, 0
            most = self.scheduler_config.long_prefill_token_threshold or budget
            for request in self.running:
                computed = request.num_computed_tokens
                tokens = min(request.num_tokens - computed, budget, most)
                need += -(-(computed + tokens) // self.block_size) - -(-computed // self.block_size)
                budget -= tokens
            return need > self.kv_cache_manager.block_pool.get_num_free_blocks()

        def schedule(self, *args: Any, **kwargs: Any) -> Any:
            """Make room, then vLLM's own pass, which admits nobody where somebody was preempted."""
            preempted: set[str] = set()
            while len(self.running) > 1 and self.lacks_blocks():
                victim = max(self.running, key=lambda request: (request.priority, request.arrival_time))
                self.running.remove(victim)
                self._preempt_request(victim, 0.0)
                preempted.add(victim.request_id)
            if not preempted:
                return super().schedule(*args, **kwargs)
            self._pause_state = PauseState.PAUSED_NEW
            out = super().schedule(*args, **kwargs)
            self._pause_state = PauseState.UNPAUSED
            out.preempted_req_ids = (out.preempted_req_ids or set()) | preempted
            return out

    return RoomFirst


def in_vllm(system: System, model: Path, scheduling: str = "sync", kind: type | None = None) -> Stamps:
    """The stamps of vLLM's own classes, or of a class of theirs."""
    return VirtualEngine(system, model, asynchronous=scheduling == "async", scheduler_class=kind).run()


@pytest.mark.parametrize("switched", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_the_order_is_that_of_vllm(cached: bool, switched: bool, model: Path) -> None:
    """Synchronous, where nobody is preempted: every stamp and every cached token."""
    compared = 0
    for place, system in systems(31, cached, switched):
        expected = in_vllm(system, model)
        if not sum(expected.preempted):
            found = vllm_parity.run(place, system, "sync", cached)
            assert vllm_parity.divergence(place, system, expected, found) is None, system
            compared += 1
    assert compared > SYSTEMS // 3


def test_with_asynchronous_scheduling_the_order_of_those_that_wait_is_that_of_vllm(model: Path) -> None:
    """All arrive at once, so 10.2 never stops an admission; ten ids at most, whose texts are in order too."""
    compared = 0
    for place, system in systems(32):
        n = min(10, len(system.arrival))
        rows = {name: getattr(system, name)[:n] for name in ("prompt", "output", "priority")}
        system = replace(system, arrival=(1.0,) * n, blocks=10_000, **rows)
        found = vllm_parity.run(place, system, "async")
        assert vllm_parity.divergence(place, system, in_vllm(system, model, "async"), found) is None, system
        compared += 1
    assert compared == SYSTEMS


def test_the_victims_are_those_of_vllm_but_for_when_they_go(model: Path) -> None:
    """vLLM preempts within its pass: it ends the pass where the victim is the member at hand, and the tokens of a
    victim that had some stay unused by members before it.  With room made before the pass every stamp is equal."""
    kind, different, preempted = room_first(), 0, 0
    for place, system in systems(33, switched=True):
        found = vllm_parity.run(place, system, "sync")
        assert vllm_parity.divergence(place, system, in_vllm(system, model, kind=kind), found) is None, system
        expected = in_vllm(system, model)
        preempted += sum(expected.preempted) > 0
        different += vllm_parity.divergence(place, system, expected, found) is not None
    assert preempted > SYSTEMS // 10
    assert 0 < different < preempted
