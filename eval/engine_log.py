"""Does the continuous engine predict a real one?  ``python eval/engine_log.py --folder DIR [--test-folder DIR]``

Fits a latency profile and the client's offset on the runs of a real server's log, and predicts runs that the fit has
not seen: those of a second folder, or each run of the first from the others.  docs/results/engine_log.md has the rules.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llmsched.eval.cli.command import guarded, run_and_exit
from llmsched.eval.cli.parser import OneLineParser, refuse
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number, read_kv_tokens
from llmsched.eval.figures import comparison, engine_log_figure
from llmsched.eval.reality.log_data import Run, read_runs
from llmsched.eval.reality.log_fit import Coefficients, Engine, fit
from llmsched.eval.reality.log_report import Prediction, Summary, table
from llmsched.eval.report import artefacts, tables
from llmsched.eval.report.textual import folded
from llmsched_env.options.words import MAX_BATCH_LIMIT
from llmsched_env.profiles import SCHEMA, UNITS

PROGRAM = "engine_log.py"


def parser() -> OneLineParser:
    """The folders, the settings of the logged server, and what to leave."""
    made = OneLineParser(prog=PROGRAM, description="Fit a profile on a real server's log and predict unseen runs.")
    add, engine = made.add_argument, Engine()
    add("--folder", type=Path, required=True, metavar="DIR", help="CSV files of the runs to fit on")
    add("--test-folder", type=Path, metavar="DIR", help="runs to predict (default: each run of --folder from the rest)")
    seqs = number(1, MAX_BATCH_LIMIT, whole=True)
    add("--max-seqs", type=seqs, default=engine.max_seqs, metavar="N", help="sequences at once (256)")
    budget = number(1, math.inf)
    add("--token-budget", type=budget, default=engine.token_budget, metavar="N", help="tokens of an iteration (512)")
    kv_help = "KV memory of the server (580512)"
    add("--kv-tokens", type=read_kv_tokens, default=engine.kv_tokens, metavar="N|inf", help=kv_help)
    add("--write-profile", type=Path, metavar="FILE", help="the profile fitted on all of --folder, for --profile")
    add("--plot", type=Path, metavar="FILE", help="picture of the distributions")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")
    return made


def predictions(
    runs: Sequence[Run], unseen: Sequence[Run] | None, engine: Engine
) -> tuple[Coefficients, list[Prediction]]:
    """The coefficients fitted on all ``runs``, and the ``unseen`` ones predicted (None: each from the others)."""
    with Progress("fits", 1 if unseen is not None else 1 + len(runs)) as progress:
        found = fit(runs, engine)
        progress.step("all runs")
        if unseen is not None:
            return found, [Prediction.of(run, found, runs, engine) for run in unseen]
        made = []
        for run in runs:
            others = [other for other in runs if other is not run]
            made.append(Prediction.of(run, fit(others, engine), others, engine))
            progress.step(f"without {run.label}")
    return found, made


def profile_json(found: Coefficients, engine: Engine, runs: Sequence[Run], folder: Path) -> dict[str, Any]:
    """The profile as a file that ``--profile`` reads."""
    made = found.profile(engine, name=folder.resolve().name)
    return {
        "schema": SCHEMA,
        "name": made.name,
        "form": made.form,
        "units": UNITS,
        "coefficients": made.coefficients,
        "kv_tokens": None if math.isinf(engine.kv_tokens) else engine.kv_tokens,
        "source": f"eval/engine_log.py on the runs {', '.join(run.label for run in runs)} of {folder.name}",
        "client_offset_ms": found.offset,
    }


def told(summary: dict[str, Any], made: Sequence[Prediction], whole: Summary) -> str:
    """What is printed for people."""
    found, engine = summary["coefficients"], summary["engine"]
    heading = (
        f"Server: {engine['max_seqs']} sequences, {engine['token_budget']:g} tokens an iteration. "
        f"Fitted on the runs {', '.join(summary['fitted_on'])}: decode step max({found['d0']:.3g} ms, "
        f"{found['d1']:.3g} ms x sequences) + {found['d2']:.3g} ms x tokens of context, "
        f"prompts {found['p1']:.3g} ms a token, client {found['offset']:.3g} ms. {summary['predicted']}."
    )
    return f"{folded(heading)}\n\n{tables.text(table(made, whole)).lstrip()}"


def compare(argv: list[str]) -> int:
    """Read, fit, predict, print; the exit code."""
    options = parser().read(argv)
    engine = Engine(options.max_seqs, options.token_budget, options.kv_tokens)
    try:
        runs = read_runs("--folder", options.folder)
        unseen = None if options.test_folder is None else read_runs("--test-folder", options.test_folder)
        checked(options, runs, unseen)
        found, made = predictions(runs, unseen, engine)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    whole = Summary.of(made)
    how = "Each run predicted from the others" if unseen is None else "The runs of --test-folder predicted"
    summary = {
        "engine": asdict(engine),
        "fitted_on": [run.label for run in runs],
        "coefficients": asdict(found),
        "predicted": how,
        "runs": [each.as_dict() for each in made],
    } | whole.as_dict()
    print(artefacts.as_json(summary) if options.json else told(summary, made, whole))
    if options.write_profile:
        text = artefacts.as_json(profile_json(found, engine, runs, options.folder))
        artefacts.write_text(options.write_profile, text + "\n")
    if options.plot:
        engine_log_figure.draw(made, f"{how}; fitted on {', '.join(summary['fitted_on'])}", options.plot)
    return 0


def checked(options: argparse.Namespace, runs: Sequence[Run], unseen: Sequence[Run] | None) -> None:
    """Refuse with ``ValueError`` what cannot end well, before the fit."""
    if unseen is None and len(runs) < 2:
        raise ValueError(
            f"--folder {str(options.folder)!r} holds one run, {runs[0].label}: "
            "give another to predict with --test-folder, or at least two runs."
        )
    if options.plot and not comparison.available():
        raise ValueError("--plot: figures need matplotlib: pip install 'llmsched[plots]'.")
    for option, path in (("--plot", options.plot), ("--write-profile", options.write_profile)):
        if path is not None:
            artefacts.prepare_file(option, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    return guarded(PROGRAM, compare, argv)


if __name__ == "__main__":
    run_and_exit(main)
