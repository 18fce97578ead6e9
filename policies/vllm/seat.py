"""The seat of a policy in a real engine: the simulator's queues, record and controllers, moved by what happens there.

No dynamics of the simulator's servers run here.  A request is known by a handle of the engine, and by its number in the
simulator's rows, which changes when ended requests leave them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from llmsched.policies.registry import ReadyPolicy
from llmsched.policies.vllm import kernel
from llmsched_env.compiler.addresses import addresses
from llmsched_env.core.layout import BAD_BIN, BAD_SIZE, IN_SERVICE, NONE, WAITING
from llmsched_env.core.step import entry_point
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator
from llmsched_env.simulation.streaming import append, harvest

FIRST_ROWS = 4096
"""Requests for which there is room at first."""

_arrive, _look, _answer, _offer = map(entry_point, (kernel.arrive, kernel.look, kernel.answer, kernel.offer))
_take, _untake, _release = map(entry_point, (kernel.take, kernel.untake, kernel.release))
_put_back, _complete = map(entry_point, (kernel.put_back, kernel.complete))
_give_up, _settle = map(entry_point, (kernel.give_up, kernel.settle))


class Seat:
    """One policy on one server.  Times are seconds since the start of the engine, lengths tokens."""

    def __init__(self, ready: ReadyPolicy, *, seed: int = 0) -> None:
        self.ready = ready
        self.simulator = Simulator(ready.config, FIRST_ROWS, gaps=True)
        self.simulator.load(0, Requests.checked([0.0], [1], [1]), final=0)
        self.simulator.lane[0]["loaded"] = 0
        self._facts = np.zeros(1, kernel.FACTS)
        self._record = self.simulator.record
        self._find_arrays()
        self._inputs = (
            self._record[0],
            np.asarray(ready.params, np.float64),
            np.zeros(max(1, ready.memory_size)),
            np.random.default_rng(seed),
        )
        self._decide = entry_point(ready.decide)
        self.numbers: dict[Hashable, int] = {}
        self._handles: list[Hashable] = []
        self.promised = 0
        """Predicted tokens of the members, in sum: of those whose last token is not under way."""

    def _find_arrays(self) -> None:
        """The simulator's arrays are others now."""
        self._arrays = self.simulator.arrays
        self._words = addresses((*self._arrays, self._record, self._facts), kernel.SEAT_ARRAYS)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return int(self.simulator.lane[0]["waiting"])

    def row(self, handle: Hashable) -> Any:
        """The REQUEST row of a request."""
        return self.simulator.requests[0, self.numbers[handle]]

    def arrive(
        self, handle: Hashable, arrival_s: float, prompt: int, output: int, predicted: int, slo_class: int = 0
    ) -> None:
        """A request arrives; ``output``: the most tokens that it may produce.  ``ValueError`` for a bad number."""
        if int(self.simulator.lane[0]["loaded"]) == self.simulator.capacity:
            self._compact()
        request = Requests.checked([arrival_s], [prompt], [output], [predicted], [slo_class])
        self.simulator = append(self.simulator, request)
        if self.simulator.arrays is not self._arrays:
            self._find_arrays()
        number = len(self._handles)
        self._handles.append(handle)
        self.numbers[handle] = number
        _arrive(self._words, number)

    def _compact(self) -> None:
        """Ended requests leave the rows."""
        rows = self.simulator.requests[0, : len(self._handles)]
        live = np.flatnonzero((rows["status"] == WAITING) | (rows["status"] == IN_SERVICE))
        harvest(self.simulator, everything=False)
        self._handles = [self._handles[i] for i in live]
        self.numbers = {handle: number for number, handle in enumerate(self._handles)}

    def ask(self, *facts: float) -> tuple[int, int]:
        """(choice, size) of the policy, size 0 being wait; ``facts``: kernel.FACTS, in that order.

        ``ValueError`` where the answer does not exist.
        """
        self._facts[0] = facts
        _look(self._words, self.ready.details)
        choice, size = self._decide(*self._inputs)
        status, choice, size = _answer(self._words, choice, size)
        if status in (BAD_BIN, BAD_SIZE):
            raise ValueError(f"the policy answered bin {choice}, size {size}, which do not exist.")
        return choice, size

    def offer(self, choice: int, size: int, admitted: int, first: Hashable, members: int) -> Hashable | None:
        """The request that a decision admits next; None: it admits no more."""
        number = NONE if admitted == 0 else self.numbers.get(first, NONE)
        found = _offer(self._words, choice, size, admitted, number, members)
        return None if found == NONE else self._handles[found]

    def take(self, handle: Hashable, now: float) -> None:
        """The offered request becomes a member."""
        self.promised += _take(self._words, self.numbers[handle], now)

    def untake(self, handle: Hashable) -> None:
        """The engine could not begin a request that was taken: it waits where it stood."""
        self.promised -= _untake(self._words, self.numbers[handle])

    def release(self, handle: Hashable) -> bool:
        """The last token of a member is under way; whether that is new."""
        promised = _release(self._words, self.numbers[handle])
        self.promised -= promised
        return promised > 0

    def put_back(self, handle: Hashable, generated: int) -> None:
        """A member that has produced ``generated`` tokens is preempted."""
        self.promised -= _put_back(self._words, self.numbers[handle], generated)

    def complete(self, handle: Hashable, output: int, members: int, kv_share: float, now: float) -> None:
        """A member of ``members`` has all its ``output`` tokens."""
        number = self.numbers.pop(handle)
        self.promised -= _complete(self._words, number, max(output, 1), members, kv_share, now)

    def give_up(self, handle: Hashable) -> None:
        """A request ends without an answer, waiting or not."""
        self.promised -= _give_up(self._words, self.numbers.pop(handle))

    def settle(self, now: float, steps: int, time: float, members: int) -> None:
        """Iterations with decoding members are over: so many, their time and their members in sum."""
        _settle(self._words, now, float(steps), time, float(members))
