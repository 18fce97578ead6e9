"""Small systems and the stamps that vLLM's own scheduler gave them, read from two JSON files and checked.

A system is a server without a model: blocks of KV memory, most sequences, tokens of a step, the duration of a step as
coefficients of the form `split` (ms), and requests.  docs/results/vllm_parity.md lists the fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_env.files.reading import CannotReadError, json_of, read_bytes, unpacked

COEFFICIENTS = ("d0", "d1", "d2", "p0", "p1", "p2")
FIRST_OUTPUT = 100_000
"""Id of the output tokens of request 0."""
MOST_BLOCKS = 10**9
MOST_SEQUENCES = 2**20
MOST_TOKENS = 2**20
"""Tokens of a prompt or an answer; with a prefix cache every one of them is written down."""

SHOWN = 40
"""Characters of a wrong value that an error shows."""


@dataclass(frozen=True)
class System:
    """A server (``blocks`` of 16 tokens, ``seqs``, ``budget``, ``coef_ms``) and its N requests in order of arrival.

    ``arrival`` in seconds, ``prompt`` and ``output`` in tokens.  With a prefix cache ``tokens``: the ids of each
    prompt's tokens; those of the output of request i all have the id FIRST_OUTPUT + i.  Switches of the scheduler:
    ``threshold`` (``long_prefill_token_threshold``, 0: none), ``chunked`` (``enable_chunked_prefill``) and ``reserve``
    (``scheduler_reserve_full_isl``).  ``priority`` of each request, the lowest first; without them first come, first
    served.
    """

    blocks: int
    seqs: int
    budget: int
    coef_ms: tuple[float, ...]
    arrival: tuple[float, ...]
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...] = ()
    threshold: int = 0
    chunked: bool = True
    reserve: bool = True
    priority: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stamps:
    """Of N requests: when the first token and the last came (s; None: never), and how often each was preempted.

    With a prefix cache ``cached``: tokens that each found in it, over all admissions.
    """

    first: tuple[float | None, ...]
    done: tuple[float | None, ...]
    preempted: tuple[int, ...]
    cached: tuple[int, ...] = ()


def read_systems(path: Path, *, cached: bool = False) -> list[System]:
    """The systems in ``path`` (JSON, also gzip), ``cached``: with their tokens.

    ``ValueError`` in one line that names the system and the field.
    """
    return [_system(f"{path}: system {place}", row, cached) for place, row in enumerate(_rows("SYSTEMS", path))]


def read_stamps(path: Path, systems: Sequence[System], *, cached: bool = False) -> list[Stamps]:
    """The stamps in ``path``, one for each of ``systems``; ``ValueError`` as in `read_systems`."""
    rows = _rows("STAMPS", path)
    if len(rows) != len(systems):
        raise ValueError(f"{path}: stamps of {len(rows)} systems for {len(systems)} systems: give files that match.")
    pairs = zip(rows, systems, strict=True)
    return [_stamps(f"{path}: system {place}", row, len(one.arrival), cached) for place, (row, one) in enumerate(pairs)]


def _rows(what: str, path: Path) -> list[Mapping[str, Any]]:
    try:
        found = json_of(unpacked(read_bytes(path)))
    except CannotReadError as error:
        raise ValueError(f"{what} {str(path)!r}: {error}.") from None
    if type(found) is not list or not found or any(type(row) is not dict for row in found):
        raise ValueError(f"{what} {str(path)!r}: give a JSON list of at least one object, one for each system.")
    return found


def _system(where: str, row: Mapping[str, Any], cached: bool) -> System:
    arrival = _list(where, row, "arrival", _is_time, "seconds, at least 0")
    if not arrival:
        raise ValueError(f"{where}: 'arrival' is empty: give at least one request.")
    if any(later < earlier for earlier, later in zip(arrival, arrival[1:], strict=False)):
        raise ValueError(f"{where}: 'arrival' is not in ascending order: sort the requests by arrival.")
    n, tokens = len(arrival), f"whole numbers from 1 to {MOST_TOKENS:,}"
    coefficients = _list(where, row, "coef_ms", _is_time, "milliseconds, at least 0", len(COEFFICIENTS))
    prompt = _list(where, row, "prompt", _is_tokens, tokens, n)
    return System(
        blocks=_whole(where, row, "blocks", MOST_BLOCKS),
        seqs=_whole(where, row, "seqs", MOST_SEQUENCES),
        budget=_whole(where, row, "budget", 10**9),
        coef_ms=tuple(map(float, coefficients)),
        arrival=tuple(map(float, arrival)),
        prompt=prompt,
        output=_list(where, row, "output", _is_tokens, tokens, n),
        tokens=_contents(where, row, prompt) if cached else (),
        threshold=_whole(where, row, "threshold", 10**9) if row.get("threshold", 0) != 0 else 0,
        chunked=_switch(where, row, "chunked"),
        reserve=_switch(where, row, "reserve"),
    )


def _contents(where: str, row: Mapping[str, Any], prompt: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The ids of the prompts' tokens."""
    rows = _list(where, row, "tokens", lambda value: type(value) is list, "lists of token ids", len(prompt))
    for i, (ids, n) in enumerate(zip(rows, prompt, strict=True)):
        if len(ids) != n:
            raise ValueError(
                f"{where}: 'tokens' of request {i} has {len(ids)} values: give {n}, as many as its prompt."
            )
        if not all(_is_count(value) for value in ids):
            raise ValueError(f"{where}: 'tokens' of request {i} holds what is no id: give whole numbers from 0.")
    return tuple(tuple(ids) for ids in rows)


def _stamps(where: str, row: Mapping[str, Any], n: int, with_cache: bool) -> Stamps:
    first = _list(where, row, "first", _is_stamp, "seconds or null", n)
    done = _list(where, row, "done", _is_stamp, "seconds or null", n)
    preempted = _list(where, row, "preempted", _is_count, "whole numbers from 0", n)
    cached = _list(where, row, "cached", _is_count, "whole numbers from 0", n) if with_cache else ()
    return Stamps(first, done, preempted, cached)


def _whole(where: str, row: Mapping[str, Any], name: str, most: int) -> int:
    value = row.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{where}: {name!r} is {_shown(value)}: give a whole number from 1 to {most:,}.")
    return value


def _switch(where: str, row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name, True)
    if type(value) is not bool:
        raise ValueError(f"{where}: {name!r} is {_shown(value)}: give true or false.")
    return value


def _list(
    where: str, row: Mapping[str, Any], name: str, allowed: Callable[[Any], bool], wanted: str, n: int | None = None
) -> tuple[Any, ...]:
    values = row.get(name)
    if type(values) is not list:
        raise ValueError(f"{where}: {name!r} is {_shown(values)}: give a list of {wanted}.")
    if n is not None and len(values) != n:
        raise ValueError(f"{where}: {name!r} has {len(values)} values: give {n}.")
    for place, value in enumerate(values):
        if not allowed(value):
            raise ValueError(f"{where}: {name!r} holds {_shown(value)} at place {place}: give {wanted}.")
    return tuple(values)


def _shown(value: Any) -> str:
    text = "missing" if value is None else ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1e12 and math.isfinite(value)


def _is_stamp(value: Any) -> bool:
    return value is None or _is_time(value)


def _is_tokens(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_TOKENS


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
