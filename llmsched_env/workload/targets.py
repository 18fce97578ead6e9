"""A latency target that fits the hardware: a multiple of what a request takes when it is served alone."""

from __future__ import annotations

import numpy as np

from llmsched_env.keys import alone_s
from llmsched_env.profiles import Profile
from llmsched_env.workload.workload import CALIBRATION_REQUESTS, Workload

FACTOR, QUANTILE = 3.0, 0.99


def alone_target_s(profile: Profile, source: str, factor: float = FACTOR) -> float:
    """E2E target in s: ``factor`` times the QUANTILE of the service times of ``source``'s requests served alone.

    The requests are an independent sample (the split that bin edges are taken from), never those to be scored.
    """
    sample = Workload(source, requests=CALIBRATION_REQUESTS).draw(0, "calibration")
    return factor * float(np.quantile(alone_s(profile, sample.prompt_tokens, sample.output_tokens), QUANTILE))
