"""Schedulers on a real engine: open-loop arrivals, interleaved repeats (A B A B), the tables of `compare`.

Repeat r sends every policy the same requests, those of seed r.  A finished run is kept in ``--out`` and not made again.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmsched.eval.calibration.architectures import PRESETS
from llmsched.eval.calibration.settings import add_device_options
from llmsched.eval.cli.findings import Drawings, Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.options import add_scenario_options, page_parser_for
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number
from llmsched.eval.figures.serving import served_drawings
from llmsched.eval.reality.in_process.backend import entrants_in_process
from llmsched.eval.reality.in_process.rules import SCHEDULERS
from llmsched.eval.reality.serving.client import Served, Target, as_row, ask_model, from_row, send_all
from llmsched.eval.reality.serving.entrant import Entrant
from llmsched.eval.reality.serving.kept import FILE, Run, served_runs
from llmsched.eval.reality.serving.measures import failures, measures
from llmsched.eval.reality.serving.pauses import no_garbage_pauses
from llmsched.eval.reality.serving.priority import served_first
from llmsched.eval.reality.serving.vllm_server import OWN_ORDER, VllmServer
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import interval, paired_interval
from llmsched.eval.runs.line_store import LineStore
from llmsched.eval.scenarios.describing import describe
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import parse
from llmsched.policies.userfile import code_digest
from llmsched_env.commands.needs import need
from llmsched_env.commands.parser import OneLineParser
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.requests import Requests

PROGRAM = "real.py"
POLICIES = f"{OWN_ORDER},static:batch=16,sjf:batch=16"
LAG_S = 0.01
"""Where the client sends later than this at p99, its lateness is part of the latencies and a note says so."""

COLUMNS = (
    Column("policy", "policy"),
    Column("slo_attainment", "SLO met", "%", 1, 100.0, best=1),
    Column("failed", "failed", "%", 1, 100.0, best=-1),
    Column("mean_e2e_s", "E2E mean", "s", 3, best=-1),
    Column("p50_e2e_s", "E2E p50", "s", 3, best=-1),
    Column("p95_e2e_s", "E2E p95", "s", 3, best=-1),
    Column("p50_ttft_s", "TTFT p50", "ms", 0, 1e3, best=-1),
    Column("p95_ttft_s", "TTFT p95", "ms", 0, 1e3, best=-1),
    Column("mean_tpot_s", "TPOT mean", "ms", 1, 1e3, best=-1),
    Column("p99_itl_s", "ITL p99", "ms", 0, 1e3, best=-1),
    Column("goodput", "goodput", "req/s", 2, best=1),
    Column("p99_lag_s", "client lag p99", "ms", 1, 1e3),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("real").add_argument
    backends = "servers that run, a vLLM started here, or a model in this process (endpoint)"
    add("--backend", choices=("endpoint", "vllm", "transformers"), default="endpoint", help=backends)
    add("--endpoint", nargs="+", metavar="[LABEL=]URL", help="addresses up to /v1, compared with each other")
    add("--policies", metavar="LIST", help=f"of vllm ({POLICIES}); of transformers ({', '.join(SCHEDULERS)})")
    models = f"endpoint: the first that the server names; vllm: a folder or name; transformers: {', '.join(PRESETS)}"
    add("--model", metavar="NAME", help=f"the model ({models}, or a path)")
    add("--python", default="python", metavar="FILE", help="the Python that has vLLM and this project (python)")
    add("--server-args", default="", metavar="WORDS", help="further arguments of the vLLM server, in one word")
    add("--settings", type=Path, metavar="FILE", help="settings of the scheduler class besides the policy (JSON)")
    add("--prompts", choices=("ids", "text"), default="ids", help="prompts as token ids, or as words (ids)")
    add("--timeout", type=number(0, 1e6, above=True), default=600.0, metavar="S", help="of a request (600)")
    add_device_options(parser.add_argument_group("real, --backend transformers").add_argument)
    parser.set_defaults(seeds=2)


def options_parser(program: str, about: str) -> OneLineParser:
    """A parser with the common options; the runs are no simulations: no timeline shows them, no cluster makes them."""
    parser = page_parser_for(program, about)
    add_scenario_options(parser)
    return parser


def find(session: Session) -> Findings:
    """Make the runs that are missing, in turn, and compare."""
    options = session.options
    here = options.backend == "transformers"
    if not here:
        need(PROGRAM, "aiohttp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the profile, by which nothing is simulated here
        scenario = scenario_from(options)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.out) / "servers" if options.out else Path(scratch)
        if here:
            entrants = entrants_in_process(PROGRAM, session, [scenario.draw(seed) for seed in session.seeds])
        else:
            entrants = entrants_of(options, folder)
        check_labels(entrants)
        store = LineStore(Path(options.out) / FILE) if options.out else None
        found = make_runs(session, scenario, entrants, store)
    return Findings(
        heading_of(options, scenario),
        tables_of(session, scenario, found),
        drawings_of(options, scenario, found),
        {
            "scenario": describe(scenario),
            "backend": options.backend,
            "policies": {entrant.label: dict(entrant.facts) for entrant in entrants},
            "prompts": options.prompts,
            "timeout_s": options.timeout,
        },
    )


def entrants_of(options: argparse.Namespace, folder: Path) -> list[Entrant]:
    """What is compared; ``ValueError`` in one line where an option is missing or wrong."""
    if options.backend == "endpoint":
        if not options.endpoint:
            raise ValueError("--endpoint is missing: give the address of a server, as http://127.0.0.1:8000/v1.")
        found = [endpoint_of(text, options) for text in options.endpoint]
    else:
        if options.endpoint:
            raise ValueError("--endpoint does not go with --backend vllm, which starts its servers: drop one.")
        if not options.model:
            raise ValueError("--model is missing: give the folder or the name of a model for vLLM.")
        settings = read_settings(options.settings)
        names = [name.strip() for name in (options.policies or POLICIES).split(",")]
        found = [started(name, options, settings, folder / str(place)) for place, name in enumerate(names)]
    return found


def check_labels(entrants: Sequence[Entrant]) -> None:
    """``ValueError`` unless each has a label of its own."""
    labels = [entrant.label for entrant in entrants]
    if "" in labels or len(set(labels)) < len(labels):
        raise ValueError(f"{', '.join(labels)}: give labels or policies that differ from each other.")


def endpoint_of(text: str, options: argparse.Namespace) -> Entrant:
    """A server that runs already, ``LABEL=URL`` or ``URL``."""
    label, equals, url = text.partition("=")
    if not equals or "/" in label:
        label, url = text, text
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--endpoint {text!r} is no address: give one as http://127.0.0.1:8000/v1.")

    def target() -> Target:
        return Target(url, options.model or asyncio.run(ask_model(url)), options.prompts)

    return Entrant(label, target, facts={"url": url, "model": options.model})


def started(
    policy: str,
    options: argparse.Namespace,
    settings: Mapping[str, Any],
    folder: Path,
    steps: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Entrant:
    """A vLLM that is started with a policy; ``steps`` and ``environment`` as in `VllmServer`."""
    facts = {"model": options.model, "arguments": options.server_args, "settings": settings, "policy": policy}
    if policy != OWN_ORDER:
        file = parse(policy).policy.file  # refused here, not minutes later by a server
        facts["code"] = code_digest(file)
    words = options.python, options.model, options.server_args, policy, settings, folder
    server = VllmServer(*words, steps, environment)
    more = {"predictions": policy != OWN_ORDER}
    return Entrant(policy, lambda: Target(server.url, "served", options.prompts, more), server, facts)


def read_settings(path: Path | None) -> dict[str, Any]:
    """The settings in a JSON file; none without one."""
    if path is None:
        return {}
    try:
        found = read_json(path)
    except CannotReadError as error:
        raise ValueError(f"--settings {str(path)!r}: {error}.") from None
    if not isinstance(found, dict) or "policy" in found:
        raise ValueError(f"--settings {str(path)!r}: give an object without 'policy', which --policies gives.")
    return found


def make_runs(
    session: Session, scenario: Scenario, entrants: Sequence[Entrant], store: LineStore | None
) -> dict[tuple[str, int], list[Served]]:
    """Rows by label and repeat: every policy in turn, then the next repeat."""
    found: dict[tuple[str, int], list[Served]] = {}
    options = session.options
    with Progress("real", len(session.seeds) * len(entrants)) as progress:
        for seed in session.seeds:
            requests = scenario.draw(seed)
            for entrant in entrants:
                key = key_of(entrant, scenario, options, seed)
                kept = store.get(key, run_of) if store is not None else None
                if kept is None:
                    rows, notes = run_once(entrant, requests, seed, options.timeout)
                    if store is not None:
                        about = {"policy": entrant.label, "repeat": seed, "facts": entrant.facts}
                        about |= {"scenario": describe(scenario), "rows": as_row(rows), "notes": notes}
                        store.put(key, about)
                else:
                    rows, notes = kept
                session.notes += [f"{entrant.label}, repeat {seed}: {note}" for note in [*notes, *remarks(rows)]]
                found[entrant.label, seed] = rows
                progress.step(f"{entrant.label}, repeat {seed}", 1.0, stored=kept is not None)
    return found


def run_of(row: Mapping[str, Any]) -> tuple[list[Served], list[str]]:
    """(rows, what happened besides) of a run that was kept."""
    return from_row(row["rows"]), [str(note) for note in row["notes"]]


def key_of(entrant: Entrant, scenario: Scenario, options: argparse.Namespace, seed: int) -> str:
    """Names a run by all that it depends on."""
    what = [entrant.label, entrant.facts, describe(scenario), options.prompts, options.timeout, seed]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:32]


def run_once(
    entrant: Entrant,
    requests: Requests,
    seed: int,
    timeout_s: float,
    keep: bool = False,
    note_start: Callable[[float], None] = lambda _: None,
) -> tuple[list[Served], list[str]]:
    """(rows, what happened besides) of one run; a server that ends by itself is started again.

    ``keep``: a server that runs is used as it is, and is left running; ``note_start``: as in `send_all`.
    """
    notes: list[str] = []
    if entrant.serve is not None:
        return entrant.serve(requests, seed, timeout_s)
    opened, server = entrant.open, entrant.server
    assert opened is not None

    def send() -> list[Served]:
        """Send all, and wait."""
        sent = send_all(opened(), requests, seed=seed, timeout_s=timeout_s, note_start=note_start)
        with no_garbage_pauses(), served_first():
            return asyncio.run(sent)

    if server is None:
        return send(), notes
    if not (keep and server.alive):
        server.start()
    over = threading.Event()

    def watch() -> None:
        """Start the server again when it has ended by itself."""
        while not over.wait(0.5):
            if not server.alive:
                notes.append("the server ended by itself and was started again; what it had is missed")
                try:
                    server.start()
                except ValueError as error:
                    notes.append(str(error))
                    return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return send(), notes
    finally:
        over.set()
        watcher.join()
        if not keep:
            server.stop()


def remarks(rows: Sequence[Served]) -> list[str]:
    """What a reader has to know of a run."""
    found = []
    if lost := failures(rows):
        found.append(f"failed, and counted as misses: {lost}")
    sent = [row.sent - row.due for row in rows]
    late = sum(lag > LAG_S for lag in sent)
    if late > 0.01 * len(rows):
        found.append(
            f"the client was more than {1e3 * LAG_S:.0f} ms late with {late} requests: give it a core of its own, or "
            "run it as root, then it goes before other programs"
        )
    merged = sum(row.tokens > 2 * (len(row.gaps) + 1) for row in rows)
    if merged:
        found.append(f"{merged} answers came with several tokens an event: ITL is of events, and TTFT may be late")
    return found


def tables_of(session: Session, scenario: Scenario, found: Mapping[tuple[str, int], list[Served]]) -> list[Table]:
    """The metrics of every policy over the repeats, and the differences from the first."""
    by_policy: dict[str, dict[int, dict[str, float]]] = {}
    for (label, seed), rows in found.items():
        classes = scenario.draw(seed).slo_class.tolist()
        values = measures(rows, scenario.config.slos, classes)
        by_policy.setdefault(label, {})[seed] = values
        session.rows.append({"policy": label, "seed": seed, **values})
    keys = [column.key for column in COLUMNS[1:]]
    rows_of = [
        {"policy": label} | {key: interval([values[key] for values in runs.values()]) for key in keys}
        for label, runs in by_policy.items()
    ]
    base = next(iter(by_policy))
    gaps = [
        {"policy": label}
        | {
            key: paired_interval(
                {seed: values[key] for seed, values in runs.items()},
                {seed: values[key] for seed, values in by_policy[base].items()},
            )
            for key in keys
        }
        for label, runs in by_policy.items()
        if label != base
    ]
    note = (
        "SLO met is of all requests: what failed or was cut off is a miss. Latencies are of completed requests, from "
        "the time they were due. ± 95 % interval over repeats."
    )
    tables = [Table("policies", "On the real engine", COLUMNS, rows_of, note)]
    if gaps:
        signed = [Column(c.key, c.title, c.unit, c.digits, c.factor, signed=c.key != "policy") for c in COLUMNS]
        tables.append(Table("differences", f"Difference from {base}, paired by repeat", signed, gaps))
    return tables


def drawings_of(
    options: argparse.Namespace, scenario: Scenario, found: Mapping[tuple[str, int], list[Served]]
) -> Drawings:
    """The figures of these runs; over numbers of requests real_figures.py draws them."""
    runs = [Run(label, seed, rows, "") for (label, seed), rows in found.items()]
    return served_drawings(served_runs(heading_of(options, scenario).replace("\n", "; "), runs))


def heading_of(options: argparse.Namespace, scenario: Scenario) -> str:
    """What was done, in two lines."""
    return (
        f"real: {scenario.arrivals}, {scenario.size} a run, {options.seeds} repeats of every policy in turn\n"
        f"SLO: {scenario.goal}; predictions {scenario.workload.predictor}"
    )


EXPERIMENT = Experiment(
    PROGRAM,
    "Send the same requests to real servers, or to a vLLM under each policy, and compare what the client sees.",
    add_options,
    find,
    options_parser,
)
