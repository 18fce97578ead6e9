"""The slow oracle of the batch engine: docs/reference/semantics.md as plain Python.

Nothing here is fast or clever.  A heap of events, sorted lists for queues, and batches that are played
token by token, each member's KV growing by one token a step, so that the closed forms of the compiled
simulator are checked against something that does not use them.  It shares with the library only the
descriptions of the input (configuration, requests, profiles).

Example::

    result = ReferenceSimulator(config, requests, multibin()).run()
    result.completion - requests.arrival_s
"""

from __future__ import annotations

from tests.oracles.batch.controllers import MemoryController, SlaController
from tests.oracles.batch.latency import decode_step_s, prefill_s, safe_tbt_s, service_alone_s
from tests.oracles.batch.policies import dynamic, multibin, multibin_fixed, scripted, static, timeout, window
from tests.oracles.batch.requests import (
    COMPLETED,
    DROPPED,
    IN_SERVICE,
    REJECTED,
    WAITING,
    Request,
    discipline_key,
    in_order_of_any,
)
from tests.oracles.batch.result import ReferenceResult
from tests.oracles.batch.simulator import ReferenceSimulator
from tests.oracles.batch.view import Decide, View

__all__ = [
    "COMPLETED",
    "DROPPED",
    "IN_SERVICE",
    "REJECTED",
    "WAITING",
    "Decide",
    "MemoryController",
    "ReferenceResult",
    "ReferenceSimulator",
    "Request",
    "SlaController",
    "View",
    "decode_step_s",
    "discipline_key",
    "dynamic",
    "in_order_of_any",
    "multibin",
    "multibin_fixed",
    "prefill_s",
    "safe_tbt_s",
    "scripted",
    "service_alone_s",
    "static",
    "timeout",
    "window",
]
