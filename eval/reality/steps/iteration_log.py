"""vLLM's own log of iterations (``--enable-logging-iteration-details``, 0.32), as far as it says what was computed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from llmsched.eval.calibration.cells import Work

LINE = re.compile(
    r"Iteration\(\d+\): (?P<prompts>\d+) context requests, (?P<tokens>\d+) context tokens, "
    r"(?P<decodes>\d+) generation requests, (?P<generated>\d+) generation tokens, "
    r"iteration elapsed time: (?P<ms>[\d.]+) ms(?P<dummy> \(dummy\))?, .*?KV cache usage: (?P<used>[\d.]+)%"
)

CAVEATS = (
    "vLLM's own log has no context of the requests that decode: it is taken from the share of the KV memory in use",
    "vLLM's own log has no lengths of prompts: those of an iteration are taken as equal, and as not begun before",
    "vLLM's own log has the time in which the engine waited for the model, without the host's work between iterations",
)
"""What a fit on such a log does not know."""


def iterations(text: str, kv_tokens: float) -> Iterator[tuple[Work, float]]:
    """(work, ms) of every iteration in the text of a log; the context is 0 where ``kv_tokens`` is not known."""
    for found in LINE.finditer(text):
        if found["dummy"]:
            continue
        prompts, tokens, decodes = (int(found[name]) for name in ("prompts", "tokens", "decodes"))
        held = 0.0 if math.isinf(kv_tokens) else max(kv_tokens * float(found["used"]) / 100.0 - tokens, float(decodes))
        squares = tokens**2 / prompts if prompts else 0.0
        ms = float(found["ms"])
        if ms > 0.0 and tokens + decodes > 0:
            yield Work(decodes, held if decodes else 0.0, tokens, squares), ms
