"""Speed, as ratios in one run: ``make bench``, or ``python eval/bench.py --help``.

Figures are per CPU-second of one core (``process_time``), the best of several repeats, so that other load on the
machine counts little; only what runs in processes of its own is wall time.  Nothing is asserted.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from llmsched.eval.cli.frame import plain_parser
from llmsched.eval.runs.machine import processor
from llmsched.eval.speed import decision, env, kernel, limits, process, train
from llmsched.eval.speed.table import SpeedRow, table_text
from llmsched_env.commands.parser import OneLineParser
from llmsched_env.commands.process import run_guarded
from llmsched_env.commands.terminal import say, show
from llmsched_env.files.writing import check_file, write_text

PROGRAM = "bench.py"
GROUPS = ("limits", "kernel", "continuous", "decision", "cache", "stream", "env", "train", "compare", "import")
LANES_OF_LIMITS = 10_000
"""Lanes whose memory is measured."""
HUNDRED_MILLION = 100_000_000


def machine() -> dict[str, str | int]:
    """The machine and the versions of a measurement."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "gymnasium")}
    return {"processor": processor(), "cores": cores, "python": platform.python_version(), **versions}


def in_words(about: Mapping[str, str | int]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "numpy", "numba", "gymnasium"))
    return f"{about['processor']}, {about['cores']} cores; {versions}"


def parser() -> OneLineParser:
    """The options."""
    found = plain_parser(PROGRAM, "Measure speed, beside anchors in the same run.")
    add = found.add_argument
    add("--only", default=",".join(GROUPS), metavar="LIST", help=f"groups of rows: some of {', '.join(GROUPS)}")
    add("--requests", type=int, default=1_000_000, help="requests of a run of the kernel")
    add("--repeats", type=int, default=5, help="measurements of a row; the best counts")
    add("--seconds", type=float, default=2.0, help="CPU time of a window of environment steps")
    add("--lanes", type=int, default=1024, help="lanes of the vector environments")
    add("--stream", type=int, default=5_000_000, metavar="N", help="requests of the streamed run")
    add("--hashed-trace", metavar="FILE", help="a trace with hash_ids: a row of the prefix cache for it too")
    add("--hundred-million", action="store_true", help="stream 100 million requests instead")
    add("--json", metavar="FILE", help="write the figures as JSON too")
    return found


def measure(argv: list[str]) -> int:
    """Measure the groups asked for, print the table; return the exit code."""
    options_parser = parser()
    options = options_parser.read(argv)
    wanted = options.only.split(",")
    for name in wanted:
        if name not in GROUPS:
            options_parser.error(f"--only {name!r} is not known: choose some of {', '.join(GROUPS)}.")
    if min(options.requests, options.repeats, options.lanes, options.stream) < 1 or not options.seconds > 0:
        options_parser.error("--requests, --repeats, --seconds, --lanes and --stream must be above 0.")
    streamed = HUNDRED_MILLION if options.hundred_million else options.stream
    groups: dict[str, Callable[[], list[SpeedRow]]] = {
        "limits": lambda: limits.measure(options.repeats, options.requests, LANES_OF_LIMITS),
        "kernel": lambda: kernel.measure(options.requests, options.repeats),
        "continuous": lambda: kernel.measure_continuous(options.requests, options.repeats),
        "decision": lambda: decision.measure(options.repeats),
        "cache": lambda: kernel.measure_cache(options.requests, options.repeats, options.hashed_trace),
        "stream": lambda: process.measure_stream(streamed),
        "env": lambda: env.measure(options.seconds, options.repeats, options.lanes),
        "train": lambda: train.measure(5.0 * options.seconds),
        "compare": process.measure_compare,
        "import": process.measure_import,
    }
    if options.json:
        check_file(Path(options.json), "--json")
    about, rows = machine(), []
    for name in GROUPS:
        if name in wanted:
            say(f"{PROGRAM}: measuring {name} ...")
            rows += groups[name]()
    if options.json:
        found = {"machine": about, "rows": [row.as_dict() for row in rows]}
        write_text(Path(options.json), json.dumps(found, indent=1) + "\n")
    show(f"{in_words(about)}\n\n{table_text(rows)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); return the exit code."""
    return run_guarded(PROGRAM, measure, argv)
