"""The prefix cache's part of a simulator: sizes of its arrays, and what is loaded of the requests' hashes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env import engines
from llmsched_env.config import SimConfig
from llmsched_env.core.constants import BLOCK_TOKENS, NONE
from llmsched_env.requests import Requests
from llmsched_env.simulation.templates import pool_rows


def cache_sizes(config: SimConfig, capacity: int) -> dict[str, int]:
    """The axes of state.Sizes that only the prefix cache needs; empty: there is none."""
    blocks = engines.get(config.engine).blocks(config)
    if not blocks:
        return {}
    buckets = 2 << (blocks - 1).bit_length()
    return {"chained": capacity, "pools": len(config.servers), "blocks": blocks, "buckets": buckets}


class Chains:
    """Loads what the prefix cache knows of requests; grows the arrays whose length only the requests tell."""

    def __init__(self, config: SimConfig) -> None:
        self._blank = pool_rows(config)
        self._most = engines.get(config.engine).blocks(config)
        self.ends = 0, 0  # of the hashes and tables that were loaded last
        self.own = 0  # requests that were loaded

    def load(self, arrays: Any, lane: int, requests: Requests) -> Any:
        """Empty the cache of ``lane`` and load ``requests``; returns the arrays, or larger ones."""
        arrays.pools[lane].view(np.ndarray)[:] = self._blank
        arrays.buckets[lane] = 0
        self.ends, self.own = (0, 0), 0
        return self.append(arrays, lane, requests, 0)

    def append(self, arrays: Any, lane: int, requests: Requests, first: int) -> Any:
        """Load ``requests`` as rows ``first``, ... of ``lane``, behind those that were loaded last."""
        n, at = len(requests), self.ends
        rows = arrays.chains[lane, first : first + n]
        held = table_sizes(requests, self._most)
        hashes = np.zeros(0, np.int64) if requests.hashes is None else requests.hashes
        self.ends = at[0] + len(hashes), at[1] + int(held.sum())
        arrays = grown(arrays, hashes=self.ends[0], tables=self.ends[1])
        rows[...] = np.zeros((), rows.dtype)
        rows["span"], rows["hashes"] = 1, at[0]
        if requests.hashes is not None and requests.hashed_tokens is not None:
            rows["keyed"] = requests.hashed_tokens // BLOCK_TOKENS
            rows["span"] = requests.hash_tokens // BLOCK_TOKENS
            rows["hashes"] += requests.hash_offsets[:-1]
            arrays.hashes[lane, at[0] : at[0] + len(hashes)] = hashes
        rows["own"] = self.own + np.arange(n)
        self.own += n
        rows["table"] = at[1] + np.cumsum(held) - held
        return arrays

    def keep(self, arrays: Any, live: NDArray[np.bool_], number: NDArray[np.int32]) -> NDArray[np.int64]:
        """Of the requests in lane 0 keep those that are ``live`` (N,), under their new ``number`` (N,).

        Returns the tokens that each of the N found.
        """
        rows, pools = arrays.chains[0, : len(live)], arrays.pools[0]
        cached = rows["cached"].copy()
        kept, ends = rows[live].copy(), list(self.ends)
        for place, (name, held) in enumerate((("hashes", arrays.hashes[0]), ("tables", arrays.tables[0]))):
            field = {"hashes": "hashes", "tables": "table"}[name]
            sizes = np.diff(np.append(rows[field], self.ends[place]))[live]
            starts = np.cumsum(sizes) - sizes
            ends[place] = int(sizes.sum())
            held[: ends[place]] = held[np.repeat(kept[field] - starts, sizes) + np.arange(ends[place])]
            kept[field] = starts
        self.ends = ends[0], ends[1]
        for table, links in ((kept, ("next", "prev")), (pools, ("head", "tail"))):
            for link in links:
                table[link] = np.where(table[link] == NONE, NONE, number[table[link]]) if len(number) else NONE
        rows[: len(kept)] = kept
        return cached


def table_sizes(requests: Requests, most: int) -> NDArray[np.int64]:
    """Most blocks that each request (N,) can refer to, where a server has ``most`` of them."""
    tokens = requests.prompt_tokens.astype(np.int64) + requests.output_tokens - 1
    return np.minimum(-(-tokens // BLOCK_TOKENS), most)


def grown(arrays: Any, **lengths: int) -> Any:
    """The arrays, those that are named at least so long (per lane); what they hold stays."""
    larger = {}
    for name, length in lengths.items():
        old = getattr(arrays, name)
        if length > old.shape[1]:
            larger[name] = np.zeros((len(old), 2 * length), old.dtype)
            larger[name][:, : old.shape[1]] = old
    return arrays._replace(**larger) if larger else arrays
