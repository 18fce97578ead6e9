"""What the logs of benchmarks, gateways and other simulators have in common: requests, and the times of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.reality.log_data import LoggedRun
from llmsched_env.files.showing import shortened
from llmsched_env.requests import MAX_TOKENS, Requests

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClientLog:
    """One run as its client saw it: N rows, failed requests included.

    ``arrival_s``, ``ttft_s``, ``e2e_s`` (N,) float64 seconds, NaN where the file has none; ``prompt_tokens`` and
    ``output_tokens`` (N,) float64.  ``kind``: the format; ``label``: of the run in its file; ``says``: what the file
    states about server and load; ``notes``: what was left out or assumed.
    """

    kind: str
    label: str
    arrival_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    ttft_s: Floats
    e2e_s: Floats
    says: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Requests that can be simulated: sent, with a prompt and at least one token of output, (N,)."""
        lengths = (self.prompt_tokens >= 1) & (self.output_tokens >= 1)
        return np.isfinite(self.arrival_s) & lengths & (self.prompt_tokens <= MAX_TOKENS)

    @property
    def timed(self) -> bool:
        """Whether every request that can be simulated has both times, so that a profile can be fitted."""
        kept = self.complete
        return bool(kept.any() and np.isfinite(self.ttft_s[kept]).all() and np.isfinite(self.e2e_s[kept]).all())

    def run(self) -> LoggedRun:
        """The requests in order of arrival, the first at 0 s; ``ValueError`` where the times contradict each other."""
        kept = np.flatnonzero(self.complete)
        if not len(kept):
            raise ValueError(f"{self.kind}: no request with a prompt and an output.")
        kept = kept[np.argsort(self.arrival_s[kept], kind="stable")]
        sent, prompt, output = self.arrival_s[kept], self.prompt_tokens[kept], self.output_tokens[kept]
        ttft, e2e = self.ttft_s[kept], self.e2e_s[kept]
        for wrong, what in (
            (ttft <= 0, "a time to the first token of 0 or less"),
            (e2e < ttft - 1e-9, "an end before the first token"),
        ):
            if wrong.any():
                row = int(kept[np.argmax(wrong)])
                raise ValueError(f"{self.kind}, request {row + 1}: {what} ({ttft[np.argmax(wrong)]:g} s).")
        return LoggedRun(self.label, Requests.checked(sent - sent[0], prompt, output), ttft, np.maximum(e2e, ttft))


def numbers(values: Sequence[Any], what: str) -> Floats:
    """``values`` as (N,) float64, None as NaN; ``ValueError`` names the first that is neither."""
    found = np.empty(len(values))
    for row, value in enumerate(values):
        if value is None:
            found[row] = np.nan
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            found[row] = value
        else:
            raise ValueError(f"request {row + 1}: {what}={shortened(str(value))} is not allowed: give a number.")
    return found


def log_of(
    kind: str,
    label: str,
    rows: Sequence[Mapping[str, Any]],
    says: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> ClientLog:
    """A log of rows with the keys ``arrival``, ``prompt``, ``output``, ``ttft`` and ``e2e``, seconds and tokens."""
    columns = {key: numbers([row.get(key) for row in rows], key) for key in ROW}
    failed = int((~(columns["output"] >= 1)).sum())
    if failed:
        notes = [*notes, f"{failed:,} of {len(rows):,} requests failed or have no output: left out"]
    sent, prompt, output, ttft, e2e = (columns[key] for key in ROW)
    return ClientLog(kind, label, sent, prompt, output, ttft, e2e, says or {}, tuple(notes))


ROW = ("arrival", "prompt", "output", "ttft", "e2e")
"""Keys of a row, in the order of the fields of ClientLog."""
