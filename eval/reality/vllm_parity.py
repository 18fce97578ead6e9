"""The engine `continuous` beside vLLM's own scheduler, stamp for stamp: ``python eval/vllm_parity.py SYSTEMS STAMPS``

Every system is run by the compiled engine with vLLM's rules; its stamps are held against those that vLLM's scheduler
classes gave in virtual time (docs/results/vllm_parity.md).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.cli.progress import Progress
from llmsched.eval.reality.vllm_systems import COEFFICIENTS, FIRST_OUTPUT, Stamps, System, read_stamps, read_systems
from llmsched.policies import parse
from llmsched_env.config import SLO, Continuous, Server, SimConfig
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.options.words import SCHEDULINGS
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate

TOLERANCE = 1e-9
"""Seconds by which equal stamps may differ, or the share of a stamp above one second: the sums are made in another
order."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The two files, and how vLLM was run."""
    add = parser.add_argument
    add("systems", type=Path, metavar="SYSTEMS", help="JSON list of systems (also .gz)")
    add("stamps", type=Path, metavar="STAMPS", help="JSON list of vLLM's stamps, one for each system (also .gz)")
    add("--scheduling", choices=SCHEDULINGS, required=True, help="how vLLM was run")
    add("--prefix-cache", action="store_true", help="vLLM was run with its prefix cache")
    add("--json", action="store_true", help="print systems, equal and the first divergence as JSON and nothing else")


@dataclass(frozen=True)
class Divergence:
    """The earliest stamp that differs in a system: of which request, which one, and what both say."""

    system: int
    request: int
    stamp: str
    vllm: float | None
    engine: float | None

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return dict(vars(self))

    def text(self) -> str:
        """In a sentence."""
        seen = f"{_said(self.vllm)} in vLLM, {_said(self.engine)} here"
        return f"First divergence: system {self.system}, request {self.request}, {self.stamp!r}: {seen}."


@dataclass(frozen=True, kw_only=True)
class ParityFindings(Findings):
    """How many systems were run, how many are equal in every stamp, and where the first differs."""

    systems: int
    equal: int
    first: Divergence | None

    def text(self, notes: Sequence[str]) -> str:
        """Three lines."""
        lines = [f"systems {self.systems:,}", f"equal   {self.equal:,}"]
        return "\n".join([*lines, "No divergence." if self.first is None else self.first.text(), *notes])

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> Mapping[str, Any]:
        """``systems``, ``equal``, ``first_divergence`` (null: none)."""
        first = None if self.first is None else self.first.as_json()
        return {"systems": self.systems, "equal": self.equal, "first_divergence": first}


def find(session: Session) -> Findings:
    """Read, run, compare."""
    options = session.options
    systems = read_systems(options.systems, cached=options.prefix_cache)
    stamps = read_stamps(options.stamps, systems, cached=options.prefix_cache)
    found: list[Divergence | None] = []
    with Progress("vllm_parity", len(systems), float(len(systems))) as progress:
        for place, (system, expected) in enumerate(zip(systems, stamps, strict=True)):
            ours = run(place, admissible(system), options.scheduling, options.prefix_cache)
            found.append(divergence(place, system, expected, ours))
            progress.step(f"system {place}", 1.0)
    different = [one for one in found if one is not None]
    return ParityFindings(
        heading="vllm_parity",
        systems=len(systems),
        equal=len(systems) - len(different),
        first=different[0] if different else None,
    )


def admissible(system: System) -> System:
    """The system up to the first request whose prompt fits into no memory: in vLLM it stands at the head for ever and
    keeps all later ones out, while the engine rejects it."""
    room = BLOCK_TOKENS * system.blocks
    n = next((i for i, tokens in enumerate(system.prompt) if tokens > room), len(system.prompt))
    rows = {name: getattr(system, name)[:n] for name in ("arrival", "prompt", "output", "tokens", "priority")}
    return replace(system, **rows)


def hashed(system: System) -> Requests:
    """The requests, with a hash for every block of their prompts and outputs where the tokens are known."""
    if not system.tokens:
        return Requests.checked(system.arrival, system.prompt, system.output)
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    hashes, covered = [], []
    for i, (ids, output) in enumerate(zip(system.tokens, system.output, strict=True)):
        sequence = ids + (FIRST_OUTPUT + i,) * output
        before = 0
        for end in range(BLOCK_TOKENS, len(sequence) + 1, BLOCK_TOKENS):
            before = known.setdefault((before, sequence[end - BLOCK_TOKENS : end]), len(known) + 1)
            hashes.append(before)
        covered.append(len(sequence) // BLOCK_TOKENS * BLOCK_TOKENS)
    return replace(
        Requests.checked(system.arrival, system.prompt, system.output),
        hashes=np.array(hashes, np.int64),
        hashed_tokens=np.array(covered, np.int32),
    )


def run(place: int, system: System, scheduling: str, prefix_cache: bool = False) -> Stamps:
    """The stamps of the engine; ``place`` names the system in a ``ValueError``."""
    if not system.arrival:
        return Stamps((), (), ())
    cache, levels = "on" if prefix_cache else "off", sorted(set(system.priority))
    try:
        coefficients = dict(zip(COEFFICIENTS, system.coef_ms, strict=True))
        profile = Profile("system", "split", coefficients, float(BLOCK_TOKENS * system.blocks))
        config = SimConfig(
            servers=(Server(profile),),
            max_batch=system.seqs,
            slos=tuple(SLO(share=1 / len(levels), name=str(level)) for level in levels) or (SLO(),),
            engine="continuous",
            continuous=Continuous(
                admission="prompt" if system.reserve else "chunk",
                prefill="chunked" if system.chunked else "whole",
                max_chunk=float(system.threshold or math.inf),
                token_budget=system.budget,
                scheduling=scheduling,
                prefix_cache=cache,
            ),
        )
        requests, policy = hashed(system), f"static:batch={system.seqs}"
        if levels:  # a class for each
            classes = np.array([levels.index(level) for level in system.priority], np.int8)
            requests = replace(requests, slo_class=classes)
            policy = f"vllm-priority:seqs={system.seqs}:budget={system.budget}"
        ready = parse(policy).ready(config)
    except ValueError as error:
        raise ValueError(f"system {place}: {error}") from None
    # a policy of vLLM's asks for asynchronous scheduling and leaves the cache as it is
    rules = replace(ready.config.continuous, scheduling=scheduling)
    result = simulate(replace(ready.config, continuous=rules), requests, ready.decide, **ready.options)
    rows, cached = result.requests, () if result.cached_tokens is None else result.cached_tokens
    preempted = tuple(map(int, rows["preemptions"]))
    return Stamps(_times(rows["first_token"]), _times(rows["completion"]), preempted, tuple(map(int, cached)))


def _times(column: Any) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(time) else float(time) for time in column)


def divergence(place: int, system: System, vllm: Stamps, engine: Stamps) -> Divergence | None:
    """The earliest difference; None: equal.

    A request that does not fit alone stands still in vLLM for ever, and with it all that come later; the engine drops
    it.  In a system with such a request only what vLLM finished is compared.
    """
    room = BLOCK_TOKENS * system.blocks
    blocked = any(p + o - 1 > room for p, o in zip(system.prompt, system.output, strict=True))
    found: list[tuple[float, Divergence]] = []
    for i in range(len(engine.first)):
        for stamp in ("first", "done"):
            theirs, ours = getattr(vllm, stamp)[i], getattr(engine, stamp)[i]
            if (theirs is None and blocked) or _equal(theirs, ours):
                continue
            when = min(time for time in (theirs, ours) if time is not None)
            found.append((when, Divergence(place, i, stamp, theirs, ours)))
        for count in ("preempted", "cached"):
            if not getattr(vllm, count) or (blocked and vllm.done[i] is None):
                continue
            theirs, ours = getattr(vllm, count)[i], getattr(engine, count)[i]
            if theirs != ours:
                found.append((math.inf, Divergence(place, i, count, theirs, ours)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _equal(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a))


def _said(value: float | None) -> str:
    return "never" if value is None else f"{value:.12g}"


EXPERIMENT = Experiment(
    "vllm_parity.py",
    "Run systems through the engine continuous and compare every stamp with those of vLLM's own scheduler.",
    add_options,
    find,
    plain_parser,
)
