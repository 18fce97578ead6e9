"""Which policies of a comparison are overloaded, and what their automatic setting would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmsched.eval.runs.cells import Crew
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.tune import Entrant, resolve
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies.parameters import AUTO

COMPLETED_SHARE = 0.95
"""A policy is overloaded when it completes less than this share of what arrives per second ..."""

BUSY_SHARE = 0.97
"""... while its servers are busy for at least this share of the run."""


def arrival_rates(scenario: Scenario, seeds: Sequence[int]) -> dict[int, float]:
    """Scored arrivals per second by seed."""
    rates = {}
    for seed in seeds:
        times = scenario.draw(seed).arrival_s[scenario.workload.warmup :]
        span = float(times[-1] - times[0])
        rates[seed] = len(times) / span if span > 0 else 0.0
    return rates


def overloaded(done: Sequence[Outcome], rates: Mapping[int, float]) -> dict[str, tuple[float, float]]:
    """Mean (completed, arriving) requests/s of the policies that are overloaded in the mean over their seeds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    arriving: dict[str, list[float]] = {}
    for run in done:
        found.setdefault(run.policy, []).append(run.summary)
        arriving.setdefault(run.policy, []).append(rates[run.seed])
    marks = {}
    for policy, summaries in found.items():
        completed = sum(summary["request_throughput"] for summary in summaries) / len(summaries)
        busy = sum(summary["gpu_utilization"] for summary in summaries) / len(summaries)
        offered = sum(arriving[policy]) / len(summaries)
        if completed < COMPLETED_SHARE * offered and busy >= BUSY_SHARE:
            marks[policy] = (completed, offered)
    return marks


def overload_notes(
    entrants: Sequence[Entrant], done: Sequence[Outcome], rates: Mapping[int, float], crew: Crew
) -> list[str]:
    """A line for every overloaded policy; where it has a setting that can be `auto`, with what that would give."""
    marks, notes = overloaded(done, rates), []
    for entrant in entrants:
        if entrant.label not in marks:
            continue
        completed, offered = marks[entrant.label]
        line = (
            f"{entrant.label} is overloaded: {completed:.3g} of {offered:.3g} requests/s complete, so its latencies "
            "grow with the length of the run."
        )
        bound = entrant.policy
        open_ = [name for name, one in bound.policy.params.items() if one.auto and bound.values[name] == one.default]
        if open_ and not entrant.choice:
            (tuned,) = resolve([bound.with_params(**dict.fromkeys(open_, AUTO))], entrant.scenario, crew)
            line += f" With {', '.join(f'{name}=auto' for name in open_)}: {tuned.choice}."
        notes.append(line)
    return notes
