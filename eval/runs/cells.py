"""Runs that survive a kill: every finished one is kept at once, and a restart makes only those that are missing.

    store = CellStore(folder / "cells.jsonl")        # or None: nothing is kept
    crew = Crew(jobs=2, store=store)
    for done in crew.made(cells):                    # kept ones first, then the others as they finish
        print(done.place, done.outcome.summary["slo_attainment"])

A cell is (policy, scenario, seed); its key (runs.cache_key) covers all that determines its outcome, so a store may hold
the cells of several experiments and of several versions of the source: what does not fit is not found.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llmsched.eval.runs.cache_key import cell_key
from llmsched.eval.runs.outcome import Outcome, Timeline
from llmsched.eval.runs.runner import Cell, numbered
from llmsched_env.core.layout import ITL_BINS

FILE = "cells.jsonl"
"""Name of the store in the folder of ``--out``."""


class CellStore:
    """Finished runs by key, in a file of JSON lines that is only ever appended to, a run at a time.

    A line that a kill cut off is passed over, and its run made again.  In memory there is only where each run begins
    in the file: a hundred thousand runs would take gigabytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        end, line = 0, b"\n"
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    with suppress(ValueError, KeyError, TypeError):  # cut off
                        self._places[json.loads(line)["key"]] = end
                    end += len(line)
        if not line.endswith(b"\n"):
            self._append(b"\n")

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str, label: str) -> Outcome | None:
        """The outcome kept under ``key``, under the label of who asks; None when there is none."""
        if key not in self._places:
            return None
        with self._path.open("rb") as file:
            file.seek(self._places[key])
            row = json.loads(file.readline())
        return replace(_outcome(row), policy=label)

    def put(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome; on return it is in the file."""
        line = json.dumps(_row(key, outcome), separators=(",", ":")).encode() + b"\n"
        self._places[key] = self._append(line) - len(line)

    def _append(self, line: bytes) -> int:
        """Write at the end of the file, wherever others have brought it; where it ends now."""
        place = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(place, line)
            return os.lseek(place, 0, os.SEEK_CUR)
        finally:
            os.close(place)


class Cluster(Protocol):
    """Other machines that make runs (llmsched.eval.runs.ray_cluster)."""

    def numbered(self, cells: Sequence[Cell]) -> Iterator[tuple[int, Outcome]]:
        """(place in ``cells``, outcome) as they finish."""
        ...


@dataclass(frozen=True)
class Done:
    """A finished run: its ``place`` in the list of cells, its outcome, and whether it was ``kept`` from before."""

    place: int
    outcome: Outcome
    kept: bool = False


@dataclass(frozen=True)
class Crew:
    """Who makes the runs, ``jobs`` threads of this process or a cluster, and where finished ones are kept."""

    jobs: int = 1
    store: CellStore | None = None
    cluster: Cluster | None = None

    def made(self, cells: Sequence[Cell]) -> Iterator[Done]:
        """Every cell once: first those in the store, then the others as they finish; equal cells run once."""
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
                yield Done(place, outcome, kept=True)
        todo = [cells[places[key][0]] for key in missing]
        for row, outcome in self.cluster.numbered(todo) if self.cluster else numbered(todo, self.jobs):
            key = missing[row]
            if self.store is not None:
                self.store.put(key, outcome)
            for place in places[key]:
                yield Done(place, replace(outcome, policy=cells[place].label))


def crew_of(jobs: int | Crew) -> Crew:
    """A crew; a number of threads is one that keeps nothing."""
    return jobs if isinstance(jobs, Crew) else Crew(jobs)


def _row(key: str, outcome: Outcome) -> dict[str, Any]:
    used = np.flatnonzero(outcome.e2e_counts)
    row = {
        "key": key,
        "policy": outcome.policy,
        "seed": outcome.seed,
        "summary": _written(outcome.summary),
        "e2e": [used.tolist(), outcome.e2e_counts[used].tolist()],
    }
    if outcome.timeline is not None:
        line = outcome.timeline
        row["timeline"] = [line.time_s.tolist(), line.waiting.tolist(), line.batch.tolist(), line.last_arrival_s]
    return row


def _outcome(row: Mapping[str, Any]) -> Outcome:
    counts = np.zeros(ITL_BINS, np.int64)
    counts[row["e2e"][0]] = row["e2e"][1]
    line = None
    if "timeline" in row:
        time_s, waiting, batch, last_arrival_s = row["timeline"]
        line = Timeline(np.array(time_s), np.array(waiting, np.int64), np.array(batch), last_arrival_s)
    return Outcome(row["policy"], row["seed"], _read(row["summary"]), counts, line)


def _written(value: Any) -> Any:
    """A summary for JSON, which has no NaN: null; all other numbers come back to the bit."""
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_written(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read(item) for item in value]
    return math.nan if value is None else value
