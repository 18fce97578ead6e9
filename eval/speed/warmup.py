"""Compile ahead what first use would compile: ``llmsched warmup``, ``python eval/warmup.py``.

A comparison needs the run of its engine, an environment the step of its engine, a routing policy and its environment
entries of their own, the search for the best plan others; all need a few small functions.  Each compiled entry is made
in a process of its own, several at a time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from llmsched.eval.cli.frame import plain_parser
from llmsched.eval.cli.options import cores
from llmsched.eval.cli.readers import number
from llmsched_env.commands.process import run_guarded
from llmsched_env.commands.terminal import say, show
from llmsched_env.compiler.beside import ALONE
from llmsched_env.envs.first_use import compile_small

PROGRAM = "warmup.py"
ENGINES = ("batch", "continuous")
ENTRIES = {
    ("continuous", "comparisons"): ("llmsched_env.engines.continuous.run",),
    ("continuous", "environments"): ("llmsched_env.engines.continuous.step",),
    ("continuous", "routing"): (
        "llmsched_env.engines.continuous.routing.run",
        "llmsched_env.engines.continuous.routing.step",
    ),
    ("batch", "comparisons"): ("llmsched_env.engines.batch.run",),
    ("batch", "environments"): ("llmsched_env.engines.batch.step",),
    ("batch", "optimum"): ("llmsched.eval.best_possible.plan_search",),
}
"""Modules with the compiled entries of a use, the slowest first."""

USES = ("comparisons", "environments", "routing", "optimum")
BOTH = ("comparisons", "environments")

CHILD = """
import importlib, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
importlib.import_module(sys.argv[1])
"""
"""What a process of its own does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, and print what took how long; returns the exit code."""
    return run_guarded(PROGRAM, compile_ahead, argv)


def options_from(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments ``argv``, read."""
    parser = plain_parser(PROGRAM, "compile now what first use would compile; the result is kept on disk")
    add = parser.add_argument
    add("--engine", choices=(*ENGINES, "both"), default="batch", help="the engine (default batch)")
    add(
        "--for",
        dest="use",
        choices=(*USES, "both", "all"),
        default="both",
        help="what it is used for (default both: comparisons and environments); an engine without that use is left out",
    )
    add("--jobs", type=number(1, 1024, whole=True), default=cores(), metavar="N", help="at a time (default: the cores)")
    return parser.read(argv)


def compile_ahead(argv: Sequence[str]) -> int:
    """Compile what the arguments ``argv`` ask for."""
    options = options_from(argv)
    began = time.monotonic()
    engines = ENGINES if options.engine == "both" else (options.engine,)
    uses = {"both": BOTH, "all": USES}.get(options.use, (options.use,))
    found = [modules for (engine, use), modules in ENTRIES.items() if engine in engines and use in uses]
    chosen = [module for modules in found for module in modules]
    os.environ[ALONE] = "1"  # the processes are those below
    compile_small()
    if len(chosen) == 1 or options.jobs == 1:
        for module in chosen:
            clock = time.monotonic()
            say(f"{PROGRAM}: {title(module)} ...")
            importlib.import_module(module)
            show(f"{title(module)}: ready after {time.monotonic() - clock:.1f} s")
    else:
        compile_side_by_side(chosen, options.jobs)
    show(f"ready after {time.monotonic() - began:.1f} s in all")
    return 0


def title(module: str) -> str:
    """The entry of a module in words: its name below the package and ``engines``."""
    return module.removeprefix("llmsched.eval.").removeprefix("llmsched_env.").removeprefix("engines.")


def compile_side_by_side(modules: Sequence[str], jobs: int) -> None:
    """Import every module in a process of its own, ``jobs`` at a time.  ``ValueError`` where one fails."""
    waiting, running = list(modules), list[Compilation]()
    with ExitStack() as files:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    say(f"{PROGRAM}: {title(waiting[0])} ...")
                    running.append(Compilation(waiting.pop(0), files.enter_context(tempfile.TemporaryFile())))
                time.sleep(0.1)
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    show(each.result())
        finally:
            for each in running:
                each.process.kill()
                each.process.wait()


class Compilation:
    """A process that imports ``module``; ``said``: the file of what it says."""

    def __init__(self, module: str, said: IO[bytes]) -> None:
        self.module, self.said, self.began = module, said, time.monotonic()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        command = [sys.executable, "-c", CHILD, module]
        self.process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)

    def result(self) -> str:
        """A line, once the process has ended.  ``ValueError`` where it failed."""
        if self.process.returncode:
            self.said.seek(0)
            lines = self.said.read().decode("utf-8", "replace").strip().splitlines()
            why = lines[-1] if lines else f"exit code {self.process.returncode}"
            raise ValueError(f"{title(self.module)} was not compiled: {why}")
        return f"{title(self.module)}: ready after {time.monotonic() - self.began:.1f} s"
