"""The measured part: the set-up of a machine (capacity, first profile), then the runs; everything is kept at once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.calibration.cells import Work
from llmsched.eval.cli.progress import Progress
from llmsched.eval.reality.carry_over.fleet import Fleet
from llmsched.eval.reality.carry_over.plan import Plan
from llmsched.eval.reality.carry_over.quiet import TRIES, Disturbance, disturbance, read_times
from llmsched.eval.reality.serving.client import Served, as_row, from_row
from llmsched.eval.reality.serving.experiment import remarks
from llmsched.eval.reality.steps.profile import fit_steps, profile_document
from llmsched.eval.reality.steps.reading import LoggedServer, LoggedStep, RequestTimes
from llmsched.eval.runs.line_store import LineStore
from llmsched_env.files.writing import write_text
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests

SATURATING_RATE = 1e4
"""Requests/s at which all arrive nearly at once."""

LIGHT_SHARE = 0.5
"""Load of the run that gives the first profile its small batches."""

MIDDLE = (0.1, 0.9)
"""Shares of the requests between whose completions the capacity is measured: neither filling up nor running dry."""

PAUSE_S = 1.0
"""A pause before a run that is repeated."""


@dataclass(frozen=True)
class SetUp:
    """What the machine was measured to be: requests/s that it serves at most, the server's facts, the first profile."""

    capacity: float
    server: dict[str, Any]
    profile: dict[str, Any]

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> SetUp:
        """What was kept."""
        return cls(float(kept["capacity"]), dict(kept["server"]), dict(kept["profile"]))


@dataclass(frozen=True)
class Run:
    """A run as it was measured: what the client saw, what the server logged, whether the machine was quiet."""

    policy: str
    load: float
    repeat: int
    attempt: int
    rows: list[Served]
    log: LoggedServer
    disturbance: Disturbance | None
    notes: list[str]
    began: str

    def as_json(self) -> dict[str, Any]:
        """For the file of runs; gaps between tokens are left out."""
        rows = [[*row[:5], [], row[6]] for row in as_row(self.rows)]
        steps = [[*s.work, s.ms, s.end_s, s.running, s.waiting, s.longest] for s in self.log.steps]
        return {
            "policy": self.policy,
            "load": self.load,
            "repeat": self.repeat,
            "attempt": self.attempt,
            "rows": rows,
            "server": self.log.server,
            "steps": steps,
            "requests": [[r.added_s, r.first_s, r.done_s] for r in self.log.requests],
            "disturbance": None if self.disturbance is None else asdict(self.disturbance),
            "notes": self.notes,
            "began": self.began,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Run:
        """What `as_json` gave."""
        steps = [LoggedStep(Work(*row[:4]), *row[4:]) for row in kept["steps"]]
        log = LoggedServer(dict(kept["server"]), steps, [RequestTimes(*row) for row in kept["requests"]])
        disturbed = kept["disturbance"]
        return cls(
            kept["policy"],
            kept["load"],
            kept["repeat"],
            kept["attempt"],
            from_row(kept["rows"]),
            log,
            None if disturbed is None else Disturbance(**disturbed),
            list(kept["notes"]),
            kept["began"],
        )


def capacity_of(rows: Sequence[Served]) -> float:
    """Requests/s between the completions MIDDLE of requests that all came at once."""
    done = np.sort([row.last for row in rows if not row.error])
    if len(done) < 10:
        raise ValueError(f"{len(rows) - len(done)} of {len(rows)} requests failed in the run that measures capacity.")
    first, last = (int(share * len(done)) for share in MIDDLE)
    return float((last - first) / (done[last] - done[first]))


def set_up(plan: Plan, fleet: Fleet, store: LineStore, folder: Path) -> tuple[SetUp, Path]:
    """Measure the capacity and the first profile, or take what is kept; the profile is a file in ``folder``."""
    key = plan.key("set-up")
    found = store.get(key, SetUp.from_json)
    if found is None:
        base = plan.policies[0]
        fleet.start([base], None)
        full, _, busy = fleet.run(base, plan.draw(SATURATING_RATE, plan.seed + 1000), plan.seed)
        capacity = capacity_of(full)
        _, _, light = fleet.run(base, plan.draw(LIGHT_SHARE * capacity, plan.seed + 1001), plan.seed)
        both = LoggedServer(busy.server, [*busy.steps, *light.steps])
        document = profile_document("first", fit_steps(both), {}, "the steps of the set-up")
        found = SetUp(capacity, busy.server, document)
        store.put(key, asdict(found))
    path = folder / "first_profile.json"
    write_text(path, json.dumps(found.profile, indent=1) + "\n")
    return found, path


def requests_of(plan: Plan, found: SetUp, repeat: int, load: float) -> Requests:
    """The requests of a block: the same for every policy."""
    return plan.draw(load * found.capacity, plan.seed + repeat)


def measure(plan: Plan, fleet: Fleet, store: LineStore, folder: Path) -> tuple[Plan, SetUp, list[Run]]:
    """The plan with its targets, the set-up, and all runs, made or kept; those that were discarded are among them."""
    found, profile = set_up(plan, fleet, store, folder)
    plan = plan.with_targets(load_profile(profile))
    fleet.plan = plan
    runs: list[Run] = []
    with Progress("runs", len(plan.blocks()) * len(plan.policies)) as progress:
        for block, (repeat, load) in enumerate(plan.blocks()):
            requests = requests_of(plan, found, repeat, load)
            for policy in plan.order(block):
                own = kept_runs(plan, store, policy, load, repeat)
                stored = settled(own)
                while not settled(own):
                    fleet.start(plan.policies, profile)
                    kept = measured(fleet, policy, load, repeat, len(own), requests).as_json()
                    store.put(plan.key(policy, load, repeat, len(own)), kept)
                    own.append(Run.from_json(kept))  # rounded, as after a restart
                runs += own
                progress.step(f"{policy}, load {load:g}, repeat {repeat}", 1.0, stored=stored)
    return plan, found, runs


def kept_runs(plan: Plan, store: LineStore, policy: str, load: float, repeat: int) -> list[Run]:
    """The tries of a run that are kept, in order."""
    found: list[Run] = []
    while len(found) < TRIES:
        run = store.get(plan.key(policy, load, repeat, len(found)), Run.from_json)
        if run is None:
            break
        found.append(run)
    return found


def settled(tries: Sequence[Run]) -> bool:
    """Whether no further try is made: the last was quiet, or they are used up; where nothing is known one suffices."""
    if not tries:
        return False
    last = tries[-1].disturbance
    return last is None or last.quiet or len(tries) >= TRIES


def counted(tries: Sequence[Run]) -> Run:
    """The try that counts: the quietest."""
    return min(
        tries, key=lambda run: 0.0 if run.disturbance is None else run.disturbance.others + run.disturbance.stolen
    )


def measured(fleet: Fleet, policy: str, load: float, repeat: int, attempt: int, requests: Requests) -> Run:
    """Make a run."""
    if attempt:
        time.sleep(PAUSE_S)
    began, clock, before = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.monotonic(), read_times(fleet.sessions)
    rows, notes, log = fleet.run(policy, requests, repeat)
    what = disturbance(before, read_times(fleet.sessions), time.monotonic() - clock)
    return Run(policy, load, repeat, attempt, rows, log, what, [*notes, *remarks(rows)], began)
