"""What a profile brings to a scenario besides its latency law: settings of its fit, and what it did not cover."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from llmsched_env.config import SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.servers import parse_servers
from llmsched_env.workload.workload import Workload

SETTINGS = {
    "max_seqs": "max_batch",
    "token_budget": "token_budget",
    "admission": "admission",
    "prefill": "prefill",
    "watermark": "watermark",
    "scheduling": "scheduling",
    "prefix_cache": "prefix_cache",
}
"""Settings that a profile may keep, and the options that they are defaults of in the engine `continuous`."""

PROBE = 2000
"""Requests whose lengths are held against the measured range."""

OUTSIDE = 0.05
"""Share of prompts or contexts outside the measured range from which on it is said."""

SLACK = 0.2
"""How far beyond its measured range a profile is still used without a word: lengths of the points are nominal."""


def engine_settings(profile_text: str) -> dict[str, Any]:
    """The options that the profiles of ``profile_text`` bring as defaults, those on which all of them agree."""
    kept = [_settings(server.profile) for server in dict.fromkeys(parse_servers(profile_text))]
    first = kept[0]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in kept)}


def _settings(profile: Profile) -> dict[str, Any]:
    own = profile.meta.get("engine_settings") or {}
    found = {option: own[name] for name, option in SETTINGS.items() if own.get(name) is not None}
    if "token_budget" in found:
        found["token_budget"] = float(found["token_budget"])
    return found


def warn_about_hardware(config: SimConfig, workload: Workload, used: Mapping[str, Any]) -> None:
    """Warn once per profile that was not measured, or that is used outside of what was; and of settings it brings.

    ``used``: the options that came from the profile.
    """
    if used:
        words = ", ".join(f"{name} {_shown(value)}" for name, value in used.items())
        warnings.warn(f"engine settings of the profile's fit are used where none are given: {words}.", stacklevel=2)
    for server in dict.fromkeys(config.servers):
        if math.isinf(server.eta) and server.profile.meta.get("measured"):
            text = f"profile {server.profile.name} states no KV memory, so it is without limit here: give --kv-tokens."
            warnings.warn(text, stacklevel=2)
    warn_of_caveats(config)
    probe = None
    for profile in dict.fromkeys(server.profile for server in config.servers):
        if profile.meta.get("estimated"):
            warnings.warn(
                f"profile {profile.name} is estimated, not measured: {profile.meta.get('source')}.", stacklevel=2
            )
        elif not profile.meta.get("measured", True):
            about = profile.meta.get("not_measured") or "see its caveats in eval/profiles.py"
            warnings.warn(f"profile {profile.name} is not measured: {about}.", stacklevel=2)
        if measured_range(profile):
            probe = probe or _lengths(workload)
            outside = out_of_range(profile, config.max_batch, *probe)
            if outside:
                text = "; ".join(outside)
                warnings.warn(f"profile {profile.name} leaves its measured range: {text}.", stacklevel=2)


def warn_of_caveats(config: SimConfig) -> None:
    """Warn in one line of the profiles that have caveats: what the measurement behind them does not say."""
    profiles = dict.fromkeys(server.profile for server in config.servers)
    found = {profile.name: len(profile.meta.get("caveats") or ()) for profile in profiles}
    words = [f"{name} has {count} caveat{'s' * (count > 1)}" for name, count in found.items() if count]
    if words:
        warnings.warn(f"profile {', '.join(words)}: eval/profiles.py lists them.", stacklevel=3)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def measured_range(profile: Profile) -> dict[str, tuple[float, float]]:
    """What was measured, from and to: ``batch``, ``prompt`` and ``context`` in tokens, as far as the profile says."""
    if profile.grids is not None:
        grids = profile.grids
        return {
            "batch": (grids.batch[0], grids.batch[-1]),
            "prompt": (grids.tokens[0], grids.tokens[-1]),
            "context": (grids.context[0], grids.context[-1]),
        }
    own = profile.meta.get("measured_range") or {}
    found = {name: tuple(own[name]) for name in ("prompt", "context") if name in own}
    if "clients" in own:
        found["batch"] = tuple(own["clients"])
    if "prompt" in own and "output" in own:
        found["context"] = (own["prompt"][0], own["prompt"][1] + own["output"][1])
    return found


def out_of_range(profile: Profile, max_batch: int, prompts: np.ndarray, contexts: np.ndarray) -> list[str]:
    """What of a workload is outside the measured range, in words."""
    measured, found = measured_range(profile), []
    if "batch" in measured and max_batch > measured["batch"][1]:
        low, high = measured["batch"]
        found.append(f"measured with {low:g} to {high:g} requests at once, here up to {max_batch}")
    for name, lengths in (("prompt", prompts), ("context", contexts)):
        if name not in measured:
            continue
        low, high = measured[name]
        share = float(np.mean((lengths < (1 - SLACK) * low) | (lengths > (1 + SLACK) * high)))
        if share > OUTSIDE:
            found.append(f"{name}s of {low:g} to {high:g} tokens, here {100 * share:.0f} % are outside")
    return found


def _lengths(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Prompts, and contexts at the end, of the first requests of a run."""
    wanted = min(workload.requests or PROBE, PROBE)
    few = workload if workload.trace is not None else replace(workload, requests=wanted, duration_s=None)
    requests = few.draw(0, "test")
    prompts = requests.prompt_tokens[:PROBE].astype(float)
    return prompts, prompts + requests.output_tokens[:PROBE]
