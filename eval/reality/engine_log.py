"""Does the engine `continuous` predict a real one?  ``python eval/engine_log.py --folder DIR [--test-folder DIR]``

Fits a latency profile and the client's offset on the runs of a real server's log, and predicts runs that the fit has
not seen: those of a second folder, or each run of the first from the others.  docs/results/engine_log.md has the rules.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number, read_kv_tokens
from llmsched.eval.figures import engine_log as figure
from llmsched.eval.figures import style
from llmsched.eval.reality.log_data import LoggedRun, read_runs
from llmsched.eval.reality.log_fit import Coefficients, fit
from llmsched.eval.reality.log_replay import EngineSettings
from llmsched.eval.reality.log_report import ErrorSummary, Prediction, prediction_table
from llmsched.eval.report import artefacts
from llmsched.eval.report.tables import text
from llmsched.eval.report.text import fold
from llmsched_env.files.writing import check_file, write_text
from llmsched_env.options.words import MAX_BATCH_LIMIT
from llmsched_env.profiles import SCHEMA, UNITS


def add_options(parser: argparse.ArgumentParser) -> None:
    """The folders, the settings of the logged server, and the files to write."""
    add, engine = parser.add_argument, EngineSettings()
    add("--folder", type=Path, required=True, metavar="DIR", help="CSV files of the runs to fit on")
    add("--test-folder", type=Path, metavar="DIR", help="runs to predict (default: each run of --folder from the rest)")
    seqs = number(1, MAX_BATCH_LIMIT, whole=True)
    add("--max-seqs", type=seqs, default=engine.max_seqs, metavar="N", help="sequences at once (256)")
    budget = number(1, math.inf)
    add("--token-budget", type=budget, default=engine.token_budget, metavar="N", help="tokens of an iteration (512)")
    kv_help = "KV memory of the server (580512)"
    add("--kv-tokens", type=read_kv_tokens, default=engine.kv_tokens, metavar="N|inf", help=kv_help)
    add("--write-profile", type=Path, metavar="FILE", help="write the profile fitted on all of --folder, for --profile")
    add("--plot", type=Path, metavar="FILE", help="write a picture of the distributions")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")


def predict_runs(
    runs: Sequence[LoggedRun], unseen: Sequence[LoggedRun] | None, engine: EngineSettings
) -> tuple[Coefficients, list[Prediction]]:
    """The coefficients fitted on all ``runs``, and a prediction of every run of ``unseen``; None: of each of ``runs``
    from the others."""
    with Progress("fits", 1 if unseen is not None else 1 + len(runs)) as progress:
        found = fit(runs, engine)
        progress.step("all runs")
        if unseen is not None:
            return found, [Prediction.of(run, found, runs, engine) for run in unseen]
        predictions = []
        for run in runs:
            others = [other for other in runs if other is not run]
            predictions.append(Prediction.of(run, fit(others, engine), others, engine))
            progress.step(f"without {run.label}")
    return found, predictions


def profile_json(
    found: Coefficients, engine: EngineSettings, runs: Sequence[LoggedRun], folder: Path
) -> dict[str, Any]:
    """The profile as a file that ``--profile`` reads."""
    profile = found.profile(engine, name=folder.resolve().name)
    return {
        "schema": SCHEMA,
        "name": profile.name,
        "form": profile.form,
        "units": UNITS,
        "coefficients": profile.coefficients,
        "kv_tokens": None if math.isinf(engine.kv_tokens) else engine.kv_tokens,
        "source": f"eval/engine_log.py on the runs {', '.join(run.label for run in runs)} of {folder.name}",
        "client_offset_ms": found.offset,
        "measured": True,
        "engine_settings": engine.as_document(),
    }


@dataclass(frozen=True, kw_only=True)
class LogFindings(Findings):
    """The findings: what was fitted on which ``runs``, and the ``predictions``, made ``how``."""

    engine: EngineSettings
    found: Coefficients
    runs: Sequence[LoggedRun]
    predictions: Sequence[Prediction]
    how: str

    @property
    def labels(self) -> list[str]:
        """The runs that the fit has seen."""
        return [run.label for run in self.runs]

    def text(self, notes: Sequence[str]) -> str:
        """The coefficients and the table."""
        table = prediction_table(self.predictions, ErrorSummary.of(self.predictions))
        return "\n\n".join([fold(self.heading), text(table).lstrip(), *(fold(note) for note in notes)])

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> dict[str, Any]:
        """Settings, coefficients, and every run predicted."""
        return {
            "engine": asdict(self.engine),
            "fitted_on": self.labels,
            "coefficients": asdict(self.found),
            "predicted": self.how,
            "runs": [each.as_dict() for each in self.predictions],
        } | ErrorSummary.of(self.predictions).as_dict()

    def write_more(self, options: argparse.Namespace) -> None:
        """The profile and the picture."""
        if options.write_profile:
            profile = profile_json(self.found, self.engine, self.runs, options.folder)
            write_text(options.write_profile, artefacts.as_json(profile) + "\n")
        if options.plot:
            title = f"{self.how}; fitted on {', '.join(self.labels)}"
            style.draw_to(options.plot, lambda: figure.draw_predictions(self.predictions, title), figure.DPI)


def find(session: Session) -> Findings:
    """Read, fit, predict."""
    options = session.options
    engine = EngineSettings(options.max_seqs, options.token_budget, options.kv_tokens)
    runs = read_runs("--folder", options.folder)
    unseen = None if options.test_folder is None else read_runs("--test-folder", options.test_folder)
    check(options, runs, unseen)
    found, predictions = predict_runs(runs, unseen, engine)
    heading = (
        f"Server: {engine.max_seqs} sequences, {engine.token_budget:g} tokens an iteration. "
        f"Fitted on the runs {', '.join(run.label for run in runs)}: decode step max({found.d0:.3g} ms, "
        f"{found.d1:.3g} ms x sequences) + {found.d2:.3g} ms x tokens of context, "
        f"prompts {found.p1:.3g} ms a token, client {found.offset:.3g} ms. {_how(unseen)}."
    )
    return LogFindings(
        heading=heading, engine=engine, found=found, runs=runs, predictions=predictions, how=_how(unseen)
    )


def _how(unseen: Sequence[LoggedRun] | None) -> str:
    return "Each run predicted from the others" if unseen is None else "The runs of --test-folder predicted"


def check(options: argparse.Namespace, runs: Sequence[LoggedRun], unseen: Sequence[LoggedRun] | None) -> None:
    """Refuse with ``ValueError`` what would fail, before the fit."""
    if unseen is None and len(runs) < 2:
        raise ValueError(
            f"--folder {str(options.folder)!r} holds one run, {runs[0].label}: "
            "give another to predict with --test-folder, or at least two runs."
        )
    if options.plot and not style.available():
        raise ValueError("--plot: figures need matplotlib: pip install matplotlib")
    for option, path in (("--plot", options.plot), ("--write-profile", options.write_profile)):
        if path is not None:
            check_file(path, option)


EXPERIMENT = Experiment(
    "engine_log.py",
    "Fit a profile on a real server's log and predict unseen runs.",
    add_options,
    find,
    plain_parser,
)
