"""What the scheduler class is told: the policy, the targets, the bins, the latency law; from a file or the environment.

The file is JSON or TOML with the names of the environments' arguments (llmsched_env.options), and a few of its own.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmsched.policies.registry import Bound, ReadyPolicy
from llmsched.policies.selection import parse
from llmsched_env.config import Server, SimConfig
from llmsched_env.envs.options import parse_options
from llmsched_env.files.reading import json_of, read_bytes
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.profiles import Profile

FILE, POLICY, STEPS = "LLMSCHED_VLLM", "LLMSCHED_VLLM_POLICY", "LLMSCHED_VLLM_STEPS"
"""Environment variables: the file, and what replaces its ``policy`` and its ``steps``."""

OPTIONS = (
    "profile",
    "bins",
    "slo",
    "discipline",
    "overdue_factor",
    "controller",
    "admission",
    "window_s",
    "overhead_s",
)
"""Arguments of the environments that mean something inside an engine."""

OWN = ("policy", "predicted", "steps", "seed")
UNKNOWN = Profile("unknown", "affine", dict.fromkeys(("d0", "d1", "d2", "p0", "p1", "p2"), 1e-6), float("inf"))
"""The latency law where none was given: no policy that reads times is let in."""


@dataclass(frozen=True)
class Settings:
    """``predicted``: output tokens of a request that brings no prediction; None: its ``max_tokens``.

    ``steps``: file to which every step is written, one JSON object a line.  ``options``: arguments of the environments.
    """

    policy: str
    predicted: int | None = None
    steps: Path | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self, *, max_batch: int, kv_tokens: float, token_budget: float, asynchronous: bool) -> SimConfig:
        """The system that the policy sees: the engine's limits, and the options."""
        given = {"bins": 1, **self.options}
        if isinstance(given["bins"], int) and given["bins"] != 1:
            raise ValueError(f"bins={given['bins']}: give their lower bounds, as [0, 64, 256].")
        limits = {"max_batch": max_batch, "token_budget": token_budget, "kv_tokens": kv_tokens}
        mode = "async" if asynchronous else "sync"
        made = parse_options({**given, **limits, "servers": 1, "engine": "continuous", "scheduling": mode}).simulation()
        return made if "profile" in given else replace(made, servers=(Server(UNKNOWN, kv_tokens),))

    def ready(self, *, watermark: float = 0.0, **limits: Any) -> ReadyPolicy:
        """The policy made ready for the engine; ``ValueError`` says what the engine cannot do, or cannot know."""
        bound, config = parse(self.policy), self.config(**limits)
        ready = bound.ready(replace(config, continuous=replace(config.continuous, watermark=watermark)))
        _check(bound, ready, config, "profile" in self.options)
        return ready


def _check(bound: Bound, ready: ReadyPolicy, engine: SimConfig, has_profile: bool) -> None:
    """Refuse what vLLM cannot do, or cannot know."""
    made, given = ready.config, engine.continuous
    queueing = made.queueing
    if bound.clairvoyant:
        raise ValueError(f"{bound.label}: vLLM does not know true output lengths: choose another policy.")
    if made.continuous.prefill != "chunked":
        raise ValueError(
            f"{bound.label}: prefill={made.continuous.prefill!r}, but vLLM's V1 engine prefills in chunks."
        )
    for name, usual in (("max_chunk", float("inf")), ("victim", "newest"), ("returned", "first")):
        if (asked := getattr(made.continuous, name)) != usual:
            raise ValueError(f"{bound.label}: {name}={asked!r}, but whom vLLM preempts and in what chunks is its own.")
    if made.continuous.admission == "chunk":
        raise ValueError(f"{bound.label}: admission='chunk' is vLLM's flag --no-scheduler-reserve-full-isl: give it.")
    if made.continuous.token_budget > given.token_budget:
        raise ValueError(
            f"{bound.label}: token_budget={made.continuous.token_budget:g} is more than vLLM's "
            f"{given.token_budget:g}: give --max-num-batched-tokens {made.continuous.token_budget:g} or more."
        )
    if min(queueing.hold_s, queueing.tick_s) < float("inf"):
        raise ValueError(f"{bound.label}: vLLM has no timers (hold, tick): choose a policy without them.")
    if not has_profile and (bound.details or queueing.has_overdue or queueing.discipline == "slack"):
        raise ValueError(f"{bound.label}: it needs predicted times: give 'profile', a latency profile of this server.")


def from_environment() -> Settings:
    """The settings that the environment variables name; ``ValueError`` in one line."""
    path, policy, steps = (os.environ.get(name) for name in (FILE, POLICY, STEPS))
    if path is None and policy is None:
        raise ValueError(f"no policy is given: set {FILE}=FILE (JSON or TOML) or {POLICY}=NAME.")
    found = {} if path is None else read_table(Path(path))
    found |= {} if policy is None else {"policy": policy}
    return from_mapping(found | ({} if steps is None else {"steps": steps}), path or "the environment")


def read_table(path: Path) -> dict[str, Any]:
    """The table in a JSON or TOML file (by its ending); ``ValueError`` in one line."""
    try:
        content = read_bytes(path, 2**20)
        found = tomllib.loads(content.decode()) if path.suffix == ".toml" else json_of(content)
    except (ValueError, RecursionError) as error:
        about = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{FILE} {str(path)!r}: {about}.") from None
    if not isinstance(found, dict):
        raise ValueError(f"{FILE} {str(path)!r}: give an object with 'policy' and other settings.")
    return found


def from_mapping(found: Mapping[str, Any], where: str) -> Settings:
    """Checked settings; ``ValueError`` names the entry, and ``where`` it stands."""
    for name in found:
        if name not in (*OWN, *OPTIONS):
            near = did_you_mean(name, (*OWN, *OPTIONS))
            raise ValueError(f"{where}: {name!r} is not a setting.{near} They are {', '.join((*OWN, *OPTIONS))}.")
    if not isinstance(found.get("policy"), str):
        raise ValueError(f"{where}: policy={found.get('policy')!r} is not allowed: give a name, as 'sjf:batch=16'.")
    whole = {"predicted": (1, None), "seed": (0, 0)}
    for name, (least, without) in whole.items():
        value = found.get(name, without)
        if value is not without and (type(value) is not int or not least <= value < 2**31):
            raise ValueError(f"{where}: {name}={value!r} is not allowed: give a whole number from {least}.")
    steps = found.get("steps")
    if steps is not None and not isinstance(steps, str):
        raise ValueError(f"{where}: steps={steps!r} is not allowed: give the name of a file.")
    return Settings(
        found["policy"],
        found.get("predicted"),
        None if steps is None else Path(steps),
        found.get("seed", 0),
        {name: tuple(v) if isinstance(v, list) else v for name, v in found.items() if name in OPTIONS},
    )
