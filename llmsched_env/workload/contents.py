"""What the tokens of requests are, as far as it is known: hashes for the prefix cache, from traces or drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.files.showing import shortened

MOST_PREFIXES, MOST_TOKENS = 10**6, 10**6
MOONCAKE_TOKENS, BAILIAN_TOKENS = 512, 16
"""Tokens of a block in the two formats that have such ids."""

LARGEST_ID = 2**63 - 1

_LISTS = re.compile(rb'^[^\n]*?(?:"hash_ids":[ \t]*\[([\d, \t]*)\][^\n]*)?$', re.MULTILINE)

FORMS = "none, or COUNT:TOKENS or COUNT:TOKENS:S, as 20:1024:1"


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits, each of which depends on all bits of ``x`` (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Contents:
    """Hashes of N requests: ``hashes`` (M,) int64, ``hashed_tokens`` (N,) int32, ``hash_tokens``; as in Requests."""

    hashes: NDArray[np.int64]
    hashed_tokens: NDArray[np.int32]
    hash_tokens: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Hashes of every request (N,)."""
        return -(-self.hashed_tokens.astype(np.int64) // self.hash_tokens)

    def rows(self, rows: NDArray[np.int64], turn: NDArray[np.int64] | None = None) -> Contents:
        """Those of some rows; in another ``turn`` (one for each of them; 0: the first) all tokens are others."""
        counts = self.counts
        starts, wanted = np.cumsum(counts) - counts, counts[rows]
        within = np.arange(int(wanted.sum())) - np.repeat(np.cumsum(wanted) - wanted, wanted)
        hashes = self.hashes[np.repeat(starts[rows], wanted) + within]
        if turn is not None and turn.any():
            hashes = hashes ^ np.repeat(mixed(turn.astype(np.uint64)).view(np.int64), wanted)
        return Contents(hashes, self.hashed_tokens[rows], self.hash_tokens)


def chained(
    ids: NDArray[np.int64], counts: NDArray[np.int64], salt: NDArray[np.uint64] | None = None
) -> NDArray[np.int64]:
    """A hash for every id (M,) that stands for it and for those before it in its request, which has ``counts`` (N,).

    Equal ids of two requests stand for the same tokens if their ``salt`` (N,) is the same.
    """
    starts = np.cumsum(counts) - counts
    before = np.zeros(len(counts), np.uint64) if salt is None else salt.copy()
    found = np.zeros(len(ids), np.uint64)
    for place in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > place)
        at = starts[rows] + place
        before[rows] = mixed(before[rows] + np.uint64(1) + mixed(ids[at].astype(np.uint64)))
        found[at] = before[rows]
    return found.view(np.int64)


@dataclass(frozen=True)
class SharedPrefixes:
    """System prompts: ``count`` texts of ``tokens`` tokens; the k-th is used with a frequency of k^-``skew``."""

    count: int
    tokens: int
    skew: float = 1.0

    def draw(self, n: int, rng: np.random.Generator) -> Contents:
        """The text that each of ``n`` requests begins with."""
        weights = np.cumsum(np.arange(1, self.count + 1) ** -self.skew)
        text = np.searchsorted(weights / weights[-1], rng.random(n), side="right")
        span = -(-self.tokens // BLOCK_TOKENS) * BLOCK_TOKENS
        return Contents(mixed(text.astype(np.uint64)).view(np.int64), np.full(n, self.tokens, np.int32), span)


def parse_shared_prefix(text: str) -> SharedPrefixes | None:
    """``none``, or COUNT:TOKENS or COUNT:TOKENS:S; ``ValueError`` in one line for anything else."""
    if text == "none":
        return None
    try:
        count, tokens, *rest = text.split(":")
        found = SharedPrefixes(int(count), int(tokens), *map(float, rest))
        if 1 <= found.count <= MOST_PREFIXES and 1 <= found.tokens <= MOST_TOKENS and 0 <= found.skew <= 10:
            return found
    except (ValueError, TypeError):
        pass
    raise ValueError(
        f"shared_prefix={text[:40]!r} is not allowed: give {FORMS} (1 to {MOST_PREFIXES:,} prefixes of 1 to "
        f"{MOST_TOKENS:,} tokens, S from 0 to 10)."
    )


def lists_in(raw: bytes, rows: int) -> list[Any] | None:
    """The field of every line of ``raw`` as text; None where a line has it in another form."""
    found = [line for line in raw.split(b"\n") if line.strip()]
    if len(found) != rows:
        return None
    lists = []
    for line in found:
        match = _LISTS.match(line)
        if match is None or (match[1] is None and b'"hash_ids"' in line):
            return None
        lists.append(b"" if match[1] is None else match[1])
    return lists


def contents_of(
    lists: Sequence[Any],
    prompt: NDArray[Any],
    tokens: int,
    *,
    whole: bool = False,
    salt: NDArray[np.uint64] | None = None,
) -> Contents | None:
    """The hashes of rows whose ids are ``lists`` (texts, lists of numbers, or None), blocks of ``tokens`` tokens.

    None where no row has any.  Ids may be fewer than blocks of the prompt: the rest is not known.  ``ValueError`` for
    more, and for what is no id.  ``whole``: only whole blocks have an id, else the last may be cut; ``salt``: `chained`
    """
    ids, counts = [], np.zeros(len(lists), np.int64)
    for row, given in enumerate(lists):
        found = _ids(given, row)
        most = int(prompt[row]) // tokens if whole else -(-int(prompt[row]) // tokens)
        if len(found) > most:
            raise ValueError(
                f"row {row + 1}: {len(found)} hash_ids for a prompt of {int(prompt[row])} tokens: a block has {tokens} "
                f"tokens here, give at most {most}."
            )
        counts[row] = len(found)
        ids.append(found)
    if not counts.any():
        return None
    flat = np.concatenate(ids).astype(np.int64)
    hashed = np.minimum(prompt.astype(np.int64), counts * tokens).astype(np.int32)
    return Contents(chained(flat, counts, salt), hashed, tokens)


def _ids(given: Any, row: int) -> NDArray[np.int64]:
    if isinstance(given, bytes):
        given = [int(word) for word in given.split(b",")] if given.strip() else []
    if given is None:
        given = []
    if type(given) is not list or any(type(value) is not int or not 0 <= value <= LARGEST_ID for value in given):
        raise ValueError(f"row {row + 1}: hash_ids={shortened(str(given))} is not allowed: give a list of ids from 0.")
    return np.array(given, np.int64)
