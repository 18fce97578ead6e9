"""How much each policy carries: the highest rate within an SLO, the servers that a load needs, and the curves between.

Capacity is searched under every seed by itself, on a lattice of rates 1 % apart and with the same arrivals at every
rate and for every policy, so it has an interval over seeds and a paired difference.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from llmsched.eval.cli.frame import Experiment, Findings, Session
from llmsched.eval.cli.option_lists import several
from llmsched.eval.cli.readers import number
from llmsched.eval.figures.charts import Panel, Series, lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.from_options import scenario_from
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.scenario import Scenario
from llmsched.eval.runs.tune import VALIDATED, Entrant, at_load, capacity, resolve
from llmsched.policies import Bound, parse, parse_list
from llmsched_env.core.constants import MAX_SERVERS
from llmsched_env.simulation.threshold import WholeNumberSearch, run_side_by_side

STEP = 1.01
"""Ratio of neighbouring rates of the lattice."""

REACH = 1e4
"""How far from the scenario's own rate the search goes, as a factor."""

SHARES = (0.99, 0.95, 0.90)
POLICIES = "static:batch=auto,dynamic,multibin,longest-queue"
MULTIPLES = (0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.4, 1.6, 1.9, 2.3)
SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument_group("capacity").add_argument
    above = {"above": True}
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}; =auto: the best for capacity")
    add("--shares", type=several(number(0, 1, **above)), default=SHARES, metavar="X,X,...", help="shares to keep")
    add(
        "--multiples",
        type=several(number(0, 1e3, **above)),
        default=MULTIPLES,
        metavar="X,...",
        help="rates of the curve",
    )
    add(
        "--scales", type=several(number(0, 1e6, **above)), default=SCALES, metavar="X,...", help="scales of the targets"
    )


@dataclass
class Study:
    """The runs of a session by (policy, rate or scenario, seed), each made once; ``about`` goes before the factors of
    every run in results.csv."""

    session: Session
    entrants: Sequence[Entrant]
    scenario: Scenario
    about: Mapping[str, str] = field(default_factory=dict)

    def attainments(self, asked: Sequence[tuple[Entrant, Scenario, int]], label: str, part: str) -> list[float]:
        """SLO attainment of runs (entrant, scenario, seed)."""
        cells = [Cell(entrant.label, entrant.policy, scenario, seed) for entrant, scenario, seed in asked]
        factors = [
            {
                **self.about,
                "part": part,
                "rate": s.workload.mean_rate,
                "servers": len(s.config.servers),
                "targets": s.goal,
            }
            for _, s, _ in asked
        ]
        return [
            float(o.summary["slo_attainment"])
            for o in self.session.runs(cells, ", ".join([*self.about.values(), label]), factors)
        ]

    def means(self, asked: Sequence[tuple[Entrant, Scenario]], label: str, part: str) -> list[Interval]:
        """Attainment over all seeds."""
        seeds = self.session.seeds
        found = self.attainments([(e, s, seed) for e, s in asked for seed in seeds], label, part)
        return [interval(found[row * len(seeds) : (row + 1) * len(seeds)]) for row in range(len(asked))]


def place_of(rate: float) -> int:
    """The number of the lattice's rate nearest to ``rate``."""
    return round(math.log(rate) / math.log(STEP))


def rate_of(place: int) -> float:
    """The rate of a number of the lattice."""
    return STEP**place


def chosen(policies: Sequence[Bound], scenario: Scenario, session: Session) -> list[Entrant]:
    """The policies with what was left to choose chosen: where their 95 % capacity on validation seeds is highest."""
    entrants = []
    for policy in policies:
        if not policy.autos and not scenario.tune_tbt:
            entrants.append(Entrant(policy, scenario))
            continue
        try:
            found = capacity(policy, scenario, session.crew)
        except ValueError:  # it has no capacity, or no bound: then the best at the own rate
            entrants += resolve([policy], scenario, session.crew)
            session.notes.append(f"Chosen: {entrants[-1].chosen or policy.label}.")
            continue
        world = found.scenario.at_rate(scenario.workload.mean_rate)
        bound = policy.with_params(**parse(found.policy).values)
        entrants.append(Entrant(bound, world))
        tbt = f", D = {1000 * world.config.tbt_s:.4g} ms" if scenario.tune_tbt else ""
        session.notes.append(f"Chosen: {policy.label} -> {found.policy}{tbt}, which carries most ({VALIDATED}).")
    return entrants


def rate_curve(study: Study, places: Sequence[int]) -> dict[tuple[int, int], list[float]]:
    """Attainment by (policy, place), a value per seed."""
    session, keys = study.session, [(row, place) for row in range(len(study.entrants)) for place in places]
    asked = [
        (study.entrants[row], study.entrants[row].scenario.at_rate(rate_of(place)), seed)
        for row, place in keys
        for seed in session.seeds
    ]
    found = study.attainments(asked, "attainment by rate", "rate")
    n = len(session.seeds)
    return {key: found[i * n : (i + 1) * n] for i, key in enumerate(keys)}


def capacities(study: Study, curve: dict[tuple[int, int], list[float]], places: Sequence[int]) -> dict:
    """The highest rate by (policy, share, seed), requests/s; 0 where none keeps the share, inf where all do."""
    middle, reach = place_of(study.scenario.workload.mean_rate), place_of(REACH)
    searches: dict[tuple[int, float, int], WholeNumberSearch] = {}
    known = {
        (row, place, i): value for (row, place), values in curve.items() for i, value in enumerate(values)
    }  # by place among the seeds
    for row in range(len(study.entrants)):
        for share in study.session.options.shares:
            for i in range(len(study.session.seeds)):
                search = WholeNumberSearch(middle, middle - reach, middle + reach, step=8)
                for place in places:  # the curve brackets it: up to its first failure
                    search.tell(place, known[row, place, i] >= share)
                    if search.high is not None:
                        break
                search.step = 8
                searches[row, share, i] = search

    def tried(asked: Sequence[tuple[tuple[int, float, int], int]]) -> list[bool]:
        new = list(dict.fromkeys((row, place, i) for (row, _, i), place in asked if (row, place, i) not in known))
        runs = [
            (study.entrants[row], study.entrants[row].scenario.at_rate(rate_of(place)), study.session.seeds[i])
            for row, place, i in new
        ]
        known.update(zip(new, study.attainments(runs, "capacity", "capacity"), strict=True))
        return [known[row, place, i] >= share for (row, share, i), place in asked]

    found = run_side_by_side(searches, tried)
    edge = middle + reach
    return {key: 0.0 if n is None else math.inf if n == edge else rate_of(n) for key, n in found.items()}


def capacity_table(study: Study, found: dict) -> Table:
    """A row per policy: capacity for every share, and how much more than the first policy."""
    session = study.session
    seeds, shares = range(len(session.seeds)), session.options.shares
    rows = []
    for row, entrant in enumerate(study.entrants):
        line: dict = {"policy": entrant.label}
        for share in shares:
            own = [found[row, share, i] for i in seeds]
            line[f"rate_{share:g}"] = interval(own)
            gains = [
                one / found[0, share, i] - 1.0 if found[0, share, i] else math.nan
                for i, one in zip(seeds, own, strict=True)
            ]
            line[f"gain_{share:g}"] = interval(gains) if row else None
        rows.append(line)
    columns = [Column("policy", "policy")]
    for share in shares:
        columns.append(Column(f"rate_{share:g}", f"{100 * share:g} % met", "req/s", 3))
    first = study.entrants[0].label
    for share in shares:
        columns.append(Column(f"gain_{share:g}", "more", f"%, at {100 * share:g} %", 1, 100.0, signed=True))
    note = (
        f"Highest rate at which that share of all arrivals meets {study.scenario.goal}. ± 95 % interval over seeds, "
        f"each searched by itself to 1 %; more: than {first}, paired by seed."
    )
    return Table("capacity", "Capacity", columns, rows, note)


def servers_table(study: Study) -> Table:
    """The least number of servers that keep each share at the scenario's rate, on the mean over seeds."""
    scenario, shares = study.scenario, study.session.options.shares
    have, kind = len(scenario.config.servers), scenario.config.servers[0]
    keys = [(row, share) for row in range(len(study.entrants)) for share in shares]
    searches = {key: WholeNumberSearch(-have, -MAX_SERVERS, -1) for key in keys}
    known: dict[tuple[int, int], Interval] = {}

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        new = list(dict.fromkeys(pair for pair in pairs if pair not in known and 1 <= pair[1] <= MAX_SERVERS))
        asked = [(study.entrants[row], with_servers(study.entrants[row].scenario, count)) for row, count in new]
        known.update(zip(new, study.means(asked, "servers needed", "servers"), strict=True))

    def tried(asked: Sequence[tuple[tuple[int, float], int]]) -> list[bool]:
        look([(row, -place) for (row, _), place in asked])
        return [known[row, -place].mean >= share for (row, share), place in asked]

    found = run_side_by_side(searches, tried)
    rows = []
    for row, share in keys:
        place = found[row, share]
        count = None if place is None else -place
        line: dict = {"policy": study.entrants[row].label, "share": share, "servers": count}
        if count is not None:
            look([(row, count), (row, count - 1)])
            line |= {"gpus": count * kind.profile.tensor_parallel, "met": known[row, count]}
            line["less"] = known.get((row, count - 1))
        rows.append(line)
    columns = [
        Column("policy", "policy"),
        Column("share", "to keep", "%", 0, 100.0),
        Column("servers", "servers", digits=0),
        Column("gpus", "GPUs", digits=0),
        Column("met", "met with them", "%", 1, 100.0),
        Column("less", "with one less", "%", 1, 100.0),
    ]
    note = f"Least number of {kind.profile.name} servers at {scenario.arrivals}, by the mean over seeds."
    return Table("servers", "Servers needed", columns, rows, note)


def with_servers(scenario: Scenario, count: int) -> Scenario:
    """The scenario with ``count`` servers of its first kind."""
    return replace(scenario, config=replace(scenario.config, servers=(scenario.config.servers[0],) * count))


def with_targets(scenario: Scenario, scale: float) -> Scenario:
    """The scenario with all latency targets times ``scale``; the controllers keep their D."""
    slos = tuple(
        replace(slo, ttft_s=slo.ttft_s * scale, tpot_s=slo.tpot_s * scale, e2e_s=slo.e2e_s * scale)
        for slo in scenario.config.slos
    )
    controller = replace(scenario.config.controller, tbt_s=scenario.config.tbt_s)
    return replace(scenario, config=replace(scenario.config, slos=slos, controller=controller))


def find(session: Session) -> Findings:
    """Curves, capacities, servers."""
    options = session.options
    scenario = scenario_from(options)
    if scenario.load is not None:
        scenario, _ = at_load(scenario, session.crew)
    entrants = chosen(parse_list(options.policies), scenario, session)
    study = Study(session, entrants, scenario)
    names = [entrant.label for entrant in entrants]

    places = sorted({place_of(multiple * scenario.workload.mean_rate) for multiple in options.multiples})
    curve = rate_curve(study, places)
    found = capacities(study, curve, places)
    tables = [capacity_table(study, found)]
    if len(set(scenario.config.servers)) == 1:
        tables.append(servers_table(study))
    else:
        session.notes.append("Servers needed: not searched, because the servers differ.")
    by_rate = [[interval(curve[row, place]) for place in places] for row in range(len(names))]
    rates = [rate_of(place) for place in places]
    tables.append(
        _curve_table("by_rate", "SLO attainment by rate", Column("x", "rate", "req/s", 3), rates, names, by_rate)
    )

    asked = [(entrant, with_targets(entrant.scenario, scale)) for entrant in entrants for scale in options.scales]
    means, n = study.means(asked, "attainment by target", "targets"), len(options.scales)
    by_scale = [means[row * n : (row + 1) * n] for row in range(len(names))]
    title = f"SLO attainment by how tight the targets are (1 = {scenario.goal})"
    scales = list(options.scales)
    tables.append(_curve_table("by_scale", title, Column("x", "targets", "times", 2), scales, names, by_scale))

    def draw(x, series, label, mark):
        shown = [Series(name, x, values, row) for row, (name, values) in enumerate(zip(names, series, strict=True))]
        levels = tuple(100 * share for share in options.shares)
        return Panel("", label, "SLO met, %", shown, log_x=True, factor=100.0, share=True, at_x=mark, at_y=levels)

    drawings: dict[str, Callable] = {
        "attainment": lambda: lines(
            "How much the policies carry",
            scenario.title,
            [
                draw(rates, by_rate, "arrival rate, requests/s", None),
                draw(scales, by_scale, "latency targets, times the scenario's", 1.0),
            ],
            height=4.2,
        )
    }
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    about = {"scenario": scenario.describe()}
    return Findings(heading(scenario, session.seeds), tables, drawings, about, timeline=cells)


def _curve_table(
    name: str,
    title: str,
    x: Column,
    places: Sequence[float],
    names: Sequence[str],
    curves: Sequence[Sequence[Interval]],
) -> Table:
    rows = [{"x": place} | {n: c[i] for n, c in zip(names, curves, strict=True)} for i, place in enumerate(places)]
    return Table(name, title, [x, *(Column(n, n, "%", 1, 100.0) for n in names)], rows)


EXPERIMENT = Experiment(
    "capacity.py",
    "How much each policy carries within the SLO, and how many servers a load needs.",
    add_options,
    find,
)
