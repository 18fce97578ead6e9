"""The compiled run of the engine `batch`; compiled, or read from disk, when this file is first imported."""

from __future__ import annotations

from collections.abc import Callable

from llmsched_env.compiler.parts import entry_of, fingerprint
from llmsched_env.core.run import RUN_SIGNATURE, run_loop
from llmsched_env.core.state import lane_state
from llmsched_env.engines.batch.events import advance, apply
from llmsched_env.engines.batch.record import write_record

_loop = run_loop(advance_of=advance, apply_of=apply, write_record_of=write_record)


def entry(sources: str) -> Callable:
    """The compiled entry; ``sources`` (parts.fingerprint) is a closure variable and so part of its cache key."""

    @entry_of(RUN_SIGNATURE)
    def run_lane(arrays, record, decide, params, memory, rng, details, limit):
        """Lane 0 as core.run.run_loop describes it."""
        sources  # noqa: B018
        return _loop(lane_state(arrays, 0), record[0], decide, params, memory, rng, details, limit)

    return run_lane


run_lane = entry(fingerprint())
