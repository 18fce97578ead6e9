"""Speed, as ratios in one run: ``make bench``, or ``python eval/bench.py --help``.

Figures are per CPU-second of one core (``process_time``), the best of several repeats, so that other load on the
machine counts little; only what runs in processes of its own is wall time.  Nothing is asserted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata

from llmsched.eval.cli.parser import OneLineParser
from llmsched.eval.speed import env, kernel, process, train
from llmsched.eval.speed.table import Row, table

PROGRAM = "bench.py"
GROUPS = ("kernel", "continuous", "stream", "env", "train", "compare", "import")
HUNDRED_MILLION = 100_000_000


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "gymnasium")}
    return {"processor": processor(), "cores": cores, "python": platform.python_version(), **versions}


def in_words(about: Mapping[str, str | int]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "numpy", "numba", "gymnasium"))
    return f"{about['processor']}, {about['cores']} cores; {versions}"


def parser() -> OneLineParser:
    """The options."""
    made = OneLineParser(prog=PROGRAM, description="Measure speed, beside anchors in the same run.", allow_abbrev=False)
    made.add_argument("--only", default=",".join(GROUPS), metavar="LIST", help=f"some of {', '.join(GROUPS)}")
    made.add_argument("--requests", type=int, default=1_000_000, help="requests of a run of the kernel")
    made.add_argument("--repeats", type=int, default=5, help="the best of so many counts")
    made.add_argument("--seconds", type=float, default=2.0, help="CPU time of a window of environment steps")
    made.add_argument("--lanes", type=int, default=1024, help="lanes of the vector environments")
    made.add_argument("--stream", type=int, default=5_000_000, metavar="N", help="requests of the streamed run")
    made.add_argument("--hundred-million", action="store_true", help="stream 100 million requests instead")
    made.add_argument("--json", metavar="FILE", help="write the figures there too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print the table, return the exit status."""
    made = parser()
    options = made.read(argv)
    wanted = options.only.split(",")
    for name in wanted:
        if name not in GROUPS:
            made.error(f"--only {name!r} is not known: choose some of {', '.join(GROUPS)}.")
    if min(options.requests, options.repeats, options.lanes, options.stream) < 1 or not options.seconds > 0:
        made.error("--requests, --repeats, --seconds, --lanes and --stream must be above 0.")
    streamed = HUNDRED_MILLION if options.hundred_million else options.stream
    groups: dict[str, Callable[[], list[Row]]] = {
        "kernel": lambda: kernel.measure(options.requests, options.repeats),
        "continuous": lambda: kernel.measure_continuous(options.requests, options.repeats),
        "stream": lambda: process.measure_stream(streamed),
        "env": lambda: env.measure(options.seconds, options.repeats, options.lanes),
        "train": lambda: train.measure(5.0 * options.seconds),
        "compare": process.measure_compare,
        "import": process.measure_import,
    }
    about, rows = machine(), []
    for name in GROUPS:
        if name in wanted:
            print(f"{PROGRAM}: measuring {name} ...", file=sys.stderr, flush=True)
            rows += groups[name]()
    print(f"{in_words(about)}\n\n{table(rows)}")
    if options.json:
        found = {"machine": about, "rows": [row.as_dict() for row in rows]}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
