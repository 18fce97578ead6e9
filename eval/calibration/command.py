"""Measure a real model on this device and write a latency profile: ``python data/calibrate.py --model tiny``.

Prefill over batch x prompt and decode over batch x context, in interleaved repeats.  Raw rows go to a CSV file at once
(a restart continues from them), the fit to JSON.  docs/howto/calibration.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from llmsched.eval.calibration import campaign, document, settings
from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell, grid
from llmsched.eval.calibration.fit import fit_all
from llmsched.eval.calibration.report import report
from llmsched.eval.calibration.rows import RowFile
from llmsched.eval.cli.progress import Progress
from llmsched.eval.figures import style
from llmsched.eval.figures.calibration import draw_profile
from llmsched_env.commands.interrupts import heed
from llmsched_env.commands.parser import refuse
from llmsched_env.commands.process import INTERRUPTED, run_guarded
from llmsched_env.commands.terminal import say, show
from llmsched_env.files.writing import check_file, check_folder
from llmsched_env.profiles import load_profile

UNFINISHED = 1
"""Exit code where the budget ended before a fit was possible."""

ENOUGH = 3
"""Least number of samples for a cell to count, where the budget ended before all repeats."""


def plan_of(options: argparse.Namespace) -> campaign.MeasurementPlan:
    """The plan that the options ask for; ``ValueError`` where a phase has no cell."""
    cells = grid(options.batches, options.prompts, options.contexts, options.max_prefill_tokens)
    if not any(cell.phase == PREFILL for cell in cells):
        raise ValueError(
            f"--max-prefill-tokens {options.max_prefill_tokens} is not allowed: the smallest prefill cell has "
            f"{min(options.batches) * min(options.prompts)}."
        )
    return campaign.MeasurementPlan(cells, options.repeats, options.budget, options.max_cv, options.seed)


def usable(plan: campaign.MeasurementPlan, found: Sequence[campaign.Measurement]) -> dict[GridCell, float]:
    """Medians of the cells with enough samples; ``ValueError`` where no cell of a phase fits the memory."""
    for phase in (PREFILL, DECODE):
        own = [m for m in found if m.cell.phase == phase]
        if all(m.out_of_memory for m in own):
            raise ValueError(
                f"not enough memory for a single {phase} cell: the smallest was {own[0].cell}. Give smaller --batches "
                f"or {'--prompts' if phase == PREFILL else '--contexts'}, or a smaller model, and another --rows."
            )
    return {m.cell: m.ms for m in found if len(m.samples) >= min(ENOUGH, plan.repeats)}


def measure(plan: campaign.MeasurementPlan, file: RowFile, measurer: campaign.Measurer) -> None:
    """Run the campaign under a progress bar."""
    with Progress("measuring", campaign.left(plan, file.rows)) as progress:
        campaign.run(plan, file, measurer, progress.step)


def calibrate(options: argparse.Namespace) -> int:
    """Measure, fit, write, print; the exit code."""
    from llmsched.eval.calibration.device.bench import Bench  # needs torch

    plan = plan_of(options)
    for option in ("out", "rows", "figure"):
        if getattr(options, option) is not None:
            check_folder(getattr(options, option).parent, f"--{option}")
            if os.path.lexists(getattr(options, option)):
                check_file(getattr(options, option), f"--{option}")
    bench = Bench(options)
    out = options.out or Path("data/profiles") / f"{bench.name}.json"
    file = RowFile(options.rows or document.rows_path(out), bench.setup)
    show(
        f"{bench.setup.model} in {bench.setup.dtype} on {bench.setup.device}: {len(plan.cells)} cells x {plan.repeats}"
    )
    if file.rows:
        show(f"continuing from {len(file.rows)} rows of {file.path}")
    measurer = bench.measurer()
    try:
        measure(plan, file, measurer)
    except KeyboardInterrupt:
        heed()
        show(f"{settings.PROGRAM}: interrupted; {file.path} has all samples, the same command continues from it")
        return INTERRUPTED
    found = campaign.measurements(plan, file.rows)
    points, floors = usable(plan, found), bench.floors(plan.cells)
    try:
        fits = fit_all(points)
    except ValueError as error:
        say(f"{settings.PROGRAM}: {error} The same command continues from {file.path}")
        return UNFINISHED
    profile = document.document(out.stem, bench.setup, fits, found, bench.about(plan, out, file.path))
    document.write(out, profile)
    show(report(found, fits, floors, bench.bandwidth))
    if measurer.again or measurer.disturbed:
        show(
            f"other programs ran: {measurer.again} samples were repeated, {measurer.disturbed} disturbed ones count "
            "(--patience)"
        )
    show(f"profile {out}, raw rows {file.path}; use it: python eval/compare.py --profile {out}")
    if options.figure:
        style.draw_to(options.figure, lambda: draw_profile(load_profile(out), file.rows))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    return run_guarded(settings.PROGRAM, run, argv)


def run(argv: Sequence[str]) -> int:
    """Calibrate as the arguments ``argv`` say."""
    options = settings.read(argv)
    missing = [name for name in settings.NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        refuse(settings.PROGRAM, f"{' and '.join(missing)} not installed: pip install torch transformers")
    try:
        return calibrate(options)
    except ValueError as error:
        refuse(settings.PROGRAM, str(error))
