"""What policies decide: maps over queue and slack, when they wait, and how they divide servers between bins.

For every registered policy of the engine `batch`, so that a learned one can be compared with a rule.  The maps show
answers to records of the policy's own run at ``--load`` in which two quantities are set (decisions.grid); the tables
and the other figures show whole runs at ``--loads``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.decisions.grid import DecisionMap, MapAxes, axes_of, map_of
from llmsched.eval.figures import decisions as figures
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.recording import Recording, Sharing, bin_names, record_run, sharing_of
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import Entrant, at_load, resolve
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import variant

POLICIES = "network,longest-queue"
LOADS = (0.7, 0.9, 1.0, 1.2, 1.4, 1.6)
LOAD = 1.2
"""Load of the run behind the maps."""

MAPS, GROUPS = 5, 8
"""Most maps beside each other, and most groups of free servers."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("decisions").add_argument
    read = list_of(number(0, 1e3, above=True))
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}")
    add("--loads", type=read, default=LOADS, metavar="X,X,...", help="loads of the runs; --load is that of the maps")


@dataclass(frozen=True)
class DecisionRun:
    """One run: how it divided servers between bins; by decision (D,) the ``free`` servers and whether it ``waited``."""

    sharing: Sharing
    any_share: float  # share of the batches that took the choice `any`
    free: NDArray[np.int64]
    waited: NDArray[np.bool_]


def decision_run(recording: Recording) -> DecisionRun:
    """Reduce a recording."""
    result = recording.result
    any_ = result.batches["choice"] == result.config.queueing.num_bins
    share = float(any_.mean()) if len(any_) else math.nan
    return DecisionRun(sharing_of(result), share, recording.free, recording.waited)


def map_scenario(session: Session) -> Scenario:
    """The scenario at the load of the maps."""
    options = session.options
    if options.rate is not None or options.rate_scale is not None:
        raise ValueError("--rate and --rate-scale: decisions are shown over loads; give --load and --loads.")
    scenario = variant(options, load=LOAD if options.load is None else options.load)
    if scenario.config.engine != "batch":
        raise ValueError(f"--engine {scenario.config.engine} has no batches to share servers with: give batch.")
    if not math.isfinite(scenario.config.slos[0].deadline_s):
        raise ValueError("--goodput: without a target ttft or e2el there is no slack to show; give one.")
    return at_load(scenario, session.crew)[0]


def decision_runs(session: Session, entrants: Sequence[Entrant], unit: float) -> dict[str, list[list[DecisionRun]]]:
    """Runs by policy, [load][seed]; ``unit``: the rate of load 1 in requests/s."""
    loads = session.options.loads
    cells = [
        Cell(e.label, e.policy, e.scenario.at_rate(load * unit), seed)
        for e in entrants
        for load in loads
        for seed in session.seeds
    ]
    session.runs(cells, "runs", [{"load": cell.scenario.workload.mean_rate / unit} for cell in cells])
    found: dict[str, list[list[DecisionRun]]] = {e.label: [[] for _ in loads] for e in entrants}
    places = [(e.label, place) for e in entrants for place in range(len(loads)) for _ in session.seeds]
    with Progress("decisions", len(cells)) as progress:
        for cell, (name, place) in zip(cells, places, strict=True):
            found[name][place].append(decision_run(record_run(cell, cell.scenario.draw(cell.seed))))
            progress.step(f"{name}, seed {cell.seed}")
    return found


def maps_of(session: Session, entrants: Sequence[Entrant]) -> tuple[MapAxes, dict[str, list[DecisionMap]]]:
    """The axes, and the maps by policy, each from a run of the first seed."""
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    recordings = [record_run(cell, cell.scenario.draw(cell.seed), keep=True) for cell in cells]
    axes = axes_of(recordings, cells[0].scenario.config.slos[0].deadline_s)
    found = {}
    for cell, recording in zip(cells, recordings, strict=True):
        bins = recording.result.config.queueing.num_bins  # the overdue queue has no map
        shown = np.unique(np.linspace(0, bins - 1, min(bins, MAPS)).round().astype(int))
        found[cell.label] = [map_of(cell.policy, recording, int(k), axes) for k in shown]
    return axes, found


def groups_of(servers: int) -> tuple[list[str], NDArray[np.int64]]:
    """Names of groups of free servers, and the group of 0 ... ``servers`` free ones."""
    width = -(-servers // GROUPS)
    group = np.maximum(np.arange(servers + 1) - 1, 0) // width
    spans = [(g * width + 1, min((g + 1) * width, servers)) for g in range(int(group[-1]) + 1)]
    return [str(low) if low == high else f"{low} to {high}" for low, high in spans], group


def wait_shares(found: Sequence[Sequence[DecisionRun]], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the decisions that wait, (groups, loads), over all seeds; NaN where there was none."""
    count = int(group[-1]) + 1
    shares = np.full((count, len(found)), math.nan)
    for place, own in enumerate(found):
        groups = group[np.concatenate([run.free for run in own])]
        asked = np.bincount(groups, minlength=count)
        waited = np.bincount(groups, np.concatenate([run.waited for run in own]), count)
        shares[:, place] = np.divide(waited, asked, out=np.full(count, math.nan), where=asked > 0)
    return shares


def shares_of(found: Sequence[Sequence[DecisionRun]], bins: int) -> figures.BinShares:
    """Intervals over seeds, [load][bin]; undefined for bins that the policy does not have."""

    def over(name: str, fill: float) -> list[list[Interval]]:
        rows = []
        for own in found:
            values = np.full((len(own), bins), fill)
            for row, run in zip(values, own, strict=True):
                row[: len(getattr(run.sharing, name))] = getattr(run.sharing, name)
            rows.append([interval(list(column[np.isfinite(column)])) for column in values.T])
        return rows

    return figures.BinShares(over("time", 0.0), over("batch", math.nan), over("missed", math.nan))


def find(session: Session) -> Findings:
    """Runs, maps, tables and figures."""
    options, loads = session.options, session.options.loads
    scenario = map_scenario(session)
    assert scenario.load is not None
    unit = scenario.workload.mean_rate / scenario.load
    title = replace(scenario.at_rate(unit), load=1.0).title
    entrants = resolve(session.policies(options.policies), scenario, session.crew)
    session.notes += [f"Chosen at load {scenario.load:g}: {e.choice}." for e in entrants if e.choice]
    found = decision_runs(session, entrants, unit)
    axes, maps = maps_of(session, entrants)
    choices = figures.legend_of([bin_names(e.policy.configure(e.scenario.config)) for e in entrants])
    groups, group = groups_of(len(scenario.config.servers))
    waits = {name: wait_shares(own, group) for name, own in found.items()}
    shares = {name: shares_of(own, choices.bins) for name, own in found.items()}
    if not any(np.nansum(share) > 0 for share in waits.values()):
        session.notes.append("No decision was to wait.")
    tables = [mix_table(loads, found), waits_table(loads, groups, waits)]
    tables += [by_bin(look, loads, shares, choices) for look in BY_BIN]
    drawings: dict[str, Callable] = {
        "maps": lambda: figures.draw_maps(scenario.title, maps, axes, choices),
        "waits": lambda: figures.draw_waits(title, loads, groups, waits),
        "sharing": lambda: figures.draw_sharing(title, loads, shares, choices),
    }
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    about = {"scenario": scenario.describe(), "loads": list(loads)}
    return Findings(heading(scenario, session.seeds), tables, drawings, about, timeline=cells)


BY_BIN = (
    ("time", "Server time by bin, % of all", 100.0, ""),
    ("batch", "Mean batch by bin", 1.0, "A batch of `any` counts in the bins of its members, in proportion."),
    ("missed", "Missed by bin of predicted length, %", 100.0, ""),
)
"""Tables by bin: name (a field of BinShares), title, factor and note."""


def by_bin(
    look: tuple[str, str, float, str],
    loads: Sequence[float],
    shares: Mapping[str, figures.BinShares],
    choices: figures.ChoiceLegend,
) -> Table:
    """The table of ``look`` (an entry of BY_BIN): a row per policy and load, a column per bin."""
    name, title, factor, note = look
    rows: list[dict] = []
    for policy, own in shares.items():
        for place, load in enumerate(loads):
            values = {f"bin{k}": value for k, value in enumerate(getattr(own, name)[place])}
            if choices.bins > MAPS:  # with intervals the line would be too long
                values = {key: value.mean for key, value in values.items()}
            rows.append({"policy": policy, "load": load, **values})
    columns = [Column("policy", "policy"), Column("load", "load", "", 2)]
    columns += [Column(f"bin{k}", choices.names[k], "", 1, factor) for k in range(choices.bins)]
    return Table(name, title, columns, rows, note)


def mix_table(loads: Sequence[float], found: Mapping[str, Sequence[Sequence[DecisionRun]]]) -> Table:
    """How many decisions there were, and of which kind."""
    rows: list[dict] = []
    for policy, by_load in found.items():
        for load, own in zip(loads, by_load, strict=True):
            rows.append(
                {
                    "policy": policy,
                    "load": load,
                    "decisions": int(np.mean([len(run.waited) for run in own])),
                    "waits": interval([float(run.waited.mean()) for run in own]),
                    "any": interval([run.any_share for run in own]),
                    "busy": interval([float(run.sharing.time.sum()) for run in own]),
                }
            )
    columns = [
        Column("policy", "policy"),
        Column("load", "load", "", 2),
        Column("decisions", "decisions", "a run", 0),
        Column("waits", "to wait", "%", 1, 100.0),
        Column("any", "any", "% of batches", 1, 100.0),
        Column("busy", "servers busy", "%", 1, 100.0),
    ]
    return Table("mix", "Decisions", columns, rows)


def waits_table(loads: Sequence[float], groups: Sequence[str], waits: Mapping[str, NDArray[np.float64]]) -> Table:
    """Share of decisions that wait, by load and free servers."""
    rows: list[dict] = []
    for policy, share in waits.items():
        for place, load in enumerate(loads):
            values = {f"free{g}": float(share[g, place]) for g in range(len(groups))}
            rows.append({"policy": policy, "load": load, **values})
    columns = [Column("policy", "policy"), Column("load", "load", "", 2)]
    columns += [Column(f"free{g}", name, "free", 1, 100.0) for g, name in enumerate(groups)]
    return Table("waits", "Decisions to wait, %, by free servers (the asked one included)", columns, rows)


EXPERIMENT = Experiment(
    "decisions.py",
    "What policies decide over queue and slack, when they wait, and how they divide servers between bins.",
    add_options,
    find,
)
