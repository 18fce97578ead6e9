"""Plans found in hindsight, a search per trace, several at a time; with a folder, every finished one is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmsched.eval.best_possible import plan_search, plans
from llmsched.eval.best_possible.plan_search import Trace
from llmsched.eval.best_possible.plans import Plan, noise_key, noted, plan_policy
from llmsched.eval.cli.progress import Progress
from llmsched.eval.runs.cache_key import cell_key
from llmsched.eval.runs.runner import Cell, as_finished
from llmsched.eval.runs.scenario import Scenario
from llmsched.policies import Bound

FILE = "plans.jsonl"
"""Name of the file of plans in the folder of ``--out``."""


@dataclass(frozen=True)
class Search:
    """A search on the traces of ``scenario``: from the decisions of the policies ``starts``, the best of them under
    each discipline of ``orders``, with so many ``trials`` there."""

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

    def found(self, seed: int) -> tuple[str, Plan]:
        """The best plan for the trace of ``seed``, and the discipline it is for."""
        requests = self.scenario.draw(seed)
        cells = [Cell(start.label, start, self.scenario, seed) for start in self.starts]
        starts = [noted(cell, requests) for cell in cells]
        best = []
        for place, order in enumerate(self.orders):
            trace = Trace(self.scenario.config, order, requests, noise_key(cells[0]))
            start = min(starts, key=lambda plan: trace.judge(plan).order)
            plan = trace.improved(start, self.trials, np.random.default_rng((seed, place)))
            best.append((trace.judge(plan).order, place, plan))
        _, place, plan = min(best, key=lambda entry: entry[:2])
        return self.orders[place], plan


def searched(search: Search, seeds: Sequence[int], jobs: int, folder: Path | None, label: str) -> list[Bound]:
    """For the trace of every seed a policy that carries out the best plan found; kept ones are not searched again."""
    keys = [search.key(seed) for seed in seeds]
    file = None if folder is None else folder / FILE
    known = {} if file is None else _kept(file)

    def task(key: str, seed: int) -> Callable[[], tuple[str, tuple[str, Plan]]]:
        return lambda: (key, search.found(seed))

    missing = [(key, seed) for key, seed in zip(keys, seeds, strict=True) if key not in known]
    with Progress(label, len(missing)) as progress:
        for key, (order, plan) in as_finished([task(key, seed) for key, seed in missing], jobs):
            known[key] = order, plan
            if file is not None:
                _keep(file, key, order, plan)
            progress.step()
    return [plan_policy("search", plan, order) for order, plan in (known[key] for key in keys)]


def _keep(file: Path, key: str, order: str, plan: Plan) -> None:
    row = {"key": key, "order": order, "plan": plan.astype(int).tolist()}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, separators=(",", ":")) + "\n")


def _kept(file: Path) -> dict[str, tuple[str, Plan]]:
    """Plans of earlier searches by key; a line that a kill cut off is passed over."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
            found[row["key"]] = row["order"], np.array(row["plan"], dtype=np.float64).reshape(-1, 2)
        except (ValueError, KeyError, TypeError):
            continue
    return found
