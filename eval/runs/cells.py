"""Runs that survive a kill: every finished run is stored at once, and a restart makes only the missing ones.

    store = CellStore(folder / "cells.jsonl")        # or None: nothing is stored
    crew = Crew(jobs=2, store=store)
    for run in crew.run_cells(cells):                # stored ones first, then the others as they finish
        print(run.place, run.outcome.summary["slo_attainment"])

A cell is (policy, scenario, seed).  Its key (runs.cache_key) covers everything that determines its outcome, so a store
may hold the cells of several experiments and of several versions of the source: another version has other keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.cache_key import cell_key
from llmsched.eval.runs.line_store import LineStore
from llmsched.eval.runs.outcome import Outcome, Timeline
from llmsched.eval.runs.runner import Cell, run_cells
from llmsched.eval.runs.under_way import Look
from llmsched_env.core.layout import ITL_BINS
from llmsched_env.simulation.metrics import PER_REQUEST

FILE = "cells.jsonl"
"""Name of the store, in the folder of ``--out``."""


class CellStore:
    """Finished runs by key, in a file of lines to which runs are appended; a damaged line's run is made again."""

    def __init__(self, path: Path) -> None:
        self._lines = LineStore(path)

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, key: str, label: str) -> Outcome | None:
        """The outcome stored under ``key``, with ``label`` as its policy; None when there is none."""
        found = self._lines.get(key, _outcome)
        return None if found is None else replace(found, policy=label)

    def put(self, key: str, outcome: Outcome) -> None:
        """Store an outcome; on return it is in the file."""
        self._lines.put(key, _row(outcome))


class Cluster(Protocol):
    """Other machines that make runs: llmsched.eval.runs.ray_cluster."""

    def run_cells(self, cells: Sequence[Cell]) -> Iterator[tuple[int, Outcome]]:
        """(place in ``cells``, outcome) as they finish."""
        ...


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its ``place`` in the list of cells, its outcome, and whether it was read from the store."""

    place: int
    outcome: Outcome
    stored: bool = False


@dataclass(frozen=True)
class Crew:
    """What makes the runs, ``jobs`` threads of this process or a cluster, and the store of finished ones."""

    jobs: int = 1
    store: CellStore | None = None
    cluster: Cluster | None = None

    def run_cells(self, cells: Sequence[Cell], look: Callable[[Look], None] | None = None) -> Iterator[FinishedRun]:
        """Every cell once: first the stored ones, then the others as they finish.  Equal cells run once.

        ``look`` is called now and then with what is seen of the runs under way; never where a cluster makes them.
        """
        places: dict[str, list[int]] = {}
        for place, cell in enumerate(cells):
            places.setdefault(cell_key(cell), []).append(place)
        missing = []
        for key, same in places.items():
            for place in same:
                outcome = self.store.get(key, cells[place].label) if self.store is not None else None
                if outcome is None:
                    missing.append(key)
                    break
                yield FinishedRun(place, outcome, stored=True)
        todo = [cells[places[key][0]] for key in missing]
        for row, outcome in self.cluster.run_cells(todo) if self.cluster else run_cells(todo, self.jobs, look):
            key = missing[row]
            if self.store is not None:
                self.store.put(key, outcome)
            for place in places[key]:
                yield FinishedRun(place, replace(outcome, policy=cells[place].label))


def crew_of(jobs: int | Crew) -> Crew:
    """A crew; for a number of threads a crew without a store."""
    return jobs if isinstance(jobs, Crew) else Crew(jobs)


def _row(outcome: Outcome) -> dict[str, Any]:
    row = {
        "policy": outcome.policy,
        "seed": outcome.seed,
        "summary": _for_json(outcome.summary),
        "latency": [_sparse(counts) for counts in outcome.latency_counts],
    }
    if outcome.timeline is not None:
        line = outcome.timeline
        row["timeline"] = [line.time_s.tolist(), line.waiting.tolist(), line.batch.tolist(), line.last_arrival_s]
    return row


def _sparse(counts: NDArray[np.int64]) -> list[list[int]]:
    used = np.flatnonzero(counts)
    return [used.tolist(), counts[used].tolist()]


def _outcome(row: Mapping[str, Any]) -> Outcome:
    counts = np.zeros((len(PER_REQUEST), ITL_BINS), np.int64)
    for place, (used, numbers) in enumerate(row["latency"]):
        counts[place][used] = numbers
    line = None
    if "timeline" in row:
        time_s, waiting, batch, last_arrival_s = row["timeline"]
        line = Timeline(np.array(time_s), np.array(waiting, np.int64), np.array(batch), last_arrival_s)
    return Outcome(row["policy"], row["seed"], _from_json(row["summary"]), counts, line)


def _for_json(value: Any) -> Any:
    """A summary for JSON: NaN becomes null, every other number is read back bit by bit."""
    if isinstance(value, Mapping):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return math.nan if value is None else value
