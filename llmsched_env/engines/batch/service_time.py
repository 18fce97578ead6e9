"""The service time of a batch as the predicted lengths have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.latency import decode_until_s, prefill_s

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

NO_WORK = (0.0, 0.0, 1, 0)
"""The work of a batch without members (see ``add_work``)."""


@part
def add_work(request, work):
    """``work`` of a batch with one more member, ``request``.

    Work is (tokens to prefill, sum of their squares, largest predicted rest of the output, largest predicted total
    length), in tokens.
    """
    prompts, squares, rest, total = work
    prompt = float(request.prompt + request.generated)
    return (
        prompts + prompt,
        squares + prompt * prompt,
        max(rest, request.predicted - request.generated),
        max(total, request.prompt + request.predicted),
    )


@part
def work_of(state: State, n):
    """The work of a batch of the ``n`` requests in ``state.members``."""
    work = NO_WORK
    for m in range(n):
        work = add_work(state.requests[state.members[m]], work)
    return work


@part
def batch_time(state: State, hardware, n, work):
    """Predicted service time of ``n`` requests with this work, s."""
    if n == 0:
        return 0.0
    prompts, squares, rest, total = work
    prefill = prefill_s(hardware, prompts, squares)
    return state.params.overhead + prefill + decode_until_s(hardware, n, prompts, total - rest, rest)
