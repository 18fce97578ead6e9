"""Searches for plans in hindsight, one per trace, several at a time; with a folder, every finished plan is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.best_possible import plan_search, plans
from llmsched.eval.best_possible.plan_search import TraceSimulation
from llmsched.eval.best_possible.plans import Plan, decisions_of, noise_key, plan_policy
from llmsched.eval.cli.progress import Progress
from llmsched.eval.runs.cache_key import cell_key
from llmsched.eval.runs.line_store import LineStore
from llmsched.eval.runs.runner import Cell, run_tasks
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound

FILE = "plans.jsonl"
"""Name of the file of plans in the folder of ``--out``."""


@dataclass(frozen=True)
class PlanSearch:
    """A search on the traces of ``scenario``.

    Under each discipline of ``orders`` it tries ``trials`` plans, from the best plan of the policies ``starts``.
    """

    scenario: Scenario
    starts: Sequence[Bound]
    orders: Sequence[str]
    trials: int

    def key(self, seed: int) -> str:
        """Equal keys, equal plans."""
        cells = [Cell("", start, self.scenario, seed) for start in self.starts]
        facts = [*(cell_key(cell) for cell in cells), *self.orders, str(self.trials)]
        for module in (plans, plan_search):
            facts.append(Path(str(module.__file__)).read_text(encoding="utf-8"))
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]

    def best_plan(self, seed: int) -> tuple[str, Plan]:
        """The best plan for the trace of ``seed``, and the discipline it is for."""
        requests = self.scenario.draw(seed)
        cells = [Cell(start.label, start, self.scenario, seed) for start in self.starts]
        starts = [decisions_of(cell, requests) for cell in cells]
        best = []
        for place, order in enumerate(self.orders):
            trace = TraceSimulation(self.scenario.config, order, requests, noise_key(cells[0]))
            start = min(starts, key=lambda plan: trace.judge(plan).order)
            plan = trace.improve(start, self.trials, np.random.default_rng((seed, place)))
            best.append((trace.judge(plan).order, place, plan))
        _, place, plan = min(best, key=lambda entry: entry[:2])
        return self.orders[place], plan


def search_plans(search: PlanSearch, seeds: Sequence[int], jobs: int, folder: Path | None, label: str) -> list[Bound]:
    """By seed, a policy that follows the best plan for its trace; stored plans are not searched again."""
    keys = [search.key(seed) for seed in seeds]
    lines = None if folder is None else LineStore(folder / FILE)
    stored = {key: lines.get(key, _plan) for key in keys} if lines is not None else {}
    known = {key: plan for key, plan in stored.items() if plan is not None}

    def task(key: str, seed: int) -> Callable[[], tuple[str, tuple[str, Plan]]]:
        return lambda: (key, search.best_plan(seed))

    missing = [(key, seed) for key, seed in zip(keys, seeds, strict=True) if key not in known]
    with Progress(label, len(missing)) as progress:
        for key, (order, plan) in run_tasks([task(key, seed) for key, seed in missing], jobs):
            known[key] = order, plan
            if lines is not None:
                lines.put(key, {"order": order, "plan": plan.astype(int).tolist()})
            progress.step()
    return [plan_policy("search", plan, order) for order, plan in (known[key] for key in keys)]


def _plan(row: Mapping[str, Any]) -> tuple[str, Plan]:
    return row["order"], np.array(row["plan"], dtype=np.float64).reshape(-1, 2)
