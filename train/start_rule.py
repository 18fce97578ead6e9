"""The rule that the network of the engine `batch` starts from where nothing is trained yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network.batch_layout import CHOICE, DERIVED, OWN, SIZED
from llmsched.policies.network.layouts import LAYOUTS


def rule_weights(hidden: int) -> dict[str, NDArray[np.float64]]:
    """Weights that prefer the batch with most requests in time per second; the ``hidden`` units do nothing yet."""
    weights = LAYOUTS["batch"].zeros(hidden)
    straight = weights["straight"]
    straight[OWN + DERIVED.index("hits_per_time")] = 2.0
    straight[OWN + DERIVED.index("batch")] = 2.0
    straight[CHOICE + SIZED.index("all")] = 1.0
    straight[CHOICE + SIZED.index("hits_per_time")] = 2.0
    weights["wait_offset"][0] = -1.0
    return weights
