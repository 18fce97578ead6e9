"""A fleet of servers that do not exist: the simulator with a known law, a client that sees tokens later, a machine that
may be disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.reality.carry_over.plan import Plan
from llmsched.eval.reality.carry_over.prediction import Law, predict
from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.steps.reading import LoggedServer, RequestTimes, take_line
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.reality.steps.tools import AFFINE, SERVER, lines_of

OFFSET_S = 0.02
POLICIES = ("vllm-own", "sjf:batch=16", "network")
PLAN = Plan(POLICIES, (0.7, 1.2), 3, 60, (("ttft", 300.0), ("tpot", 40.0)))
TRUTH = Profile("truth", "affine", AFFINE, float(SERVER["kv_tokens"]))


@dataclass
class FakeFleet:
    """Servers of the law TRUTH times ``slow`` (a factor of a policy).  ``asked``: the runs that were made."""

    plan: Plan
    slow: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    profile: Path | None = None
    stop_after: int = 10_000
    sessions: Sequence[int] = ()

    def start(self, policies: Sequence[str], profile: Path | None) -> None:
        """Remember the profile."""
        self.profile = profile

    def run(self, policy: str, requests: Requests, seed: int) -> tuple[list[Served], list[str], LoggedServer]:
        """Simulate."""
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(policy)
        factor = self.slow.get(policy, 1.0)
        law = {name: factor * value for name, value in AFFINE.items()}
        truth = replace(TRUTH, coefficients=law)
        settings: dict[str, Any] = self.plan.settings(policy, str(self.profile))
        if self.profile is None:
            del settings["profile"]
        rows = predict(settings, SERVER, requests, Law(truth, OFFSET_S), seed)
        log = LoggedServer()
        take_line(log, {"server": SERVER})
        for line in lines_of(np.random.default_rng(len(self.asked)), law, "affine", 1500):
            take_line(log, line)
        log.requests = [RequestTimes(row.due, row.first - OFFSET_S, row.last - OFFSET_S) for row in rows]
        return rows, [], log
