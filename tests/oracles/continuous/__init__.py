"""The slow oracle of the engine `continuous`: docs/reference/continuous.md as plain Python.

Nothing here is fast or clever.  Every iteration of every server is played, every member's cache grows by a token at a
time, and queues are lists that are sorted when they are looked at.  The one closed form is the time of the k-th
boundary of a segment, which the contract prescribes.  With the library it shares only the descriptions of the input
(configuration, requests, profiles), with the oracle of the batch engine the requests and the two algorithms of the
controllers.

Example::

    result = ContinuousSimulator(config, requests, cap(8), Options(prefill="first")).run()
    result.completion - requests.arrival_s
"""

from __future__ import annotations

from tests.oracles.continuous.options import Options
from tests.oracles.continuous.simulator import ContinuousSimulator
from tests.oracles.continuous.view import ContinuousResult, Decide, Decision, View, cap, scripted

__all__ = [
    "ContinuousResult",
    "ContinuousSimulator",
    "Decide",
    "Decision",
    "Options",
    "View",
    "cap",
    "scripted",
]
