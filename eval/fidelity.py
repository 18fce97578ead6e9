"""Does the simulator predict a real run?  ``python eval/fidelity.py --profile measure --model tiny``

Runs a short workload in real batches of a real model on this device, several times, and in the simulator with the
profile of the same model on the same device; prints predicted against measured.
docs/results/fidelity.md has the rules.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python still imports: leave without a traceback
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.calibration import campaign, document, settings
from llmsched.eval.calibration.cells import grid
from llmsched.eval.calibration.fit import fit_all, scatter
from llmsched.eval.calibration.rows import RowFile
from llmsched.eval.cli.parser import OneLineParser, refuse
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number
from llmsched.eval.figures import fidelity_figure
from llmsched.eval.reality.fidelity_replay import (
    METRICS,
    Batch,
    Lengths,
    capacity,
    draw_requests,
    measures,
    recording,
    replay,
    service_errors,
    simulated,
)
from llmsched.eval.reality.fidelity_report import LoadResult, ServiceError, lines_of, table
from llmsched.eval.report import artefacts
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests

if TYPE_CHECKING:
    from llmsched.eval.calibration.bench import Bench
    from llmsched.eval.calibration.quiet import Undisturbed

PROGRAM = "fidelity.py"
INTERRUPTED = 130
MEASURE = "measure"
ROUNDS = 1
"""Rounds of the grid after every real run, where the profile is measured in the same command."""

SIMULATIONS = 21
"""Simulated runs of a load where the profile has noise; their medians are the prediction."""

WORKLOAD, CAPACITY = 1, 2
"""Streams of random numbers."""


def parser() -> OneLineParser:
    """The options of calibrate.py that describe the model and its device, and those of the comparison."""
    made = OneLineParser(prog=PROGRAM, description="Replay a workload in real batches and in the simulator.")
    add: Callable[..., Any] = made.add_argument
    add("--profile", default=MEASURE, metavar="NAME|FILE", help="of this model here; measure: in this very command")
    settings.add_model_options(add)
    add("--loads", type=loads, default=(0.5, 0.8), metavar="LIST", help="shares of capacity (default 0.5,0.8)")
    add("--requests", type=number(10, 1e6, whole=True), default=150, metavar="N", help="requests per run")
    add("--batch", type=number(1, 1024, whole=True), default=8, metavar="B", help="largest batch (default 8)")
    add("--repeats", type=number(2, 1000, whole=True), default=7, metavar="N", help="real runs per load (default 7)")
    add("--prompt", type=number(4, 1e6), default=48, metavar="N", help="median prompt, tokens")
    add("--output", type=number(4, 1e6), default=48, metavar="N", help="median output, tokens")
    add("--longest", type=number(4, 1e6, whole=True), default=256, metavar="N", help="longest prompt and output")
    add("--seed", type=number(0, 2**32 - 1, whole=True), default=0, metavar="S", help="of the workload")
    add("--plot", type=Path, metavar="FILE", help="picture of the latencies")
    add("--out", metavar="DIR", help="leave summary.json and manifest.json there")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")
    return made


def loads(text: str) -> tuple[float, ...]:
    """Shares of the capacity such as ``0.5,0.8``."""
    return tuple(number(0, 2, above=True)(part) for part in text.split(","))


@dataclass
class Session:
    """The real server of this command, its options, and the samples of its profile where that is measured here."""

    options: argparse.Namespace
    bench: Bench
    measurer: Undisturbed
    rows: RowFile | None = None
    rounds: int = 0

    def calibrate(self) -> None:
        """Some more rounds of the grid (none where the profile was given)."""
        if self.rows is not None:
            self.rounds += ROUNDS
            campaign.run(self._plan(), self.rows, self.measurer)

    def profile(self) -> Profile:
        """The profile given, or the best fit to all rounds so far."""
        if self.rows is None:
            return load_profile(self.options.profile)
        found = campaign.measured(self._plan(), self.rows.rows)
        points = {m.cell: float(np.mean(m.samples)) for m in found if m.samples}  # a queue feels the mean
        best, sigma = fit_all(points)[0], scatter([m.samples for m in found])
        return Profile(MEASURE, best.form, best.coefficients, float("inf"), noise_sigma=sigma)

    def _plan(self) -> campaign.Plan:
        kind = settings.GRIDS[self.bench.device.type]
        cells = grid(
            kind["batches"], kind["prompts"], kind["contexts"], settings.MOST_PREFILL_TOKENS[self.bench.device.type]
        )
        return campaign.Plan(cells, self.rounds, most_cv=float("inf"))

    def requests(self, load: float, profile: Profile) -> tuple[float, Requests]:
        """The rate of a load, and its requests."""
        options = self.options
        lengths = Lengths(options.prompt, options.output, most=options.longest)
        whole = capacity(profile, lengths, options.batch, np.random.default_rng([options.seed, CAPACITY]))
        rng = np.random.default_rng([options.seed, WORKLOAD, round(1000 * load)])
        return load * whole, draw_requests(lengths, options.requests, load * whole, rng)


def run(session: Session) -> tuple[list[LoadResult], list[fidelity_figure.Curves], Profile]:
    """The real runs of every load in turns, with rounds of calibration between them; then the simulator."""
    options = session.options
    session.calibrate()
    first = session.profile()
    work = [session.requests(load, first) for load in options.loads]
    real: list[list[tuple[NDArray, NDArray]]] = [[] for _ in work]
    batches: list[list[Batch]] = [[] for _ in work]
    with Progress("real runs", options.repeats * len(work)) as progress:
        for _ in range(options.repeats):
            for (_, requests), runs, kept, load in zip(work, real, batches, options.loads, strict=True):
                runs.append(replay(requests, options.batch, recording(session.measurer.serve, kept)))
                session.calibrate()
                progress.step(f"load {load:g}")
    profile, results, curves = session.profile(), [], []
    for load, (rate, requests), runs, kept in zip(options.loads, work, real, batches, strict=True):
        keys = range(SIMULATIONS if profile.noise_sigma else 1)
        stamps = [simulated(requests, options.batch, profile, key) for key in keys]
        drawn, taken = ([measures(requests, *run) for run in which] for which in (stamps, runs))
        lines = lines_of({name: float(np.median([run[name] for run in drawn])) for name in METRICS}, taken)
        size = len(runs) * len(requests) / len(kept)
        service = ServiceError.of(service_errors(kept, profile))
        results.append(LoadResult(load, rate, len(requests), size, lines, service))
        real_s, simulated_s = ([np.sort(done - requests.arrival_s) for _, done in which] for which in (runs, stamps))
        curves.append(fidelity_figure.Curves(real_s, np.median(simulated_s, axis=0)))
    return results, curves, profile


def checked(options: argparse.Namespace) -> None:
    """Refuse with ``ValueError`` what does not fit together, before anything is loaded."""
    if options.engine != "eager":
        raise ValueError("--engine cuda-graph is not allowed: batches of mixed lengths are run with eager only.")
    if options.profile != MEASURE:
        load_profile(options.profile)
    if options.out:
        artefacts.prepare(Path(options.out))


def same_thing(name: str, profile: Profile, bench: Bench) -> None:
    """``ValueError`` unless the profile was measured on this model, device, dtype and clock."""
    setup = bench.setup
    for field, here in (("model", setup.model), ("gpu", setup.device), ("dtype", setup.dtype), ("clock", setup.clock)):
        there = profile.meta.get(field)
        if there != here:
            raise ValueError(
                f"--profile {name}: {field}={there!r}, but this run has {here!r}: give its own, or measure."
            )


def fidelity(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run, print, keep; the exit code."""
    began, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    checked(options)
    from llmsched.eval.calibration.bench import Bench  # needs torch

    bench = Bench(options)
    given = None if options.profile == MEASURE else load_profile(options.profile)
    if given is not None:
        same_thing(options.profile, given, bench)
    with tempfile.TemporaryDirectory() as folder:
        rows = RowFile(Path(folder) / "rows.csv", bench.setup) if given is None else None
        measurer = bench.measurer()
        results, curves, profile = run(Session(options, bench, measurer, rows))
    summary = {
        **{name: getattr(bench.setup, name) for name in ("model", "device", "dtype", "engine", "clock")},
        "profile": profile.name,
        "form": profile.form,
        "noise_sigma": document.figures(profile.noise_sigma, 3),
        "coefficients": {name: document.figures(value) for name, value in profile.coefficients.items()},
        "batch": options.batch,
        "taken_again": measurer.again,
        "disturbed": measurer.disturbed,
        "loads": [result.as_dict() for result in results],
    }
    if options.json:
        print(artefacts.as_json(summary))
    else:
        print(f"{bench.setup.model} on {bench.setup.device}, clock: {bench.setup.clock}; profile {profile.name}")
        print(table(results))
        print(
            f"batches and samples taken again because other programs ran beside them: {measurer.again}; "
            f"disturbed ones that counted: {measurer.disturbed}"
        )
    if options.plot:
        title = f"{bench.setup.model} on {bench.setup.device}: real batches against the simulator"
        fidelity_figure.draw(results, curves, title, options.plot)
    if options.out:
        out, command = Path(options.out), ["python", "eval/fidelity.py", *argv]
        artefacts.write_text(out / "summary.json", artefacts.as_json(summary) + "\n")
        about = artefacts.manifest(command, [options.seed], began, time.monotonic() - clock)
        artefacts.write_text(out / "manifest.json", artefacts.as_json(about) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    made = parser()
    options = settings.completed(made, made.read(arguments), engine="eager")
    missing = [name for name in settings.NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        refuse(PROGRAM, f"{' and '.join(missing)} not installed: pip install 'llmsched[calibrate]'")
    try:
        return fidelity(options, arguments)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before the runs had finished", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
