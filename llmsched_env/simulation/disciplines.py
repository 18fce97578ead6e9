"""Static keys that order the requests inside a bin, one per discipline: smallest first, ties by number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.core.load import alone_timer
from llmsched_env.core.state import records
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.templates import write_profile

PRIORITY_REFERENCE_TOKENS = 64.0
"""Predicted outputs shorter than this gain priority in the discipline `priority`."""


def alone_s(profile: Profile, prompt: NDArray, output: NDArray) -> NDArray[np.float64]:
    """Service time of each request served alone, (N,) s, for outputs of ``output`` tokens."""
    hardware, times = np.zeros(1, layout.HARDWARE), np.zeros(len(prompt))
    write_profile(hardware[0], profile)
    alone_timer()(records(hardware), prompt.astype(np.int64), output.astype(np.int64), times)
    return times


def deadlines(config: SimConfig, requests: Requests) -> NDArray[np.float64]:
    """Deadline of each request, (N,) s: arrival + the smaller of its class's TTFT and E2E targets; inf without them."""
    return requests.arrival_s + np.array([slo.deadline_s for slo in config.server_slos])[requests.slo_class]


CLASS_STEP = 2.0**33
"""By how much a class's keys lie above those of the class before it; keys themselves end at half of it."""


def keys(config: SimConfig, requests: Requests) -> NDArray[np.float64]:
    """Key of each request, (N,), for the discipline and the priority of classes of ``config``."""
    own = _own_keys(config, requests)
    if config.queueing.class_priority == "none":
        return own
    return np.minimum(own, CLASS_STEP / 2) + CLASS_STEP * requests.slo_class


def planned_keys(config: SimConfig, requests: Requests) -> NDArray[np.float64]:
    """What the keys are without the arrival, which is not known yet, and the classes: the kernel adds both, (N,)."""
    return _own_keys(config, replace(requests, arrival_s=np.zeros(len(requests))))


def key_rate(config: SimConfig) -> float:
    """By how much the key of a request grows with its arrival."""
    queueing = config.queueing
    if queueing.discipline in ("sjf", "oracle-sjf", "oracle-srpt"):
        return 1.0 / queueing.aging_s if queueing.discipline == "sjf" else 0.0
    return 1.0 / patience_s(config) if queueing.discipline == "priority" else 1.0


def patience_s(config: SimConfig) -> float:
    """Time after which waiting counts as much as being short, in the discipline `priority`."""
    longest = config.queueing.max_wait_s
    return longest if np.isfinite(longest) else 1.0


def _own_keys(config: SimConfig, requests: Requests) -> NDArray[np.float64]:
    """The key of the discipline."""
    queueing = config.queueing
    if queueing.discipline == "sjf":
        tokens = requests.predicted_tokens.astype(np.float64)
        return tokens + requests.arrival_s / queueing.aging_s if np.isfinite(queueing.aging_s) else tokens
    if queueing.discipline in ("oracle-sjf", "oracle-srpt"):
        return requests.output_tokens.astype(np.float64)
    if queueing.discipline == "edf":
        return deadlines(config, requests)
    if queueing.discipline == "slack":
        alone = alone_s(config.servers[0].profile, requests.prompt_tokens, requests.predicted_tokens)
        return deadlines(config, requests) - alone
    if queueing.discipline == "priority":
        shortness = np.maximum(0.0, 1.0 - requests.predicted_tokens / PRIORITY_REFERENCE_TOKENS)
        return requests.arrival_s / patience_s(config) - shortness
    return requests.arrival_s
