"""Members that began to decode since the last iteration: RUNNING_SET.fresh, a list through REQUEST.next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def forget_fresh(state: State, server, i):
    """Decoding member ``i`` leaves before its first iteration: it is not among the fresh ones any more."""
    if server.set.fresh == i:
        server.set.fresh = state.requests[i].next
        return
    before = server.set.fresh
    while state.requests[before].next != i:
        before = state.requests[before].next
    state.requests[before].next = state.requests[i].next
