"""Which options of a workload go together with sessions and closed loops, and which sessions cannot be followed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.workload.sessions.drawing import own_rate
from llmsched_env.workload.traces import Trace

if TYPE_CHECKING:
    from llmsched_env.workload.workload import Workload


def check_sessions(workload: Workload) -> None:
    """``ValueError`` in one line for what does not go together, and for sessions with a gap or a cycle."""
    law, name = workload.parsed_think, workload.name
    if workload.concurrency is not None:
        _check_closed(workload)
    if not workload.linked and not law.recorded:
        raise ValueError(f"think={workload.think!r}: {name} has no sessions; give concurrency, or drop it.")
    if workload.sessions is not None and not workload.has_sessions:
        raise ValueError(f"sessions={workload.sessions}: {name} has no sessions; give requests.")
    if not workload.has_sessions:
        return
    if workload.prefixes is not None:
        raise ValueError(f"shared_prefix={workload.shared_prefix!r}: sessions keep their own prompts; drop it.")
    if isinstance(workload.origin, Trace):
        _check_trace(workload, workload.origin)


def _check_closed(workload: Workload) -> None:
    """A closed loop has neither a rate nor arrivals of its own, and needs a list to send."""
    for name in ("rate", "burstiness", "duration_s"):
        value = getattr(workload, name)
        if value is not None:
            raise ValueError(
                f"{name}={value:g} does not go with concurrency={workload.concurrency}: the clients of a closed loop "
                f"send when their answers come; drop one of them{', and give requests' * (name == 'duration_s')}."
            )
    if workload.rate_scale != 1.0:
        raise ValueError(f"rate_scale={workload.rate_scale:g} does not go with concurrency: a closed loop has no rate.")


def _check_trace(workload: Workload, trace: Trace) -> None:
    """The sessions can be followed, and begin at known times."""
    links = trace.links
    assert links is not None
    if links.problem:
        raise ValueError(f"trace {trace.name}: {links.problem}: its sessions cannot be followed.")
    if workload.concurrency is None and workload.rate is None and not links.clocked:
        raise ValueError(
            f"trace {trace.name}: its sessions have no common clock, so it is not known when they begin: give a rate "
            f"(requests/s), or concurrency."
        )


def session_rate(workload: Workload) -> float:
    """Own rate of the sessions of a trace, requests/s."""
    trace = workload.origin
    assert isinstance(trace, Trace)
    assert trace.links is not None
    own = own_rate(trace.links, trace.arrival_s)
    return 1.0 if math.isnan(own) else own
