"""Tables and figures of the benchmark: the bars, misses by case and load, every network, every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmsched.eval.experiments.benchmark.statistics import (
    BETTER_RUNS,
    MISSES_SAVED,
    Estimate,
    Stratum,
    estimate,
    profile,
    reductions,
)
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval

PAPERS = ("static:batch=auto", "dynamic:tbt=auto", "multibin:tbt=auto")
"""The schedulers of the papers, tuned."""

DISCERNING = (0.02, 0.60)
"""A load counts for the bars where the misses of the best rival are between these shares."""

GROUPS: dict[str, tuple[Sequence[str] | None, float]] = {
    "best of static, dynamic, multibin": (PAPERS, 0.6),
    "best of all, per load in hindsight": (None, 0.4),
}
"""The rivals of a bar (None: all), and the share of their misses that the challenger must save."""


def strata_of(rows: Sequence[Mapping[str, Any]], challenger: str, also: Sequence[str] = ()) -> list[Stratum]:
    """Strata of the rows, in order; ``also``: policies that are reported only."""
    keys = list(dict.fromkeys((row["case"], row["load"]) for row in rows))
    strata = []
    for case, load in keys:
        here = {row["policy"]: row for row in rows if (row["case"], row["load"]) == (case, load)}
        own = here.pop(challenger)
        misses = {name: row["misses"] for name, row in here.items()}
        rivals = {name: found for name, found in misses.items() if name not in also}
        strata.append(Stratum(case, load, own.get("networks", own["misses"]), rivals, {k: misses[k] for k in also}))
    return strata


def by_load(strata: Sequence[Stratum], rows: Sequence[Mapping[str, Any]], challenger: str) -> Table:
    """A row per case and load: the challenger, the best of the papers, the best of all, and the verdict."""
    known = {(row["case"], row["load"], row["policy"]): row for row in rows}
    lines_ = []
    for s in strata:
        paper, best = s.best(PAPERS), s.best()
        difference = interval(list(s.difference()))
        own, other = known[s.case, s.load, challenger], known[s.case, s.load, best]
        lines_.append(
            {
                "case": s.case,
                "load": s.load,
                "own": interval(list(s.mean)),
                "paper": interval(list(s.rivals[paper])),
                "paper_name": paper.split(":")[0],
                "best": interval(list(s.rivals[best])),
                "best_name": other["parameters"],
                "difference": difference,
                "verdict": verdict(difference),
                "goodput": own["goodput"].mean / max(other["goodput"].mean, 1e-12) - 1.0,
                "p99": own["p99"].mean / other["p99"].mean - 1.0,
                "longest_wait": own["longest_wait"].mean,
                "best_longest_wait": other["longest_wait"].mean,
                "refused": own["refused"].mean,
                "best_refused": other["refused"].mean,
                "jain": own["jain"].mean,
                "best_jain": other["jain"].mean,
                "worst_bin": own["worst_bin"].mean,
                "best_worst_bin": other["worst_bin"].mean,
            }
        )
    columns = [
        Column("case", "case"),
        Column("load", "load", digits=1),
        Column("own", challenger, "missed, %", 1, 100.0),
        Column("paper", "best of three", "missed, %", 1, 100.0),
        Column("paper_name", "which"),
        Column("best", "best of all", "missed, %", 1, 100.0),
        Column("best_name", "which"),
        Column("difference", "difference", "points", 1, 100.0, signed=True),
        Column("verdict", ""),
        Column("goodput", "goodput", "%", 1, 100.0, signed=True),
        Column("p99", "p99 E2E", "%", 0, 100.0, signed=True),
        Column("longest_wait", "longest", "wait, s", 0),
        Column("best_longest_wait", "(best's)", "s", 0),
        Column("refused", "refused", "%", 1, 100.0),
        Column("best_refused", "(best's)", "%", 1, 100.0),
        Column("jain", "Jain", digits=2),
        Column("best_jain", "(best's)", digits=2),
        Column("worst_bin", "worst bin", "missed, %", 0, 100.0),
        Column("best_worst_bin", "(best's)", "%", 0, 100.0),
    ]
    note = (
        "difference, goodput, p99: against the best of all, chosen per case and load in hindsight. LOSS and win: the "
        "95 % interval of the difference, paired by seed, excludes 0."
    )
    if strata and len(strata[0].challenger) > 1:
        note += f" {challenger}: the mean over its networks under each seed, as if one of them were drawn for each run."
    return Table("by_load", "Misses by case and load", columns, lines_, note)


def verdict(difference: Interval) -> str:
    """``win``, ``LOSS``, or empty where the interval contains 0."""
    if not difference.excludes_zero:
        return ""
    return "win" if difference.mean < 0 else "LOSS"


def discerning(strata: Sequence[Stratum], names: Sequence[str] | None) -> list[Stratum]:
    """The strata that count against the best of ``names``: it misses neither nearly nothing nor nearly all."""
    low, high = DISCERNING
    return [s for s in strata if low <= float(s.of(s.best(names)).mean()) <= high]


def losses(strata: Sequence[Stratum], names: Sequence[str] | None) -> int:
    """Number of strata in which the challenger misses significantly more than the best of ``names``."""
    return sum(verdict(interval(list(s.difference(names)))) == "LOSS" for s in strata)


def bars(strata: Sequence[Stratum], goodputs: Sequence[float], rng: np.random.Generator) -> Table:
    """The announced bars and the results; below them the policies that are only reported."""
    groups: dict[str, tuple[Sequence[str] | None, float | None]] = {**GROUPS}
    groups |= {f"{name} (reported only)": ([name], None) for name in (strata[0].also if strata else ())}
    lines_: list[dict[str, Any]] = []
    for title, (names, bar) in groups.items():
        pairs = reductions(discerning(strata, names), names)
        less, chance = estimate(pairs, MISSES_SAVED, rng), estimate(pairs, BETTER_RUNS, rng)
        met = None if bar is None else "yes" if less.low >= bar else "NO"
        found = {"rival": title, "strata": less.strata, "bar": bar, "worse": losses(strata, names), "of": len(strata)}
        found |= {"fewer": less.value, "low": less.low, "high": less.high, "met": met}
        lines_.append(found | {"chance": chance.value, "chance_low": chance.low, "chance_high": chance.high})
    columns = [
        Column("rival", "against"),
        Column("strata", "loads", "counted", 0),
        Column("fewer", "fewer misses", "IQM, %", 1, 100.0, signed=True),
        Column("low", "95 %", "from", 1, 100.0, signed=True),
        Column("high", "interval", "to", 1, 100.0, signed=True),
        Column("bar", "bar", "%", 0, 100.0),
        Column("met", "met by", "all of it"),
        Column("chance", "P(better)", "", 2),
        Column("chance_low", "95 %", "from", 2),
        Column("chance_high", "interval", "to", 2),
        Column("worse", "LOSSES", "", 0),
        Column("of", "of", "", 0),
    ]
    drawn = "networks and seeds" if strata and len(strata[0].challenger) > 1 else "seeds"
    least = min(goodputs, default=float("nan"))
    note = (
        f"counted: case-loads where that rival misses {100 * DISCERNING[0]:g} to {100 * DISCERNING[1]:g} %; intervals "
        f"by stratified bootstrap over {drawn}. Goodput against the best of all is {100 * least:+.1f} % where it is "
        f"worst (bar: -1 %)."
    )
    return Table("bars", "The bars", columns, lines_, note)


def by_network(strata: Sequence[Stratum], names: Sequence[str], rng: np.random.Generator) -> Table:
    """A row per trained network: its results alone, over the strata that count for the bars."""
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        alone = [Stratum(s.case, s.load, s.challenger[place], s.rivals) for s in strata]
        row: dict[str, Any] = {"network": name, "missed": float(np.mean([s.mean for s in alone]))}
        for key, (group, _) in zip(("papers", "all"), GROUPS.values(), strict=True):
            found: Estimate = estimate(reductions(discerning(alone, group), group), MISSES_SAVED, rng)
            row |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
            row[f"{key}_losses"] = losses(alone, group)
        rows.append(row)
    columns = [Column("network", "network"), Column("missed", "missed", "mean, %", 1, 100.0)]
    for key, title in (("papers", "three"), ("all", "all")):
        columns += [
            Column(key, f"fewer: {title}", "IQM, %", 1, 100.0, signed=True),
            Column(f"{key}_low", "95 %", "from", 1, 100.0, signed=True),
            Column(f"{key}_high", "interval", "to", 1, 100.0, signed=True),
            Column(f"{key}_losses", "LOSSES", "", 0),
        ]
    spread = []
    for key, title in (("papers", "three"), ("all", "all")):
        found_ = np.array([row[key] for row in rows])
        spread.append(
            f"{100 * found_.min():+.1f} to {100 * found_.max():+.1f} %, deviation {100 * found_.std(ddof=1):.1f} "
            f"points, against the best of {title}"
        )
    note = f"Every network alone; intervals over seeds. Networks differ by {'; '.join(spread)}."
    return Table("networks", "The networks", columns, rows, note)


def all_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every policy in every case at every load."""
    columns = [
        *(Column("case", "case"), Column("load", "load", digits=1), Column("rate", "rate", "req/s", 3)),
        *(Column("parameters", "policy"), Column("missed", "missed", "%", 1, 100.0)),
        *(
            Column("p99", "p99 E2E", "s", 1),
            Column("jain", "Jain", "", 2),
            Column("worst_bin", "worst bin", "%", 0, 100.0),
        ),
    ]
    found = [{**row, "missed": interval(list(row["misses"]))} for row in rows]
    return Table("policies", "All policies", columns, [{c.key: row[c.key] for c in columns} for row in found])


def miss_figure(strata: Sequence[Stratum], challenger: str, heading: str) -> Any:
    """Misses over load, a panel per case."""
    panels = []
    for case in dict.fromkeys(s.case for s in strata):
        here = [s for s in strata if s.case == case]
        loads = [s.load for s in here]
        drawn = [
            ChartLine(challenger, loads, [interval(list(s.mean)) for s in here], 1),
            ChartLine("best of three papers", loads, [interval(list(s.rivals[s.best(PAPERS)])) for s in here], 0),
            ChartLine("best of all heuristics", loads, [interval(list(s.rivals[s.best()])) for s in here], 7),
        ]
        panels.append(Panel(case, "load", "missed, %", drawn, factor=100.0, bounded=True))
    return draw_lines("Misses by load", heading, panels, columns=2, height=2.6)


def profile_figure(strata: Sequence[Stratum], challenger: str, heading: str) -> Any:
    """Share of runs with at most so many misses."""
    grid = np.linspace(0.0, 0.6, 61)
    members = {challenger: [s.challenger for s in strata]}
    members |= {"best of three papers": [s.rivals[s.best(PAPERS)] for s in strata]}
    members |= {"best of all heuristics": [s.rivals[s.best()] for s in strata]}
    drawn = [
        ChartLine(name, (100 * grid).tolist(), [Interval(float(v), None) for v in profile(runs, grid)], colour)
        for (name, runs), colour in zip(members.items(), (1, 0, 7), strict=True)
    ]
    panel = Panel("", "misses at most, %", "share of runs, %", drawn, factor=100.0, share=True)
    return draw_lines("Performance profile", heading, [panel], columns=1, height=4.0)
