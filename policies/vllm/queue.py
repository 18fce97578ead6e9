"""The waiting queue of vLLM's scheduler whose order is a policy's: the policy is asked where the scheduler looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request

from llmsched.policies.vllm.seat import Seat


class Host(Protocol):
    """What the queue needs from the scheduler that looks at it."""

    seat: Seat
    requests: dict[str, Request]

    def may_ask(self) -> bool:
        """Whether the policy is to be asked now."""

    def question(self) -> tuple[float, ...]:
        """kernel.FACTS of this instant."""

    def members(self) -> int:
        """Members of the running set."""

    def finds_room(self, request: Request) -> bool:
        """Whether the memory has room for the whole prompt of ``request``."""

    def park(self) -> None:
        """The policy admits nothing before the next event."""

    def arrived(self, request: Request) -> None:
        """A request comes to the queue for the first time."""

    def admitted(self, request: Request) -> None:
        """The scheduler takes a request off the queue."""

    def returned(self, request: Request) -> None:
        """The scheduler could not begin a request that it took."""


class PolicyQueue(RequestQueue):
    """vLLM asks whether the queue holds anything, looks at the first request and takes it: for each admission once.

    A queue of which the policy admits nothing is an empty queue.  Outside a scheduling pass it holds what waits.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._waiting: dict[str, Request] = {}
        self._open = False
        self._next: Request | None = None
        self._decision: tuple[int, int] | None = None
        self._admitted = 0
        self._first = ""

    def begin(self) -> None:
        """A scheduling pass begins."""
        self._open, self._next, self._decision, self._admitted = True, None, None, 0

    def end(self) -> None:
        """The pass is over; a decision that admitted nothing parks the server."""
        if self._decision is not None and self._admitted == 0:
            self.host.park()
        self._open, self._next, self._decision = False, None, None

    def __bool__(self) -> bool:
        return self._find() is not None if self._open else bool(self._waiting)

    def _find(self) -> Request | None:
        """The request that the policy admits next; None: none."""
        host = self.host
        while self._next is None:
            if self._decision is None:
                if not self._waiting or not host.may_ask():
                    return None
                choice, size = host.seat.ask(*host.question())
                self._decision, self._admitted = (choice, size), 0
            found = host.seat.offer(*self._decision, self._admitted, self._first, host.members())
            if found is not None and host.finds_room(self._waiting[str(found)]):
                self._next = self._waiting[str(found)]
                break
            self._decision = None
            if self._admitted == 0:
                host.park()
                return None
        return self._next

    def peek_request(self) -> Request:
        """The request that the policy admits next."""
        if self._next is None:
            raise IndexError("the policy admits nothing")
        return self._next

    def pop_request(self) -> Request:
        """Take it."""
        request = self.peek_request()
        if self._admitted == 0:
            self._first = request.request_id
        self._next = None
        self._admitted += 1
        del self._waiting[request.request_id]
        self.host.admitted(request)
        return request

    def add_request(self, request: Request) -> None:
        """A request arrives."""
        self._waiting[request.request_id] = request
        self.host.arrived(request)

    def prepend_request(self, request: Request) -> None:
        """A member is preempted; the scheduler has told the seat."""
        self._waiting[request.request_id] = request

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        """Requests that the scheduler took and could not begin return to their places."""
        for request in requests:
            self._waiting[request.request_id] = request
            self.host.returned(request)

    def remove_request(self, request: Request) -> None:
        """A request ends while it waits; the scheduler tells the seat."""
        self._waiting.pop(request.request_id, None)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Several do."""
        for request in requests:
            self.remove_request(request)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._waiting.values()))
