"""Capacities: the highest rate and the least number of servers at which a policy keeps its SLO.

Capacity is searched under every seed separately, on a lattice of rates 1 % apart, with the same arrivals at every rate
and for every policy.  So it has an interval over seeds, and a difference paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmsched.eval.cli.frame import Session
from llmsched.eval.experiments.capacity.measure import Measure
from llmsched.eval.report.cost import COLUMNS as COST_COLUMNS
from llmsched.eval.report.cost import MILLION, THOUSAND, cost_of
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import VALIDATED, Entrant, Goal, capacity, resolve
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import with_servers
from llmsched.policies import Bound, parse
from llmsched_env.core.constants import MAX_SERVERS
from llmsched_env.simulation.threshold import WholeNumberSearch, run_side_by_side

STEP = 1.01
"""Ratio of neighbouring rates of the lattice."""

REACH = 1e4
"""The search goes from the scenario's own rate divided by this factor to that rate times it."""


@dataclass
class CapacityStudy:
    """The runs of a session, each made once; ``about``: columns before the factors of every run in results.csv;
    ``measure``: how they are scored."""

    session: Session
    entrants: Sequence[Entrant]
    scenario: Scenario
    about: Mapping[str, str] = field(default_factory=dict)
    measure: Measure = field(default_factory=Measure)

    def attainments(self, asked: Sequence[tuple[Entrant, Scenario, int]], label: str, part: str) -> list[float]:
        """Scores of runs (entrant, scenario, seed): their SLO attainment, or what ``measure`` says."""
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
            self.measure.score(o.summary)
            for o in self.session.runs(cells, ", ".join([*self.about.values(), label]), factors)
        ]

    def means(self, asked: Sequence[tuple[Entrant, Scenario]], label: str, part: str) -> list[Interval]:
        """Scores over all seeds."""
        seeds = self.session.seeds
        found = self.attainments([(e, s, seed) for e, s in asked for seed in seeds], label, part)
        return [interval(found[row * len(seeds) : (row + 1) * len(seeds)]) for row in range(len(asked))]


def place_of(rate: float) -> int:
    """The number of the rate of the lattice that is nearest to ``rate``."""
    return round(math.log(rate) / math.log(STEP))


def rate_of(place: int) -> float:
    """The rate (requests/s) of a number of the lattice."""
    return STEP**place


def tune_for_capacity(
    policies: Sequence[Bound], scenario: Scenario, session: Session, goal: Goal | None = None
) -> list[Entrant]:
    """The policies, every `=auto` replaced by the value with the highest capacity on the validation seeds.

    ``goal``: what a rate has to keep (default: 95 % of the arrivals within their SLO).
    """
    entrants = []
    for policy in policies:
        if not policy.autos and not scenario.tune_tbt:
            entrants.append(Entrant(policy, scenario))
            continue
        try:
            found = capacity(policy, scenario, session.crew, goal)
        except ValueError:  # no capacity, or an unbounded one: the best value at the scenario's own rate
            entrants += resolve([policy], scenario, session.crew)
            session.notes.append(f"Chosen: {entrants[-1].choice or policy.label}.")
            continue
        tuned = found.scenario.at_rate(scenario.workload.mean_rate)
        bound = policy.with_params(**parse(found.policy).values)
        entrants.append(Entrant(bound, tuned))
        tbt = f", D = {1000 * tuned.config.tbt_s:.4g} ms" if scenario.tune_tbt else ""
        session.notes.append(f"Chosen: {policy.label} -> {found.policy}{tbt}, the highest capacity ({VALIDATED}).")
    return entrants


def rate_curve(study: CapacityStudy, places: Sequence[int]) -> dict[tuple[int, int], list[float]]:
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


def capacities(study: CapacityStudy, curve: dict[tuple[int, int], list[float]], places: Sequence[int]) -> dict:
    """The highest rate (requests/s) by (policy, share, seed); 0 where no rate keeps the share, inf where all do.

    The search begins inside the bracket that ``curve`` gives, up to its first failure.
    """
    middle, reach = place_of(study.scenario.workload.mean_rate), place_of(REACH)
    searches: dict[tuple[int, float, int], WholeNumberSearch] = {}
    known = {
        (row, place, i): value for (row, place), values in curve.items() for i, value in enumerate(values)
    }  # by place among the seeds
    for row in range(len(study.entrants)):
        for share in study.session.options.shares:
            for i in range(len(study.session.seeds)):
                search = WholeNumberSearch(middle, middle - reach, middle + reach, step=8)
                for place in places:
                    search.tell(place, known[row, place, i] >= share)
                    if search.high is not None:
                        break
                search.step = 8
                searches[row, share, i] = search

    def holds_at(asked: Sequence[tuple[tuple[int, float, int], int]]) -> list[bool]:
        """Whether each search of ``asked`` meets its share at its place of the grid; runs what is not known yet."""
        new = list(dict.fromkeys((row, place, i) for (row, _, i), place in asked if (row, place, i) not in known))
        runs = [
            (study.entrants[row], study.entrants[row].scenario.at_rate(rate_of(place)), study.session.seeds[i])
            for row, place, i in new
        ]
        known.update(zip(new, study.attainments(runs, "capacity", "capacity"), strict=True))
        return [known[row, place, i] >= share for (row, share, i), place in asked]

    found = run_side_by_side(searches, holds_at)
    edge = middle + reach
    return {key: 0.0 if n is None else math.inf if n == edge else rate_of(n) for key, n in found.items()}


def capacity_table(study: CapacityStudy, found: dict) -> Table:
    """A row per policy: capacity for every share, and the gain over the first policy."""
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
        columns.append(Column(f"rate_{share:g}", study.measure.column(share), "req/s", 3, best=1, zero="none"))
    first = study.entrants[0].label
    for share in shares:
        unit = "%" if study.measure.targets else f"%, at {100 * share:g} %"
        columns.append(Column(f"gain_{share:g}", "more", unit, 1, 100.0, signed=True, none="(first)"))
    whose = "the arrivals of every SLO class" if len(study.scenario.config.slos) > 1 else "all arrivals"
    what = (
        f"{', '.join(target.text for target in study.measure.targets)} hold"
        if study.measure.targets
        else f"that share of {whose} meets {study.scenario.goal}"
    )
    note = (
        f"Highest rate at which {what}. ± 95 % interval over seeds, "
        f"each searched by itself to 1 %; more: than {first}, paired by seed."
    )
    if any(line[f"rate_{share:g}"].mean == 0 for line in rows for share in shares):
        note += " none: no rate keeps it; nothing is more than that in per cent (-)."
    if any(math.isinf(value) for value in found.values()):
        note += " inf or -: every rate that was tried keeps it."
    return Table("capacity", "Capacity", columns, rows, note)


def _money(study: CapacityStudy, gpus: int, met: float) -> dict[str, float]:
    """GPU-hours a day, and with a price the money, at the scenario's rate when a share ``met`` is in time."""
    found, price = {"gpu_hours_a_day": 24.0 * gpus}, study.session.options.price
    if price is None:
        return found
    rate = study.scenario.workload.mean_rate
    tokens = float(study.scenario.draw(study.session.seeds[0]).output_tokens.mean())
    return found | {
        "cost_per_million_output_tokens": cost_of(gpus, rate * tokens, MILLION, price),
        "cost_per_thousand_in_time": cost_of(gpus, rate * met, THOUSAND, price),
    }


def servers_table(study: CapacityStudy) -> Table:
    """The least number of servers that keep each share at the scenario's rate, by the mean over seeds."""
    scenario, shares = study.scenario, study.session.options.shares
    have, kind = len(scenario.config.servers), scenario.config.servers[0]
    keys = [(row, share) for row in range(len(study.entrants)) for share in shares]
    searches = {key: WholeNumberSearch(-have, -MAX_SERVERS, -1) for key in keys}
    known: dict[tuple[int, int], Interval] = {}

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        new = list(dict.fromkeys(pair for pair in pairs if pair not in known and 1 <= pair[1] <= MAX_SERVERS))
        asked = [(study.entrants[row], with_servers(study.entrants[row].scenario, count)) for row, count in new]
        known.update(zip(new, study.means(asked, "servers needed", "servers"), strict=True))

    def holds_at(asked: Sequence[tuple[tuple[int, float], int]]) -> list[bool]:
        look([(row, -place) for (row, _), place in asked])
        return [known[row, -place].mean >= share for (row, share), place in asked]

    found = run_side_by_side(searches, holds_at)
    rows = []
    for row, share in keys:
        place = found[row, share]
        count = None if place is None else -place
        line: dict = {"policy": study.entrants[row].label, "share": share, "servers": count}
        if count is not None:
            look([(row, count), (row, count - 1)])
            gpus = count * kind.profile.tensor_parallel
            line |= {"gpus": gpus, "met": known[row, count]}
            line["less"] = known.get((row, count - 1))
            line |= _money(study, gpus, known[row, count].mean)
        rows.append(line)
    columns = [
        Column("policy", "policy"),
        Column("share", "to keep", study.measure.unit, 0, 100.0),
        Column("servers", "servers", digits=0, none="none"),
        Column("gpus", "GPUs", digits=0),
        Column("met", "kept with them" if study.measure.targets else "met with them", study.measure.unit, 1, 100.0),
        Column("less", "with one less", study.measure.unit, 1, 100.0),
        Column("gpu_hours_a_day", "GPU-hours", "a day", 0),
    ]
    note = f"Least number of {kind.profile.name} servers at {scenario.arrivals}, by the mean over seeds."
    if any(row["servers"] is None for row in rows):
        note += f" none: no number of servers up to {MAX_SERVERS} keeps it."
    if any(row["servers"] == 1 for row in rows):
        note += " With one less there is none left (-)."
    if study.session.options.price is not None:
        columns += COST_COLUMNS[-2:]
        note += f" Money at {study.session.options.price:g} per GPU-hour."
    return Table("servers", "Servers needed", columns, rows, note)
