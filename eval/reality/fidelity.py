"""Does the simulator predict a real run?  ``python eval/fidelity.py --profile measure --model tiny``

Runs a short workload in real batches of a real model on this device, several times, and in the simulator with the
profile of the same model on the same device; prints predicted against measured.  Rules: docs/results/fidelity.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.calibration import campaign, document, settings
from llmsched.eval.calibration.cells import grid
from llmsched.eval.calibration.fit import fit_all, scatter
from llmsched.eval.calibration.rows import RowFile
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number
from llmsched.eval.figures import style
from llmsched.eval.figures.fidelity import LatencyCurves, draw_latencies
from llmsched.eval.reality.fidelity_replay import (
    METRICS,
    Lengths,
    ServedBatch,
    capacity,
    draw_requests,
    metrics_of,
    record_batches,
    replay,
    service_errors,
    simulate_replay,
)
from llmsched.eval.reality.fidelity_report import LoadResult, ServiceError, metric_lines, table_text
from llmsched_env.files.writing import check_file
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests

if TYPE_CHECKING:
    from llmsched.eval.calibration.device.bench import Bench
    from llmsched.eval.calibration.device.quiet import Undisturbed

MEASURE = "measure"
"""The value of --profile that has the profile measured by the command itself."""

ROUNDS = 1
"""Rounds of the grid after every real run, where the profile is measured by the command itself."""

SIMULATIONS = 21
"""Simulated runs of a load where the profile has noise; their medians are the prediction."""

WORKLOAD, CAPACITY = 1, 2
"""Streams of random numbers."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of calibrate.py that describe the model and its device, and those of the comparison."""
    add: Callable[..., Any] = parser.add_argument
    add("--profile", default=MEASURE, metavar="NAME|FILE", help="of this model and device; measure: by this command")
    settings.add_model_options(add)
    add("--loads", type=loads, default=(0.5, 0.8), metavar="LIST", help="shares of capacity (default 0.5,0.8)")
    add("--requests", type=number(10, 1e6, whole=True), default=150, metavar="N", help="requests per run")
    add("--batch", type=number(1, 1024, whole=True), default=8, metavar="B", help="largest batch (default 8)")
    add("--repeats", type=number(2, 1000, whole=True), default=7, metavar="N", help="real runs per load (default 7)")
    add("--prompt", type=number(4, 1e6), default=48, metavar="N", help="median prompt, tokens")
    add("--output", type=number(4, 1e6), default=48, metavar="N", help="median output, tokens")
    add("--longest", type=number(4, 1e6, whole=True), default=256, metavar="N", help="longest prompt and output")
    add("--seed", type=number(0, 2**32 - 1, whole=True), default=0, metavar="S", help="of the workload")
    add("--plot", type=Path, metavar="FILE", help="write a picture of the latencies")
    add("--out", metavar="DIR", help="write summary.json and manifest.json there")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")


def loads(text: str) -> tuple[float, ...]:
    """Shares of the capacity such as ``0.5,0.8``."""
    return tuple(number(0, 2, above=True)(part) for part in text.split(","))


@dataclass
class RealServer:
    """The real server of this command, its options, and the samples of its profile where that is measured here."""

    options: argparse.Namespace
    bench: Bench
    measurer: Undisturbed
    rows: RowFile | None = None
    rounds: int = 0

    def calibrate(self) -> None:
        """Measure ROUNDS more rounds of the grid; none where the profile was given."""
        if self.rows is not None:
            self.rounds += ROUNDS
            campaign.run(self._plan(), self.rows, self.measurer)

    def profile(self) -> Profile:
        """The given profile, or the best fit to all rounds so far."""
        if self.rows is None:
            return load_profile(self.options.profile)
        found = campaign.measurements(self._plan(), self.rows.rows)
        points = {m.cell: float(np.mean(m.samples)) for m in found if m.samples}  # the mean: a queue depends on it
        best, sigma = fit_all(points)[0], scatter([m.samples for m in found])
        return Profile(MEASURE, best.form, best.coefficients, float("inf"), noise_sigma=sigma)

    def _plan(self) -> campaign.MeasurementPlan:
        kind = settings.GRIDS[self.bench.device.type]
        cells = grid(
            kind["batches"], kind["prompts"], kind["contexts"], settings.MOST_PREFILL_TOKENS[self.bench.device.type]
        )
        return campaign.MeasurementPlan(cells, self.rounds, most_cv=float("inf"))

    def requests(self, load: float, profile: Profile) -> tuple[float, Requests]:
        """The rate of a load in requests/s, and its requests."""
        options = self.options
        lengths = Lengths(options.prompt, options.output, most=options.longest)
        whole = capacity(profile, lengths, options.batch, np.random.default_rng([options.seed, CAPACITY]))
        rng = np.random.default_rng([options.seed, WORKLOAD, round(1000 * load)])
        return load * whole, draw_requests(lengths, options.requests, load * whole, rng)


def run_loads(server: RealServer) -> tuple[list[LoadResult], list[LatencyCurves], Profile]:
    """The real runs of every load in turns, with rounds of calibration between them; then the simulator."""
    options = server.options
    server.calibrate()
    first = server.profile()
    work = [server.requests(load, first) for load in options.loads]
    real: list[list[tuple[NDArray, NDArray]]] = [[] for _ in work]
    batches: list[list[ServedBatch]] = [[] for _ in work]
    with Progress("real runs", options.repeats * len(work)) as progress:
        for _ in range(options.repeats):
            for (_, requests), runs, served, load in zip(work, real, batches, options.loads, strict=True):
                runs.append(replay(requests, options.batch, record_batches(server.measurer.serve, served)))
                server.calibrate()
                progress.step(f"load {load:g}")
    profile, results, curves = server.profile(), [], []
    for load, (rate, requests), runs, served in zip(options.loads, work, real, batches, strict=True):
        keys = range(SIMULATIONS if profile.noise_sigma else 1)
        stamps = [simulate_replay(requests, options.batch, profile, key) for key in keys]
        simulated, measured = ([metrics_of(requests, *run) for run in which] for which in (stamps, runs))
        predicted = {name: float(np.median([run[name] for run in simulated])) for name in METRICS}
        size = len(runs) * len(requests) / len(served)
        service = ServiceError.of(service_errors(served, profile))
        lines = metric_lines(predicted, measured)
        results.append(LoadResult(load, rate, len(requests), size, lines, service))
        real_s, simulated_s = ([np.sort(done - requests.arrival_s) for _, done in which] for which in (runs, stamps))
        curves.append(LatencyCurves(real_s, np.median(simulated_s, axis=0)))
    return results, curves, profile


def check(options: argparse.Namespace) -> None:
    """Refuse with ``ValueError`` options that do not fit together, before anything is loaded."""
    missing = [name for name in settings.NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} not installed: pip install torch transformers")
    if options.engine != "eager":
        raise ValueError("--engine cuda-graph is not allowed: batches of mixed lengths are run with eager only.")
    if options.profile != MEASURE:
        load_profile(options.profile)
    if options.plot:
        check_file(options.plot, "--plot")


def check_same_system(name: str, profile: Profile, bench: Bench) -> None:
    """``ValueError`` unless the profile was measured on this model, device, dtype and clock."""
    setup = bench.setup
    for field, here in (("model", setup.model), ("gpu", setup.device), ("dtype", setup.dtype), ("clock", setup.clock)):
        there = profile.meta.get(field)
        if there != here:
            raise ValueError(
                f"--profile {name}: {field}={there!r}, but this run has {here!r}: give its own, or measure."
            )


@dataclass(frozen=True, kw_only=True)
class FidelityFindings(Findings):
    """The findings: ``results`` and ``curves`` by load, how many measurements were ``repeated`` or ``disturbed``."""

    results: Sequence[LoadResult]
    curves: Sequence[LatencyCurves]
    repeated: int
    disturbed: int

    def text(self, notes: Sequence[str]) -> str:
        """The table, and how quiet the machine was."""
        quiet = (
            f"batches and samples taken again because other programs ran beside them: {self.repeated}; "
            f"disturbed ones that counted: {self.disturbed}"
        )
        return "\n".join([self.heading, table_text(self.results), quiet, *notes])

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> dict[str, Any]:
        """The system, its profile, the results by load."""
        return {
            **self.about,
            "taken_again": self.repeated,
            "disturbed": self.disturbed,
            "loads": [result.as_dict() for result in self.results],
        }

    def files(self, rows: Sequence[Any]) -> dict[str, str]:
        """None: real runs leave no rows."""
        return {}

    def write_more(self, options: argparse.Namespace) -> None:
        """The picture."""
        if options.plot:
            title = f"{self.about['model']} on {self.about['device']}: real batches against the simulator"
            style.draw_to(options.plot, lambda: draw_latencies(self.results, self.curves, title))


def find(session: Session) -> Findings:
    """Run for real, simulate, compare."""
    options = session.options
    settings.fill_in(options, engine="eager")
    check(options)
    from llmsched.eval.calibration.device.bench import Bench  # needs torch

    bench = Bench(options)
    given = None if options.profile == MEASURE else load_profile(options.profile)
    if given is not None:
        check_same_system(options.profile, given, bench)
    with tempfile.TemporaryDirectory() as folder:
        rows = RowFile(Path(folder) / "rows.csv", bench.setup) if given is None else None
        measurer = bench.measurer()
        results, curves, profile = run_loads(RealServer(options, bench, measurer, rows))
    about = {
        **{name: getattr(bench.setup, name) for name in ("model", "device", "dtype", "engine", "clock")},
        "profile": profile.name,
        "form": profile.form,
        "noise_sigma": document.figures(profile.noise_sigma, 3),
        "coefficients": {name: document.figures(value) for name, value in profile.coefficients.items()},
        "batch": options.batch,
    }
    return FidelityFindings(
        heading=f"{bench.setup.model} on {bench.setup.device}, clock: {bench.setup.clock}; profile {profile.name}",
        about=about,
        results=results,
        curves=curves,
        repeated=measurer.again,
        disturbed=measurer.disturbed,
    )


EXPERIMENT = Experiment(
    "fidelity.py",
    "Replay a workload in real batches and in the simulator.",
    add_options,
    find,
    plain_parser,
)
