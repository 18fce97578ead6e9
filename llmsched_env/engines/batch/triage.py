"""Triage at launch: whoever would be late in the batch being formed is passed over (engine `batch`)."""

from __future__ import annotations

from llmsched_env.compiler.parts import part
from llmsched_env.core.latency import prefill_s
from llmsched_env.core.layout import NONE, WAITING
from llmsched_env.core.queueing.queues import first_bin, head, push_late
from llmsched_env.engines.batch.service_time import batch_time, work_of


@part
def pass_over(state, server, n):
    """Move those of the ``n`` in ``state.members`` who would be late to the late bin; return how many stay.

    Late is whose deadline comes before now + ``triage`` x the predicted time to it.  The evicted and those who are
    late already stay.
    """
    lane = state.lane
    work = work_of(state, n)
    end = lane.now + lane.triage * batch_time(state, server, n, work)
    first = lane.now + lane.triage * (lane.overhead + prefill_s(server, work[0], work[1]))
    kept = 0
    for m in range(n):
        i = state.members[m]
        request = state.requests[i]
        slo = state.slos[request.slo_class]
        hopeless = request.arrival + slo.e2e < end or request.arrival + slo.ttft < first
        if hopeless and not request.late and request.evictions == 0:
            request.status = WAITING
            push_late(state, i)
        else:
            state.members[kept] = i
            kept += 1
    return kept


@part
def others_wait(state, choice):
    """Whether a request that is not late waits in bin ``choice`` (K: any)."""
    k = first_bin(state, 0) if choice == state.lane.num_bins else choice
    i = NONE if k == NONE else head(state, k)
    return i != NONE and not state.requests[i].late
