"""A run predicted: the engine `continuous` with the server's own settings, the same requests and the same policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.serving.vllm_server import OWN_ORDER
from llmsched.eval.reality.steps.profile import fit_steps, profile_of, speed
from llmsched.eval.reality.steps.reading import LoggedServer, LoggedStep, RequestTimes
from llmsched.policies.vllm.settings import from_mapping
from llmsched_env.config import Server
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.streams import streams


@dataclass(frozen=True)
class Law:
    """What a server takes: its profile, and by how much later than its scheduler a client sees tokens (s)."""

    profile: Profile
    offset_s: float


def fit_block(logs: Sequence[LoggedServer], form: str) -> tuple[Profile, dict[str, Any]]:
    """The profile of all steps of some runs, and what is said of the fit."""
    merged = LoggedServer(dict(logs[0].server), [step for log in logs for step in log.steps])
    found = fit_steps(merged, (form,))
    about = {
        "form": found.best.form,
        "coefficients": {name: float(value) for name, value in found.best.coefficients.items()},
        "steps": found.grouped.steps,
        "pauses": found.grouped.pauses,
        "pause_share": found.grouped.pause_share,
        "time_error": found.time_error(),
        "held_out": {phase: each.median for phase, each in found.best.held_out.items()},
    }
    return profile_of("steps of the runs", found, {}, "the steps of the runs that are predicted"), about


def client_offset_s(rows: Sequence[Served], requests: Sequence[RequestTimes]) -> float:
    """By how much the client's mean TTFT is above that of the scheduler; NaN where not every request was answered.

    It holds the way of the request, of the tokens back, and the lateness of the client.
    """
    if len(rows) != len(requests) or any(row.error for row in rows):
        return math.nan
    inside = np.mean([each.first_s - each.added_s for each in requests])
    return float(np.mean([row.first - row.due for row in rows]) - inside)


def slowed(profile: Profile, factor: float) -> Profile:
    """The profile of a machine that takes ``factor`` times as long."""
    return replace(profile, coefficients={name: factor * value for name, value in profile.coefficients.items()})


def predict(
    settings: Mapping[str, Any], server: Mapping[str, Any], requests: Requests, law: Law, seed: int
) -> list[Served]:
    """What a client of the server will see of the requests.

    ``settings``: those of the scheduler class, with the profile that it was started with; ``server``: what the log says
    of the engine.  vLLM's own order is that of `static`.
    """
    own = settings["policy"] == OWN_ORDER
    given = {**settings, "policy": f"static:batch={server['max_seqs']}" if own else settings["policy"]}
    ready = from_mapping(given, "the plan").ready(
        max_batch=int(server["max_seqs"]),
        kv_tokens=float(server["kv_tokens"]),
        token_budget=float(server["token_budget"]),
        asynchronous=server["scheduling"] == "async",
        watermark=float(server["watermark"]),
    )
    config = replace(
        ready.config,
        servers=(Server(law.profile, float(server["kv_tokens"])),),
        continuous=replace(ready.config.continuous, prefix_cache=server["prefix_cache"]),
    )
    found = simulate(config, requests, ready.decide, rng=streams(seed, "test")["policy"], **ready.options).requests
    return [
        Served(due, due, first + law.offset_s, done + law.offset_s, int(tokens))
        for due, first, done, tokens in zip(
            requests.arrival_s.tolist(),
            found["first_token"].tolist(),
            found["completion"].tolist(),
            requests.output_tokens,
            strict=True,
        )
    ]


def speed_of(steps: Sequence[LoggedStep], profile: Profile) -> float:
    """How slow the machine was in a run, beside the profile of its block."""
    return speed(LoggedServer(steps=list(steps)), profile)
