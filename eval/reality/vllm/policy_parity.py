"""A policy inside vLLM's scheduler loop beside the same policy in the simulator, in virtual time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmsched.eval.reality.vllm.virtual_time import VirtualEngine
from llmsched.eval.reality.vllm_systems import COEFFICIENTS, Stamps, System
from llmsched.policies.vllm.settings import Settings
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.profiles import SCHEMA, UNITS
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate


@dataclass(frozen=True)
class Setting:
    """A policy on a system.

    ``predicted`` output tokens of each request; ``options`` as in the file of the scheduler class; ``folder``: where
    the profile of the system is written, and a model configuration lies in ``model``.
    """

    system: System
    policy: str
    predicted: Sequence[int]
    folder: Path
    model: Path
    asynchronous: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """What the scheduler class is told."""
        path = self.folder / "profile.json"
        law = dict(zip(COEFFICIENTS, self.system.coef_ms, strict=True))
        kv_tokens = BLOCK_TOKENS * self.system.blocks
        profile = {"schema": SCHEMA, "units": UNITS, "name": "system", "form": "split", "coefficients": law}
        path.write_text(json.dumps({**profile, "kv_tokens": kv_tokens}), encoding="utf-8")
        return Settings(self.policy, options={"profile": str(path), **self.options})


def simulated(setting: Setting) -> Stamps:
    """The stamps of the simulator."""
    system = setting.system
    ready = setting.settings.ready(
        max_batch=system.seqs,
        kv_tokens=float(BLOCK_TOKENS * system.blocks),
        token_budget=float(system.budget),
        asynchronous=setting.asynchronous,
    )
    requests = Requests.checked(system.arrival, system.prompt, system.output, setting.predicted)
    rows = simulate(ready.config, requests, ready.decide, **ready.options).requests
    times = [tuple(None if math.isnan(t) else float(t) for t in rows[name]) for name in ("first_token", "completion")]
    return Stamps(times[0], times[1], tuple(map(int, rows["preemptions"])))


def in_vllm(setting: Setting) -> Stamps:
    """The stamps of the scheduler class in vLLM's loop."""
    from llmsched.policies.vllm.scheduler import PolicyScheduler

    made = type("Scheduler", (PolicyScheduler,), {"SETTINGS": setting.settings})

    def prepare(engine: VirtualEngine) -> None:
        engine.scheduler.clock, engine.scheduler.origin = lambda: engine.now, 0.0
        engine.scheduler.expects_arrivals = True

    return VirtualEngine(
        setting.system,
        setting.model,
        asynchronous=setting.asynchronous,
        scheduler_class=made,
        predicted=setting.predicted,
        prepare=prepare,
    ).run()
