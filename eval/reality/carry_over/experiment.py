"""Does the simulator's comparison of schedulers hold on a real vLLM?  One command, which goes on where it was stopped.

It starts a vLLM for each policy, measures capacity and a first profile, sends the same requests to every policy in
turn at three loads, fits the law of the steps of those very runs, predicts every run, and compares.
"""

from __future__ import annotations

import argparse
import subprocess
import warnings
from pathlib import Path
from typing import Any

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.readers import number
from llmsched.eval.figures.carry_over import Agreement, CarryOver, carry_over_drawings
from llmsched.eval.reality.carry_over.agreement import MEASURED, PREDICTED, values
from llmsched.eval.reality.carry_over.fleet import Fleet
from llmsched.eval.reality.carry_over.measuring import measure
from llmsched.eval.reality.carry_over.plan import LOADS, POLICIES, REPEATS, REQUESTS, Plan
from llmsched.eval.reality.carry_over.result import read, result_of, write
from llmsched.eval.reality.carry_over.tables import tables
from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.line_store import LineStore
from llmsched_env.commands.needs import need

PROGRAM = "carry_over.py"
RESULT = "carry_over.json"
SHOWN = {
    "slo_attainment": ("SLO met", "%", 100.0, False),
    "mean_e2e_s": ("E2E mean", "s", 1.0, True),
    "p95_ttft_s": ("TTFT p95", "s", 1.0, True),
}
"""Metrics of the figure: title, unit, factor, whether the axes are logarithmic."""

MODEL_MAKER = (
    "from pathlib import Path; from llmsched.eval.reality.vllm.tiny_model import write_model as w; w(Path({!r}))"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("carry_over").add_argument
    add("--results", type=Path, metavar="FILE", help=f"print the tables of a {RESULT} and do nothing else")
    add("--python", metavar="FILE", help="the Python that has vLLM and this project")
    add("--model", metavar="FOLDER", help="the model (default: a tiny one with random weights, made in --out)")
    add("--requests", type=number(20, 1e6, whole=True), default=REQUESTS, metavar="N", help=f"of a run ({REQUESTS})")
    words = ",".join(f"{load:g}" for load in LOADS)
    add(
        "--loads",
        type=list_of(number(0, 10, above=True)),
        default=LOADS,
        metavar="X,...",
        help=f"of capacity ({words})",
    )
    add("--policies", type=list_of(str), default=POLICIES, metavar="LIST", help=f"({','.join(POLICIES)})")
    add("--ttft", type=number(0, 1e6, above=True), metavar="MS", help="target of TTFT (default: by the first profile)")
    add("--tpot", type=number(0, 1e6, above=True), metavar="MS", help="target of TPOT (default: by the first profile)")
    add("--timeout", type=number(0, 1e6, above=True), default=300.0, metavar="S", help="of a request (300)")
    parser.set_defaults(seeds=REPEATS)


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan; ``--seeds`` is the number of repeats."""
    given = {name: getattr(options, name) for name in ("ttft", "tpot") if getattr(options, name)}
    return Plan(
        tuple(options.policies),
        tuple(options.loads),
        options.seeds,
        int(options.requests),
        tuple(given.items()),
        options.seed,
    )


def find(session: Session) -> Findings:
    """Make the runs that are missing, predict them, write the result; or show one."""
    options = session.options
    if options.results is not None:
        return findings(read(options.results))
    need(PROGRAM, "aiohttp")
    for name in ("python", "out"):
        if not getattr(options, name):
            raise ValueError(f"--{name} is missing: docs/results/carry_over.md has the command.")
    folder, plan = Path(options.out), plan_of(options)
    if options.model is None:
        options.model = str(made_model(options.python, folder / "model"))
    store = LineStore(folder / "runs.jsonl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of profiles that are used beyond their measured range
        with Fleet(plan, options, folder / "servers") as fleet:
            plan, found, runs = measure(plan, fleet, store, folder)
        document = result_of(plan, found, runs, folder)
    write(folder / RESULT, document)
    return findings(document)


def made_model(python: str, folder: Path) -> Path:
    """A tiny model with random weights; ``ValueError`` where the Python cannot make it."""
    if not (folder / "model.safetensors").is_file():
        words = [python, "-c", MODEL_MAKER.format(str(folder))]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except OSError as error:
            raise ValueError(f"--python {python!r} cannot be started ({error.strerror}).") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ValueError(f"--python {python!r} cannot make a model ({last}): install vLLM and this project there.")
    return folder


def findings(document: dict[str, Any]) -> Findings:
    """The tables of a result."""
    plan = document["plan"]
    loads = ", ".join(f"{load:g} ({load * document['capacity']:.2f}/s)" for load in plan["loads"])
    slo = ", ".join(f"{name} <= {ms:g} ms" for name, ms in plan["slo"])
    heading = (
        f"carry_over: {len(plan['policies'])} policies, {plan['repeats']} repeats of {plan['requests']} requests at "
        f"loads {loads} of a capacity of {document['capacity']:.2f} requests/s\n"
        f"SLO: {slo}; {document['server']['engine']} on {document['machine']['processor']}"
    )
    notes = sorted({note for run in document["runs"] for note in run["notes"]})
    return Findings(heading, tables(document), carry_over_drawings(shown(document)), {"result": document}, notes)


def shown(document: dict[str, Any]) -> CarryOver:
    """What the figure shows of a result."""
    plan, machine = document["plan"], document["machine"]
    metrics = []
    for key, (title, unit, factor, logarithmic) in SHOWN.items():
        points = {}
        for load in plan["loads"]:
            for policy in plan["policies"]:
                both = [values(document, which, policy, load, key).values() for which in (MEASURED, PREDICTED)]
                if all(both):
                    real, ours = (interval([factor * value for value in found]) for found in both)
                    points[policy, load] = (real, ours)
        metrics.append(Agreement(title, unit, points, logarithmic))
    title = f"{document['server']['engine']} on {machine['processor']}; {plan['repeats']} repeats, 95 % intervals"
    return CarryOver(title, plan["policies"], plan["loads"], metrics)


EXPERIMENT = Experiment(
    PROGRAM,
    "Run policies inside a real vLLM and in the simulator, and compare what both say.",
    add_options,
    find,
    run_options_parser,
)
