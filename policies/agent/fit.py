"""What agents of an environment, and of a scenario, see and answer; whether the two fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmsched.policies.agent.checkpoint import Face
from llmsched.policies.parameters import Value
from llmsched_env import engines
from llmsched_env.config import SimConfig
from llmsched_env.envs.continuous import continuous_options
from llmsched_env.envs.options import parse_options
from llmsched_env.envs.spaces import Limits

ENVIRONMENTS = ("LLMSched-v0", "LLMSchedContinuous-v0")
"""Environments whose agents can be entered; LLMSchedSmall-v0 is a system of its own."""

NOT_OF_THE_SPACES = ("render_mode", "max_episode_steps")
"""Arguments of an environment that are no options of it."""


def face_of_environment(env_id: str, **options: Any) -> Face:
    """The spaces of ``gym.make(env_id, **options)``; ``ValueError`` for another environment, or a bad option."""
    name = env_id.removeprefix("llmsched_env:")
    if name not in ENVIRONMENTS:
        raise ValueError(f"{env_id!r} is no environment whose agents can be entered: give {' or '.join(ENVIRONMENTS)}.")
    given = {key: value for key, value in options.items() if key not in NOT_OF_THE_SPACES}
    found = parse_options(continuous_options(given) if name == ENVIRONMENTS[1] else given)
    here = face_of(found.simulation(), {}, found.action)
    bins = max(found.num_max_bins, here.limits.max_bins)
    return replace(here, limits=replace(here.limits, max_bins=bins))


def face_of(config: SimConfig, values: Mapping[str, Value], action: str) -> Face:
    """The spaces of an environment of ``config``, where a policy's parameter may ask for the overdue queue."""
    overdue = values.get("overdue") is not None or config.queueing.has_overdue
    cached = engines.get(config.engine).blocks(config) > 0
    bins, refusals = config.queueing.num_bins, config.queueing.refusals == "on"
    return Face(config.engine, action, Limits(bins, config.max_batch, overdue, cached, refusals))


def check_fit(name: str, agent: Face, config: SimConfig, values: Mapping[str, Value]) -> None:
    """``ValueError`` in one line where the agent ``name`` cannot decide in ``config``."""
    here = face_of(config, values, agent.action)
    trained, run = agent.limits, here.limits
    if agent.engine != here.engine:
        raise ValueError(
            f"{name}: trained for the engine {agent.engine!r}, but this run is of {here.engine!r}: "
            f"give an agent for {here.engine!r}."
        )
    if run.max_bins > trained.max_bins:
        raise ValueError(
            f"{name}: trained for at most {trained.max_bins} bins, but this run has {run.max_bins}: give --bins "
            f"{trained.max_bins}, or train with max_bins={run.max_bins}."
        )
    if run.max_batch != trained.max_batch:
        raise ValueError(
            f"{name}: trained for max_batch={trained.max_batch}, but this run has {run.max_batch}: give --max-batch "
            f"{trained.max_batch}, or train with max_batch={run.max_batch}."
        )
    if run.overdue != trained.overdue:
        wrong, remedy = (
            ("with an overdue queue, but this run has none", "give :overdue=X")
            if trained.overdue
            else ("without an overdue queue, but this run has one", "drop the overdue factor")
        )
        raise ValueError(f"{name}: trained {wrong}: {remedy}, or train another agent.")
    if run.cached != trained.cached:
        wrong, setting = ("with", "on") if trained.cached else ("without", "off")
        raise ValueError(
            f"{name}: trained {wrong} a prefix cache: give --prefix-cache {setting}, or train another agent."
        )
    if run.refusals != trained.refusals:
        wrong, setting = ("with", "on") if trained.refusals else ("without", "off")
        raise ValueError(f"{name}: trained {wrong} refusals: give --refusals {setting}, or train another agent.")
