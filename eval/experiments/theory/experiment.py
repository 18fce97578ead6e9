"""The Multi-Bin theorem against simulation, and what is left of its gain outside its assumptions.

Three steps: the theorem over k and B; predictions with errors; latencies that charge prompts.  In a saturated system
one server has all requests waiting from the start, so its throughput is its capacity.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.options import run_parser_for
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.theory.assumptions import theorem_step
from llmsched.eval.experiments.theory.latency_models import latency_model_step
from llmsched.eval.experiments.theory.prediction_error import prediction_step
from llmsched.eval.experiments.theory.runs import BATCH, BINS, saturated_scenario
from llmsched.eval.report.tables import Table
from llmsched.eval.runs.runner import Cell
from llmsched.policies import parse
from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.words import MAX_BATCH_LIMIT


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("theory").add_argument
    whole = {"whole": True}
    add("--bin-counts", type=list_of(number(1, MAX_BINS, **whole)), default=(1, 2, 4, 8, 16, 32), metavar="K,K,...")
    add("--batches", type=list_of(number(1, MAX_BATCH_LIMIT, **whole)), default=(2, 8, 32, 64), metavar="B,B,...")
    add("--sigmas", type=list_of(number(0, 5)), default=(0, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2), metavar="S,S,...")
    add("--requests", type=number(100, 1e8, whole=True), default=50_000, metavar="N", help="requests per run")


def find(session: Session) -> Findings:
    """All three steps."""
    tables: list[Table] = []
    drawings: dict[str, Callable] = {}
    for step in (theorem_step, prediction_step, latency_model_step):
        more, drawn = step(session)
        tables += more
        drawings |= drawn
    heading = (
        "theory: what binning gains, from the Multi-Bin theorem to measured latencies\n"
        f"{len(session.seeds)} seeds from {session.seeds[0]}; ± 95 % interval (Student t over seeds)"
    )
    shown = saturated_scenario("uniform", "ideal", "oracle", BINS, session.options.requests)
    cells = [Cell("multibin-fixed", parse(f"multibin-fixed:batch={BATCH}"), shown, session.seeds[0])]
    return Findings(heading, tables, drawings, {"bins": BINS, "batch": BATCH}, timeline=cells)


EXPERIMENT = Experiment(
    "theory.py",
    "The Multi-Bin theorem against simulation, and what is left of it with prediction errors and measured latencies.",
    add_options,
    find,
    run_parser_for,
)
