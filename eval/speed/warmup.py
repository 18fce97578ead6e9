"""Compile ahead what first use would compile: ``llmsched warmup``, ``python eval/warmup.py``.

A comparison needs the run of its engine, an environment the step of its engine; both need a few small functions.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence

from llmsched.eval.cli.frame import plain_parser
from llmsched_env.commands.process import run_guarded
from llmsched_env.commands.terminal import say, show

PROGRAM = "warmup.py"
ENGINES = ("batch", "continuous")
SMALL = tuple(
    f"llmsched_env.{name}" for name in ("core.load", "simulation.metrics", "workload.arrivals", "workload.lengths")
)
"""Modules with what every use needs."""

PARTS = {"comparisons": "run", "environments": "step"}
"""What needs which compiled entry of an engine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, and print what took how long; returns the exit code."""
    return run_guarded(PROGRAM, compile_ahead, argv)


def compile_ahead(argv: Sequence[str]) -> int:
    """Compile what the arguments ``argv`` ask for."""
    parser = plain_parser(PROGRAM, "compile now what first use would compile; the result is kept on disk")
    add = parser.add_argument
    add("--engine", choices=(*ENGINES, "both"), default="batch", help="the engine (default batch)")
    add("--for", dest="use", choices=(*PARTS, "both"), default="both", help="what it is used for (default both)")
    options = parser.read(argv)
    began = time.monotonic()
    for name in SMALL:
        importlib.import_module(name)
    for engine in ENGINES if options.engine == "both" else (options.engine,):
        for use in PARTS if options.use == "both" else (options.use,):
            clock = time.monotonic()
            say(f"{PROGRAM}: engine {engine}, {use} ...")
            importlib.import_module(f"llmsched_env.engines.{engine}.{PARTS[use]}")
            show(f"engine {engine}, {use}: ready after {time.monotonic() - clock:.1f} s")
    show(f"ready after {time.monotonic() - began:.1f} s in all")
    return 0
