"""The best caps of a policy: running set (or batch) and tokens of an iteration, searched together."""

from __future__ import annotations

import itertools
from dataclasses import replace

from llmsched.eval.cli.frame import Session
from llmsched.eval.runs.tune import VALIDATED, Entrant, Goal, capacity
from llmsched.eval.scenarios.scenario import Scenario

BATCHES = (32, 64, 128, 256, 512)
BUDGETS = (512.0, 1024.0, 2048.0, 4096.0, 8192.0)


def with_best_caps(entrant: Entrant, session: Session, goal: Goal | None = None, kept: str = "") -> Entrant:
    """The entrant under the pair of caps with the highest capacity on the validation seeds; notes say which.

    ``goal``: what a rate has to keep, ``kept`` the same in words (default: 95 % of the arrivals within their SLO).

    A policy that sets its own caps (``vllm``) is the same under all of them.
    """
    tried = [(capped(entrant.scenario, batch, budget), batch, budget) for batch, budget in pairs(entrant.scenario)]
    found = []
    for scenario, batch, budget in tried:
        try:
            found.append((capacity(entrant.policy, scenario, session.crew, goal).rate, batch, budget, scenario))
        except ValueError:  # no capacity under these caps, or no end of it
            continue
    if not found:
        session.notes.append(f"Caps of {entrant.label}: none of {len(tried)} pairs has a capacity; kept as they are.")
        return entrant
    rate, batch, budget, scenario = max(found, key=lambda each: each[0])
    size = f"sets of {batch}, {budget:g} tokens an iteration" if budget else f"batches of {batch}"
    what = f" {kept}" if kept else ""
    session.notes.append(
        f"Caps of {entrant.label}: {size}, {rate:.3g} requests/s{what}, the best of {len(tried)} ({VALIDATED})."
    )
    return Entrant(entrant.policy, scenario)


def pairs(scenario: Scenario) -> list[tuple[int, float]]:
    """Caps to try: (running set or batch, tokens of an iteration; 0 in the engine ``batch``, which has none)."""
    if scenario.config.engine != "continuous":
        return [(batch, 0.0) for batch in BATCHES]
    return list(itertools.product(BATCHES, BUDGETS))


def capped(scenario: Scenario, batch: int, budget: float) -> Scenario:
    """The scenario with these caps."""
    config = replace(scenario.config, max_batch=batch)
    if budget:
        config = replace(config, continuous=replace(config.continuous, token_budget=budget))
    return replace(scenario, config=config)
