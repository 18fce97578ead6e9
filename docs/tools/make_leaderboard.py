"""Writes the table of docs/results/leaderboard.md from the result files beside it.

python docs/tools/make_leaderboard.py                     writes the table
python docs/tools/make_leaderboard.py --check             says whether it is up to date (exit status 1: it is not)
python docs/tools/make_leaderboard.py --add DIR POLICY    takes over a policy's runs from the --out DIR of
                                                          eval/benchmark.py, then writes the table
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from made.page import with_part, write_or_check

from llmsched.eval.runs.intervals import Interval, interval

PAGE = Path(__file__).parents[1] / "results" / "leaderboard.md"
RUNS = PAGE.parent / "leaderboard" / "runs.csv"
ENTRIES = PAGE.parent / "leaderboard" / "entries.json"
BEGIN, END = "<!-- leaderboard -->\n", "<!-- end of leaderboard -->\n"
FAR = "rollout"
DRAWS = 2000
"""Draws of seeds for an interval."""

COLUMNS = ("entry", "parameters", "case", "load", "seed", "missed")

Runs = Mapping[tuple[str, str, str], float]
"""Share of missed requests by (case, load, seed)."""


def read_runs() -> dict[str, dict[tuple[str, str, str], float]]:
    """The runs of every entry."""
    found: dict[str, dict[tuple[str, str, str], float]] = {}
    with RUNS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = row["case"], row["load"], row["seed"]
            found.setdefault(row["entry"], {})[place] = float(row["missed"])
    return found


def by_seed(runs: Runs, load: str | None = None) -> list[float]:
    """Mean share of missed requests over all cases and loads (or those at ``load``), seed by seed."""
    seeds = sorted({seed for *_, seed in runs}, key=int)
    return [float(np.mean([v for (_, at, s), v in runs.items() if s == seed and load in (None, at)])) for seed in seeds]


def share(found: Interval, sign: str = "") -> str:
    """A share with its interval over seeds, in %."""
    half = math.nan if found.half is None else found.half
    return f"{100 * found.mean:{sign}.2f} ± {100 * half:.2f}"


def table() -> str:
    """The leaderboard: fewest missed requests first."""
    runs, entries = read_runs(), json.loads(ENTRIES.read_text(encoding="utf-8"))
    if set(runs) != set(entries):
        raise SystemExit(f"{RUNS.name} and {ENTRIES.name} do not hold the same entries: {set(runs) ^ set(entries)}.")
    places = set(next(iter(runs.values())))
    if any(set(own) != places for own in runs.values()):
        raise SystemExit(f"{RUNS.name}: the entries have not played the same cases, loads and seeds.")
    loads = sorted({load for _, load, _ in places}, key=float)
    order = sorted(runs, key=lambda name: float(np.mean(by_seed(runs[name]))))
    best = next(name for name in order if entries[name]["kind"] == "heuristic")
    top = by_seed(runs[best])
    heads = [f"load {load}" for load in loads]
    lines = [f"| | entry | kind | missed, % | {' | '.join(heads)} | against `{best}`, points | ms | CPU-hours |"]
    lines.append("|---" * (7 + len(loads)) + "|")
    for place, name in enumerate(order, start=1):
        own, about = by_seed(runs[name]), entries[name]
        gap = interval([a - b for a, b in zip(own, top, strict=True)])
        parts = [f"{100 * np.mean(by_seed(runs[name], load)):.2f}" for load in loads]
        against = "" if name == best else share(gap, "+")
        lines.append(
            f"| {place} | `{name}` | {about['kind']} | {share(interval(own))} | {' | '.join(parts)} | {against} | "
            f"{about['ms']:g} | {about['cpu_hours']:g} |"
        )
    return "\n".join(lines) + "\n"


def closed(best: Runs, far: Runs, own: Runs, load: str | None) -> str:
    """The share, in %, of the gap from ``best`` to ``far`` that ``own`` closes, with the 95 % interval over seeds."""
    parts = np.array([by_seed(runs, load) for runs in (best, far, own)])
    rng = np.random.default_rng(0)
    drawn = parts[:, rng.integers(0, parts.shape[1], (DRAWS, parts.shape[1]))].mean(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(100 * (drawn[0] - drawn[2]) / (drawn[0] - drawn[1]), (0.025, 0.975))
    mean = parts.mean(axis=1)
    return f"{100 * (mean[0] - mean[2]) / (mean[0] - mean[1]):.0f} ({low:.0f} to {high:.0f})"


def gap_table() -> str:
    """How much of the gap from the best heuristic to `rollout` the trained entries close."""
    runs, entries = read_runs(), json.loads(ENTRIES.read_text(encoding="utf-8"))
    heuristics = [name for name in runs if entries[name]["kind"] == "heuristic"]
    best = min(heuristics, key=lambda name: float(np.mean(by_seed(runs[name]))))
    loads: list[str | None] = [None, *sorted({load for _, load, _ in runs[best]}, key=float)]
    heads = ["all loads", *(f"load {load}" for load in loads[1:])]
    lines = [f"| of the gap from `{best}` to `{FAR}`, % | {' | '.join(heads)} |", "|---" * (1 + len(loads)) + "|"]
    gaps = [
        interval([a - b for a, b in zip(by_seed(runs[best], at), by_seed(runs[FAR], at), strict=True)]) for at in loads
    ]
    lines.append(f"| the gap itself, points | {' | '.join(share(gap) for gap in gaps)} |")
    for name in sorted(name for name in runs if entries[name]["cpu_hours"] > 0):
        parts = [closed(runs[best], runs[FAR], runs[name], load) for load in loads]
        lines.append(f"| `{name}` closes | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def add(folder: Path, policy: str) -> None:
    """Take over the runs of ``policy`` from a benchmark's folder."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["policy"] == policy]
    if not rows:
        raise SystemExit(f"{folder / 'results.csv'} has no runs of {policy}.")
    kept: list[list[str]] = []
    if RUNS.exists():
        with RUNS.open(newline="", encoding="utf-8") as file:
            kept = [list(row.values()) for row in csv.DictReader(file) if row["entry"] != policy]
    missed = [f"{1.0 - float(row['slo_attainment']):.9g}" for row in rows]
    new = [[policy, r["parameters"], r["case"], r["load"], r["seed"], m] for r, m in zip(rows, missed, strict=True)]
    with RUNS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(kept + new)])


def main(arguments: Sequence[str]) -> int:
    """Write the table, check it, or take over a policy first; returns the exit code."""
    if arguments[:1] == ["--add"] and len(arguments) == 3:
        add(Path(arguments[1]), arguments[2])
    elif list(arguments) not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    return write_or_check(
        PAGE, with_part(PAGE, BEGIN, END, f"{table()}\n{gap_table()}"), list(arguments) == ["--check"]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
