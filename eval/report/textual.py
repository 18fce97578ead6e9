"""What stands above and below a comparison of policies: what was simulated, and how to read the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmsched.eval.report.text import fold
from llmsched.eval.scenarios.describing import IN_HEADING, changes
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies.registry import CLAIRVOYANT


def heading(scenario: Scenario, seeds: Sequence[int]) -> str:
    """The lines above the table: what was simulated."""
    many = f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"1 seed ({seeds[0]})"
    bins = scenario.config.queueing.num_bins
    names = " ".join(scenario.bin_names[:bins])
    overdue = " and an overdue queue" * (len(scenario.bin_names) > bins)
    lines = [
        f"{scenario.name}: {scenario.arrivals}, {scenario.size} x {many}",
        f"servers: {scenario.hardware}",
        f"SLO: {scenario.goal}; predictions {scenario.workload.predictor}; "
        f"{bins} bin{'s' * (bins > 1)} {names}{overdue}; {_service(scenario)}",
    ]
    others = changes(scenario, besides=IN_HEADING)
    lines += [f"not the default: {'; '.join(others)}"] if others else []
    return "\n".join(fold(line) for line in lines)


def _service(scenario: Scenario) -> str:
    """How many requests are served together, and when they are released."""
    config = scenario.config
    if config.engine == "continuous":
        return f"running sets to {config.max_batch}, released at their own last token"
    end = "the end of the batch" if config.release == "batch" else "their own last token"
    return f"batches to {config.max_batch}, released at {end}"


def footnotes(summaries: Sequence[Mapping[str, Any]], seeds: int) -> list[str]:
    """The notes below the table: how to read it, and which requests did not complete."""
    notes = [
        "* best of its column. SLO met is of ALL arrivals: rejected, dropped and unfinished requests are misses.",
        "  Latencies are of completed requests; E2E = release - arrival, with the wait (docs/reference/metrics.md).",
    ]
    if seeds > 1:
        notes.append(
            "± 95 % interval (Student t over seeds; same arrivals for every policy). (Brackets): it contains 0."
        )
    else:
        notes.append("One seed: no interval, so nothing says how much of a difference is chance; give --seeds 5.")
    if any(summary["policy"].startswith(CLAIRVOYANT) for summary in summaries):
        notes.append(
            f"{CLAIRVOYANT}...: clairvoyant (it knows true output lengths, which no scheduler does); never marked best."
        )
    return notes + [text for summary in summaries if (text := _lost(summary))]


def _lost(summary: Mapping[str, Any]) -> str:
    """How many requests of a policy did not complete, and how many preemptions there were; empty: none."""
    names = ("rejected", "dropped", "refused", "abandoned", "unfinished")
    parts = [f"{summary[name]:,} {name}" for name in names if summary[name]]
    if summary["preemptions"]:
        parts.append(f"{summary['preemptions']:,} preemptions")
    return f"{summary['policy']}: {', '.join(parts)} (of {summary['submitted']:,} requests)" if parts else ""
