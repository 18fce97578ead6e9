"""The answer in sentences: how well the log is reproduced, what to run, and on how many GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmsched.eval.analysis.held_out import TOLERATED, HeldOutFit, share_met
from llmsched_env.config import SLO


def servers_sentence(rows: Sequence[Mapping[str, Any]], share: float, goal: str, load: str, first: str) -> str:
    """What to run and on how many GPUs, given the rows of the table of servers needed at one share."""
    found = [row for row in rows if row.get("servers") is not None]
    aim = f"{load} with {100 * share:g} % of all requests within {goal}"
    if not found:
        return f"No number of servers carries {aim}, under any of the schedulers: some requests cannot meet it alone."
    least = min(int(row["servers"]) for row in found)
    best = [row for row in found if int(row["servers"]) == least]
    own = next((row for row in rows if row["policy"] == first), None)
    with_own = own if own in best else None
    chosen = with_own or max(best, key=lambda row: row["met"].mean)
    gpus = int(chosen["gpus"])
    size = f"{least} server{'s' * (least != 1)} ({gpus} GPU{'s' * (gpus != 1)})"
    text = f"Run {chosen['policy']} on {size}: they carry {aim}."
    if with_own is not None:
        return f"{text}  No other scheduler that was compared needs fewer."
    if own is None:
        return text
    if own.get("servers") is None:
        return f"{text}  {first} does not reach it with any number of servers."
    return f"{text}  {first} needs {int(own['servers'])} ({int(own['gpus'])} GPUs)."


def measured_sentence(fitted: HeldOutFit | None, slos: Sequence[SLO]) -> list[str]:
    """How many requests of the log met the targets, measured and simulated; none without a fit, or with classes."""
    if fitted is None or len(slos) != 1:
        return []
    real = share_met(fitted.run, fitted.run.ttft_s, fitted.run.e2e_s, slos[0])
    made = share_met(fitted.run, fitted.ttft_s, fitted.e2e_s, slos[0])
    return [f"In the log {100 * real:.1f} % met the targets; in its simulation {100 * made:.1f} %."]


def trust_sentence(fitted: HeldOutFit | None) -> str:
    """Whether the answer can be relied on."""
    if fitted is None:
        return "The log has no times of tokens, so nothing says how well the profile reproduces it."
    if fitted.reliable:
        return fitted.sentence
    worst = max((abs(error), name) for name, error in fitted.errors.items() if name.endswith("p50"))
    return (
        f"{fitted.sentence}  A median is off by {100 * worst[0]:.0f} % (more than {100 * TOLERATED:.0f} %): do not "
        "rely on the answer; check the settings of the server (--max-seqs, --kv-tokens, --token-budget), and whether "
        "the log is of one server."
    )
