"""Latency targets that fit the hardware: multiples of what a request takes when it is served alone."""

from __future__ import annotations

import numpy as np

from llmsched_env.config import SLO
from llmsched_env.profiles import Profile
from llmsched_env.simulation.disciplines import alone_s
from llmsched_env.workload.workload import CALIBRATION_REQUESTS, Workload

FACTOR, QUANTILE = 3.0, 0.99
FIRST_FACTOR, TOKEN_FACTOR = 4.0, 3.5
"""Factors of the TTFT and TPOT targets: about 2 s and 100 ms for the default server and workload."""


def alone_target_s(profile: Profile, source: str, factor: float = FACTOR) -> float:
    """E2E target in s: ``factor`` times the QUANTILE of the service times of ``source``'s requests served alone.

    The requests are an independent sample (the split that bin edges are taken from), never those to be scored.
    """
    sample = Workload(source, requests=CALIBRATION_REQUESTS).draw(0, "calibration")
    return factor * float(np.quantile(alone_s(profile, sample.prompt_tokens, sample.output_tokens), QUANTILE))


def alone_slo(profile: Profile, source: str, factor: float = 1.0) -> SLO:
    """TTFT and TPOT targets: ``factor`` times the FACTORs times the QUANTILE of both over requests served alone."""
    sample = Workload(source, requests=CALIBRATION_REQUESTS).draw(0, "calibration")
    first = alone_s(profile, sample.prompt_tokens, np.ones_like(sample.output_tokens))
    longer = sample.output_tokens > 1
    rest = alone_s(profile, sample.prompt_tokens, sample.output_tokens) - first
    step = rest[longer] / (sample.output_tokens[longer] - 1)
    return SLO(
        ttft_s=factor * FIRST_FACTOR * float(np.quantile(first, QUANTILE)),
        tpot_s=factor * TOKEN_FACTOR * float(np.quantile(step, QUANTILE)),
    )
