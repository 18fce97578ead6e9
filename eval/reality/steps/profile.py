"""The profile of a running server, made of its log of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmsched.eval.calibration.document import figures, shown_errors
from llmsched.eval.calibration.fit import FITS, LEAST, Fit, fit_all, predict
from llmsched.eval.reality.steps.grouping import Grouped, group_steps
from llmsched.eval.reality.steps.iteration_log import CAVEATS
from llmsched.eval.reality.steps.reading import LoggedServer, LoggedStep
from llmsched_env.profiles import SCHEMA, UNITS, Profile, from_json

FORMS = tuple(form for form in FITS if form != "batch-length")
"""The forms that have iterations."""

SETTINGS = ("max_seqs", "token_budget", "scheduling", "prefix_cache", "watermark")
"""What of the server is a setting of the engine `continuous`."""

NOT_INCLUDED = "the API server, the network and the client: what a client sees comes later (client_offset_ms)"


@dataclass(frozen=True)
class StepFit:
    """The fits, the best one first, and the groups that they were made from."""

    fits: Sequence[Fit]
    grouped: Grouped
    log: LoggedServer

    @property
    def best(self) -> Fit:
        """The fit that the profile has."""
        return self.fits[0]

    def time_error(self) -> float:
        """Predicted over measured time of all steps that are in groups, less 1."""
        groups = self.grouped.groups
        fitted = sum(predict(self.best.form, self.best.coefficients, g.work) * len(g.samples) for g in groups)
        return fitted / sum(sum(group.samples) for group in groups) - 1.0


def fit_steps(log: LoggedServer, forms: Sequence[str] = FORMS) -> StepFit:
    """Fits of the forms that have iterations; ``ValueError`` where the log has too few kinds of steps."""
    grouped = group_steps(log.steps)
    points = {group.work: group.ms for group in grouped.groups}
    try:
        fits = fit_all(points, forms)
    except ValueError:
        kinds = {phase: sum(w.phase in (phase, "mixed") for w in points) for phase in LEAST}
        words = ", ".join(f"{count} with {phase}" for phase, count in kinds.items())
        raise ValueError(
            f"{len(log.steps)} steps of {len(points)} kinds ({words}): a fit needs {min(LEAST.values())} of each. Log "
            "more requests, at several loads and with prompts of several lengths."
        ) from None
    return StepFit(fits, grouped, log)


def later_error(log: LoggedServer, form: str) -> float | None:
    """Error in the time of the second half of the steps, predicted by a fit on the first; None where either is short.

    What a machine whose speed drifts does to a profile.
    """
    half = len(log.steps) // 2
    early, late = (group_steps(steps).groups for steps in (log.steps[:half], log.steps[half:]))
    if min(len(early), len(late)) < 2 * min(LEAST.values()):
        return None
    law = FITS[form]({group.work: group.ms for group in early})
    fitted = sum(predict(form, law, group.work) * len(group.samples) for group in late)
    return fitted / sum(sum(group.samples) for group in late) - 1.0


def measured_range(steps: Sequence[LoggedStep]) -> dict[str, list[float]]:
    """From and to, of the steps: requests at once, tokens of prompts, mean context of those that decode."""
    found = {"clients": [max(1, step.running) for step in steps]} if any(step.running for step in steps) else {}
    ranges: dict[str, list[float]] = {name: [min(values), max(values)] for name, values in found.items()}
    prompts = [step.longest for step in steps if step.longest]
    contexts = [step.work.context / step.work.members for step in steps if step.work.members and step.work.context]
    for name, own in (("prompt", prompts), ("context", contexts)):
        if own:
            ranges[name] = [math.floor(min(own)), math.ceil(max(own))]
    return ranges


def profile_document(name: str, found: StepFit, given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The profile as the JSON of a file.  ``given``: facts of the server that replace those of the log."""
    server, best, grouped = {**found.log.server, **given}, found.best, found.grouped
    late = later_error(found.log, best.form)
    kv = server.get("kv_tokens")
    caveats = list(CAVEATS) if found.log.of_vllm else []
    if all(group.work.members for group in grouped.groups):
        caveats.append("no step with prompts alone was logged: its constant is that of a decode step")
    return {
        "schema": SCHEMA,
        "name": name,
        "form": best.form,
        "units": UNITS,
        "coefficients": {key: figures(value) for key, value in best.coefficients.items()},
        "kv_tokens": None if kv is None or math.isinf(kv) else kv,
        "tensor_parallel": int(server.get("tensor_parallel", 1)),
        "gpu": server.get("device", "unknown"),
        "model": server.get("model", "unknown"),
        "engine": server.get("engine", "unknown"),
        "noise_sigma": 0.0,
        "measured": True,
        "source": source,
        "points": len(grouped.groups),
        "steps": grouped.steps,
        "left_out": {
            "pauses": grouped.pauses,
            "share_of_time": figures(grouped.pause_share, 3),
            "rare": grouped.rare,
            "rare_share_of_time": figures(grouped.rare_share, 3),
        },
        "errors": {
            "kind": "held out: one group of like steps left out at a time; absolute relative error",
            **shown_errors(best.held_out),
            "in_sample": shown_errors(best.in_sample),
            "by_form": {fit.form: shown_errors(fit.held_out) for fit in found.fits},
            "time_of_all_steps": figures(found.time_error(), 3),
            **({} if late is None else {"time_of_second_half_from_first": figures(late, 3)}),
        },
        "measured_range": measured_range(found.log.steps),
        "engine_settings": {
            "admission": "prompt",
            "prefill": "chunked",
            **{key: server[key] for key in SETTINGS if key in server},
        },
        "not_included": NOT_INCLUDED,
        "caveats": caveats,
    }


def profile_of(name: str, found: StepFit, given: Mapping[str, Any], source: str) -> Profile:
    """The profile."""
    return from_json(profile_document(name, found, given, source))


def speed(log: LoggedServer, profile: Profile) -> float:
    """Measured over predicted time of steps, pauses left out; above 1 the machine was slower than the profile."""
    groups = group_steps(log.steps).groups
    fitted = sum(profile.iteration_ms(*group.work) * len(group.samples) for group in groups)
    return float(np.sum([np.sum(group.samples) for group in groups]) / fitted) if fitted else math.nan
