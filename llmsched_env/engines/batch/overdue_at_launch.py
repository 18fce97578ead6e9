"""Requests that become overdue at launch: they would miss their deadline in the batch being formed (engine `batch`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart
from llmsched_env.core.constants import AT_DEADLINE
from llmsched_env.core.latency import prefill_s
from llmsched_env.core.layout import NONE, WAITING
from llmsched_env.core.queueing.leaving import refuse
from llmsched_env.core.queueing.queues import head, next_row, push_overdue
from llmsched_env.engines.batch.service_time import batch_time, work_of

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@apart
def remove_overdue(state: State, hardware, n):
    """Move those of the ``n`` in ``state.members`` that become overdue to the overdue queue, or refuse them; return how
    many stay.

    A request becomes overdue when its deadline comes before now + ``overdue_batch_factor`` x the predicted time to it.
    Requests that were preempted, and those that are overdue already, stay.
    """
    lane, params = state.lane, state.params
    work = work_of(state, n)
    end = lane.now + params.overdue_batch_factor * batch_time(state, hardware, n, work)
    first = lane.now + params.overdue_batch_factor * (params.overhead + prefill_s(hardware, work[0], work[1]))
    kept = 0
    for m in range(n):
        i = state.members[m]
        request = state.requests[i]
        slo = state.slos[request.slo_class]
        misses = request.arrival + slo.e2e < end or request.arrival + slo.ttft < first
        if misses and not request.overdue and request.preemptions == 0:
            if params.refuses_overdue:
                refuse(state, i, AT_DEADLINE)
            else:
                request.status = WAITING
                push_overdue(state, i)
        else:
            state.members[kept] = i
            kept += 1
    return kept


@apart
def others_wait(state: State, choice):
    """Whether a request that is not overdue waits in ``choice``."""
    row = next_row(state, choice, 0)
    i = NONE if row == NONE else head(state, row)
    return i != NONE and not state.requests[i].overdue
