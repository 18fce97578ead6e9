"""The requests of a run as vLLM's timed trace, which ``vllm bench serve --dataset-name timed_trace`` sends to a server.

A line per request: ``timestamp`` (here whole milliseconds), ``input_length``, ``output_length`` and ``hash_ids``.  vLLM
makes as many tokens of every id as ``--timed-trace-chunk-hash-size`` says and stops where the ids end, so the ids of a
prompt have to cover it; equal ids are equal tokens.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from llmsched_env.requests import Requests

CHUNK = 512
"""Tokens of an id where the requests share nothing: their ids are all different."""


def chunk_of(requests: Requests) -> int:
    """Tokens of an id."""
    return CHUNK if requests.hashes is None else requests.hash_tokens


def timed_trace(requests: Requests) -> str:
    """The lines, in order of arrival."""
    lines = []
    for row, ids in enumerate(prompt_ids(requests)):
        line = {
            "timestamp": round(1e3 * float(requests.arrival_s[row])),
            "input_length": int(requests.prompt_tokens[row]),
            "output_length": int(requests.output_tokens[row]),
            "hash_ids": ids.tolist(),
        }
        lines.append(json.dumps(line) + "\n")
    return "".join(lines)


def prompt_ids(requests: Requests) -> list[NDArray[np.int64]]:
    """The ids of every prompt, numbered from 0: those that the requests have, then new ones up to its end."""
    chunk = chunk_of(requests)
    needed = -(-requests.prompt_tokens.astype(np.int64) // chunk)
    if requests.hashes is None or requests.hashed_tokens is None:
        ends = np.cumsum(needed)
        return [np.arange(end - count, end) for count, end in zip(needed, ends, strict=True)]
    numbers = np.unique(requests.hashes, return_inverse=True)[1].astype(np.int64)
    new = int(numbers.max(initial=-1)) + 1
    counts = -(-requests.hashed_tokens.astype(np.int64) // chunk)
    starts = np.cumsum(counts) - counts
    found = []
    for row, count in enumerate(needed):
        own = numbers[starts[row] : starts[row] + min(count, counts[row])]
        found.append(np.concatenate([own, np.arange(new, new + count - len(own))]))
        new += int(count - len(own))
    return found


def how_to_send(path: str, requests: Requests) -> str:
    """The options of vLLM's benchmark for a file."""
    return (
        f"{path}: vllm bench serve --dataset-name timed_trace --dataset-path {path} --self-timed --no-oversample "
        f"--num-prompts {len(requests)} --timed-trace-chunk-hash-size {chunk_of(requests)} "
        "--timed-trace-sec-multiplier 0.001 --ignore-eos --save-result --save-detailed"
    )
