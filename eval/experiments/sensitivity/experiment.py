"""Which factors SLO attainment depends on: one at a time (a tornado), and all at once (Latin hypercube, Sobol).

The response is SLO attainment.  One at a time, every factor goes to its low and its high value while the others stay,
on the same arrivals, so effects are paired by seed.  All at once, a design covers the box of all ranges.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.readers import choice, number
from llmsched.eval.experiments.sensitivity import designs
from llmsched.eval.experiments.sensitivity.factors import NAMES, Factor, factors_named, scenario_at
from llmsched.eval.figures.charts import Bar, draw_tornado
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import VALIDATED, Entrant, at_load, resolve
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario

POLICIES = "static:batch=auto,dynamic,multibin"
DESIGNS = ("latin", "sobol", "none")
POINTS = {"latin": 128, "sobol": 32, "none": 0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("sensitivity").add_argument
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}; =auto is chosen once, at the base")
    add("--factors", type=list_of(choice(NAMES)), default=NAMES, metavar="NAME,...", help=", ".join(NAMES))
    add("--design", type=choice(DESIGNS), default="latin", help="all at once: latin (default), sobol or none")
    add("--points", type=number(2, 65536, whole=True), metavar="N", help="of the design; sobol: N x (factors + 2) runs")


def find(session: Session) -> Findings:
    """The tornado, and the design."""
    options = session.options
    base = scenario_from(options)
    if base.load is not None:
        base, _ = at_load(base, session.crew)
    factors = factors_named(options.factors)
    if base.workload.trace is not None:
        factors = [factor for factor in factors if factor.name != "burstiness"]
        session.notes.append("burstiness: left out, a trace keeps its own arrivals.")
    entrants = resolve(session.policies(options.policies), base, session.crew)
    session.notes += [f"Chosen: {e.label} -> {e.policy.text} ({VALIDATED})." for e in entrants if e.choice]
    table, panels = one_at_a_time(session, base, entrants, factors)
    tables, drawings = [table], {}
    if options.design != "none":
        tables.append(DESIGN[options.design](session, base, entrants, factors))

    def draw():
        return draw_tornado(
            "What SLO attainment depends on", base.title, "points of SLO met (blue: first value)", panels
        )

    drawings = {"tornado": draw}
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    about = {"scenario": base.describe(), "factors": [vars(factor) for factor in factors]}
    return Findings(heading(base, session.seeds), tables, drawings, about, timeline=cells)


def one_at_a_time(
    session: Session, base: Scenario, entrants: Sequence[Entrant], factors: Sequence[Factor]
) -> tuple[Table, dict[str, Sequence[Bar]]]:
    """Effects of every factor at its ends, per policy and on the lead of the last over the first."""
    seeds = session.seeds
    points: list[dict[str, float]] = [{}, *({f.name: end} for f in factors for end in (f.low, f.high))]
    scenarios = [scenario_at(session.options, base, point) for point in points]
    cells = [Cell(e.label, e.policy, scenario, seed) for scenario in scenarios for e in entrants for seed in seeds]
    marks = [{"part": "one", **point} for point in points for _ in entrants for _ in seeds]
    runs = session.runs(cells, "one at a time", marks)
    met = np.array([o.summary["slo_attainment"] for o in runs]).reshape(len(points), len(entrants), len(seeds))
    names = [entrant.label for entrant in entrants]
    if len(names) > 1:
        names.append(f"{names[-1]} - {names[0]}")
        met = np.concatenate([met, met[:, -1:] - met[:, :1]], axis=1)
    effects = [[interval(list(row)) for row in changed - met[0]] for changed in met]
    bars: dict[str, Sequence[Bar]] = {}
    for row, name in enumerate(names):
        own = [
            Bar(f.title, f.show(f.low), f.show(f.high), effects[1 + 2 * i][row], effects[2 + 2 * i][row])
            for i, f in enumerate(factors)
        ]
        bars[name] = sorted(own, key=lambda bar: -bar.reach)
    rows: list[dict] = [
        {"factor": "none", "value": "base"} | dict(zip(names, map(interval, met[0].tolist()), strict=True))
    ]
    for i, factor in enumerate(factors):
        for end, value in enumerate((factor.low, factor.high)):
            named = {"factor": factor.title, "value": factor.show(value)}
            rows.append(named | dict(zip(names, effects[1 + 2 * i + end], strict=True)))
    columns = [Column("factor", "factor"), Column("value", "value")]
    columns += [Column(name, name, "points", 1, 100.0, signed=True) for name in names]
    note = (
        "First row: SLO attainment at the base, %. Below: change against it, paired by seed. The base has the "
        "generator's own arrivals; squared CV replaces them by gamma gaps (1: Poisson)."
    )
    return Table("one_at_a_time", "One factor at a time", columns, rows, note), bars


def values_of(
    session: Session,
    base: Scenario,
    entrants: Sequence[Entrant],
    factors: Sequence[Factor],
    points: designs.Points,
    seeds: Sequence[int],
) -> np.ndarray:
    """SLO attainment at every point of a design (policies, points), each under one of ``seeds`` in turn."""
    places = [{f.name: f.at(share) for f, share in zip(factors, point, strict=True)} for point in points]
    scenarios = [scenario_at(session.options, base, place) for place in places]
    cells = [Cell(e.label, e.policy, w, seeds[i % len(seeds)]) for i, w in enumerate(scenarios) for e in entrants]
    marks = [{"part": session.options.design, **place} for place in places for _ in entrants]
    found = [outcome.summary["slo_attainment"] for outcome in session.runs(cells, session.options.design, marks)]
    return np.array(found).reshape(len(scenarios), len(entrants)).T


def latin(session: Session, base: Scenario, entrants: Sequence[Entrant], factors: Sequence[Factor]) -> Table:
    """Rank regression on a Latin hypercube; its points take the seeds in turn, so chance is in the intervals."""
    size = session.options.points or POINTS["latin"]
    if size < len(factors) + 2:
        raise ValueError(f"--points {size}: a regression on {len(factors)} factors needs at least {len(factors) + 2}.")
    points = designs.latin(len(factors), size, np.random.default_rng([session.options.seed, 1]))
    values = values_of(session, base, entrants, factors, points, session.seeds)
    found = [designs.rank_coefficients(points, own) for own in values]
    shares = ["-" if math.isnan(fit) else f"{fit:.2f}" for _, fit in found]
    fits = ", ".join(f"{e.label} {share}" for e, share in zip(entrants, shares, strict=True))
    rows: list[dict] = [
        {"factor": factor.title} | {e.label: found[row][0][i] for row, e in enumerate(entrants)}
        for i, factor in enumerate(factors)
    ]
    columns = [Column("factor", "factor")]
    columns += [Column(e.label, e.label, "rank coefficient", 2, signed=True) for e in entrants]
    note = (
        f"{size} points over the ranges of all factors. Standardised regression coefficients of the ranks of SLO "
        f"attainment (±1: it follows this factor alone), 95 % intervals; R^2: {fits}."
    )
    return Table("latin", "All factors at once: Latin hypercube", columns, rows, note)


def sobol(session: Session, base: Scenario, entrants: Sequence[Entrant], factors: Sequence[Factor]) -> Table:
    """Sobol indices from a Saltelli design, all points under the first seed: variance by the factors alone."""
    size = session.options.points or POINTS["sobol"]
    if size & (size - 1):
        raise ValueError(f"--points {size}: a Sobol design needs a power of 2, like {1 << size.bit_length()}.")
    rng = np.random.default_rng([session.options.seed, 2])
    design = designs.Saltelli.draw(len(factors), size, rng)
    values = values_of(session, base, entrants, factors, design.points, session.seeds[:1])
    found = [design.indices(own, rng) for own in values]
    rows: list[dict] = []
    for i, factor in enumerate(factors):
        row: dict[str, str | Interval] = {"factor": factor.title}
        for entrant, (first, total) in zip(entrants, found, strict=True):
            row |= {f"{entrant.label}_first": first[i], f"{entrant.label}_total": total[i]}
        rows.append(row)
    columns = [Column("factor", "factor")]
    for e in entrants:
        columns += [Column(f"{e.label}_first", e.label, "first", 2), Column(f"{e.label}_total", "", "total", 2)]
    note = (
        f"{size} x {len(factors) + 2} points (Saltelli 2010). first: share of the variance of SLO attainment that this "
        "factor explains alone; total: with its interactions. ± 95 % (bootstrap)."
    )
    return Table("sobol", "All factors at once: Sobol indices", columns, rows, note)


DESIGN: dict[str, Callable[[Session, Scenario, Sequence[Entrant], Sequence[Factor]], Table]] = {
    "latin": latin,
    "sobol": sobol,
}

EXPERIMENT = Experiment(
    "sensitivity.py",
    "What SLO attainment depends on: one factor at a time, and all at once.",
    add_options,
    find,
)
