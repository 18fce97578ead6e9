"""A vLLM server for each policy, all alive at the same time: one of them works, the others are stopped by a signal.

Starting one takes 30 to 50 s, and an idle one 2 % of a core.
"""

from __future__ import annotations

import argparse
import math
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmsched.eval.reality.carry_over.plan import ENVIRONMENT, Plan
from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.serving.experiment import Entrant, run_once, started
from llmsched.eval.reality.steps.reading import LoggedServer, read_log
from llmsched_env.commands.interrupts import heed, interrupt
from llmsched_env.requests import Requests

AT_ONCE = 2
"""Servers that are started at the same time: starting takes all cores."""

WARM_UP = 40
"""Requests that a server serves before it is measured: what is compiled at first use is then compiled."""

WARM_UP_TIMEOUT_S = 600.0
SETTLE_S = 0.5
"""Pause after a server goes on, before requests are sent."""


class Fleet:
    """The servers by policy; ``folder``: of their logs.  A context: at its end all servers stop."""

    def __init__(self, plan: Plan, options: argparse.Namespace, folder: Path) -> None:
        self.plan, self.options, self.folder = plan, options, folder
        self._entrants: dict[str, Entrant] = {}

    def __enter__(self) -> Fleet:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, interrupt)  # servers that are left would be stopped processes
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is KeyboardInterrupt:
            heed()
        for entrant in self._entrants.values():
            if entrant.server is not None:
                entrant.server.stop()

    @property
    def sessions(self) -> list[int]:
        """The sessions of the servers' processes."""
        return [entrant.server.session for entrant in self._entrants.values() if entrant.server is not None]

    def start(self, policies: Sequence[str], profile: Path | None) -> None:
        """Start the servers that do not run yet, and warm them up; ``profile``: what the policies are told."""
        missing = [policy for policy in policies if policy not in self._entrants]
        for first in range(0, len(missing), AT_ONCE):
            group = missing[first : first + AT_ONCE]
            for policy in group:
                self._entrants[policy] = self._made(policy, profile)
                self._server(policy).launch()
            for policy in group:
                self._server(policy).wait()
        for policy in missing:
            requests = self.plan.draw(4.0, self.plan.seed + 10_000, WARM_UP)
            run_once(self._entrants[policy], requests, self.plan.seed, WARM_UP_TIMEOUT_S, keep=True)
            self._server(policy).pause()

    def _made(self, policy: str, profile: Path | None) -> Entrant:
        folder = self.folder / str(self.plan.policies.index(policy))
        settings = {} if profile is None else self.plan.settings(policy, str(profile.resolve()))
        settings.pop("policy", None)
        steps = folder / "steps.jsonl"
        words = argparse.Namespace(**{**vars(self.options), "server_args": self.plan.server_words, "prompts": "ids"})
        folder.mkdir(parents=True, exist_ok=True)
        steps.unlink(missing_ok=True)  # the runs that are kept hold their own
        kernels = Path(self.options.python).absolute().parents[1] / "numba"  # its Numba is another one than ours
        return started(policy, words, settings, folder, steps, {**ENVIRONMENT, "NUMBA_CACHE_DIR": str(kernels)})

    def _server(self, policy: str) -> Any:
        return self._entrants[policy].server

    def run(self, policy: str, requests: Requests, seed: int) -> tuple[list[Served], list[str], LoggedServer]:
        """(what the client saw, what happened, what the server logged) of a run."""
        began = math.nan

        def note(now: float) -> None:
            nonlocal began
            began = now

        server = self._server(policy)
        server.resume()
        time.sleep(SETTLE_S)
        rows, notes = run_once(self._entrants[policy], requests, seed, self.options.timeout, keep=True, note_start=note)
        server.pause()
        log = read_log(server.steps)
        log.steps = [step for step in log.steps if step.end_s >= began]
        log.requests = [each for each in log.requests if each.added_s >= began]
        return rows, notes, log
