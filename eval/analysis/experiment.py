"""``llmsched analyze FILE``: a log of your server to a fitted profile, a comparison of schedulers, and a sentence."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.analysis.against import write_workload
from llmsched.eval.analysis.answer import measured_sentence, servers_sentence, trust_sentence
from llmsched.eval.analysis.client_log import ClientLog
from llmsched.eval.analysis.held_out import HeldOutFit, fit_held_out, fit_table, profile_of
from llmsched.eval.analysis.reading import choose_run, read_logs, server_settings
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.options import add_price, parser_for
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number, read_kv_tokens
from llmsched.eval.experiments.capacity.study import CapacityStudy, servers_table
from llmsched.eval.experiments.compare import Comparison
from llmsched.eval.report import artefacts
from llmsched.eval.report.cost import costs
from llmsched.eval.report.policy_table import policy_tables
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.tune import resolve
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched_env.files.showing import visible
from llmsched_env.files.writing import check_file, write_text
from llmsched_env.options.words import MAX_BATCH_LIMIT
from llmsched_env.workload.trace_columns import SECONDS

POLICIES = "vllm,multibin,sjf,network"
SHARE = 0.95


def add_options(parser: argparse.ArgumentParser) -> None:
    """The log, the server that wrote it, and what is asked."""
    add = parser.add_argument
    about = "log of a benchmark (vLLM, SGLang, GuideLLM, AIPerf, inference-perf), a gateway or a simulator"
    add("file", type=Path, metavar="FILE", help=about)
    add("--run", type=number(1, 10_000, whole=True), metavar="N", help="the run of a file with several")
    add("--unit", choices=sorted(SECONDS), metavar="UNIT", help="unit of times whose column states none: s, ms, us, ns")
    server = parser.add_argument_group("the server that wrote the log").add_argument
    server("--engine", dest="engine_file", type=Path, metavar="META.json", help="its settings, where a file has them")
    server("--max-seqs", type=number(1, MAX_BATCH_LIMIT, whole=True), metavar="N", help="sequences at once")
    server("--token-budget", type=number(1, math.inf), metavar="N|inf", help="tokens of an iteration")
    server("--kv-tokens", type=read_kv_tokens, metavar="N|inf", help="KV memory of one server, tokens")
    server("--tp", type=number(1, 1024, whole=True), metavar="N", help="GPUs of one server (tensor parallel)")
    server("--logged-servers", type=number(1, 1024, whole=True), metavar="N", help="servers behind the log (1)")
    server("--scheduling", choices=("sync", "async"), help="how it composes steps (sync; with --engine as stated)")
    asked = parser.add_argument_group("the question").add_argument
    asked("--profile", metavar="NAME", help="a latency profile in place of a fitted one (a log without times needs it)")
    asked("--goodput", nargs="+", metavar="KEY:MS", help="latency targets in ms (default: ttft:2000 tpot:100)")
    asked("--share", type=number(0, 1, above=True), default=SHARE, metavar="X", help="share in time (0.95)")
    asked("--rate", type=number(0, 1e6, above=True), metavar="R", help="requests/s to carry (default: the log's)")
    asked("--policies", default=POLICIES, metavar="LIST", help=f"the first is what runs now (default {POLICIES})")
    asked("--write-profile", type=Path, metavar="FILE", help="keep the fitted profile, for --profile")
    asked("--report", metavar="FILE", help="write one HTML page")
    add_price(parser)


@dataclass(frozen=True, kw_only=True)
class Analysis(Findings):
    """The findings, and the fitted profile as it is kept."""

    profile: Mapping[str, Any] | None = None

    def write_more(self, options: argparse.Namespace) -> None:
        """The fitted profile."""
        if options.write_profile and self.profile is not None:
            write_text(options.write_profile, artefacts.as_json(self.profile) + "\n")


def find(session: Session) -> Findings:
    """Read, fit, compare, answer."""
    options = session.options
    if options.write_profile:
        check_file(options.write_profile, "--write-profile")
    log = choose_run(options.file, read_logs(options.file, options.unit), options.run)
    session.notes += [f"Log: {note}." for note in log.notes]
    if not log.timed and options.profile is None:
        raise ValueError(
            f"{str(options.file)!r} ({log.kind}) has no times to the first token and to the end, so no profile can be "
            "fitted: give --profile NAME (llmsched profiles lists them)."
        )
    fitted, profile = None, None
    if options.profile is None:
        engine, tp = server_settings(options)
        with Progress("fitting", 1) as progress:
            fitted = fit_held_out(log.run(), engine)
            progress.step()
        profile = profile_of(fitted, options.file.stem, tp, log.kind)
    with tempfile.TemporaryDirectory() as folder:
        scenario = scenario_of(options, log, profile, Path(folder))
        return answer(session, log, fitted, profile, scenario)


def scenario_of(
    options: argparse.Namespace, log: ClientLog, profile: Mapping[str, Any] | None, folder: Path
) -> Scenario:
    """The scenario that compare would make of the log's requests and the profile, written into ``folder``."""
    kept = log.arrival_s[log.complete]
    if len(kept) > 1 and np.ptp(kept) == 0 and options.rate is None:
        raise ValueError("all requests were sent at once, so the log states no rate to carry: give --rate R.")
    workload = write_workload(log, folder, visible(options.file.stem).replace("/", "_"))
    words = ["--engine", "continuous", "--workload", str(workload)]
    if profile is not None:
        kept_profile = folder / "profile.json"
        kept_profile.write_text(artefacts.as_json(profile), encoding="utf-8")
        words += ["--profile", str(kept_profile)]
        words += ["--kv-tokens", "inf"] if profile["kv_tokens"] is None else []
        words += ["--servers", str(options.logged_servers or 1)]
    else:
        words += ["--profile", options.profile]
    words += ["--goodput", *options.goodput] if options.goodput else []
    words += ["--rate", str(options.rate)] if options.rate else ["--rate-scale", "1"]
    words += ["--seeds", str(options.seeds), "--seed", str(options.seed), "--jobs", str(options.jobs)]
    scenario = scenario_from(parser_for("analyze.py", "").read(words))
    scenario = replace(scenario, source=visible(str(options.file)))  # not the file in a folder that is removed
    return replace(scenario, profile=str(profile["name"])) if profile is not None else scenario


def answer(
    session: Session,
    log: ClientLog,
    fitted: HeldOutFit | None,
    profile: Mapping[str, Any] | None,
    scenario: Scenario,
) -> Findings:
    """Compare the schedulers, count the servers, and say it."""
    options = session.options
    options.shares = (options.share,)
    entrants = resolve(session.policies(options.policies), scenario, session.crew)
    comparison = Comparison(scenario, entrants, session.seeds)
    interrupted = comparison.run(session.crew, None, timeline=bool(options.report))
    summaries = [s | costs(s, scenario.gpus, options.price) for s in comparison.summaries()]
    servers = servers_table(CapacityStudy(session, entrants, scenario))
    load = f"{scenario.workload.mean_rate:.3g} requests/s of this log"
    sentences = [
        servers_sentence(servers.rows, options.share, scenario.goal, load, entrants[0].label),
        *measured_sentence(fitted, scenario.config.slos),
        trust_sentence(fitted),
    ]
    requests = int(log.complete.sum())
    head = f"{visible(options.file.name)}: {log.kind}, {requests:,} requests\n{heading(scenario, session.seeds)}"
    if fitted is not None:
        found = fitted.found
        head += (
            f"\nfitted: decode step max({found.d0:.3g} ms, {found.d1:.3g} ms x sequences) + {found.d2:.3g} ms x tokens "
            f"of context, prompts {found.p1:.3g} ms a token, client {found.offset:.3g} ms"
        )
    tables = [servers, *policy_tables(summaries), *([fit_table(fitted)] if fitted is not None else [])]
    about = {"answer": sentences, "scenario": scenario.describe(), "profile": profile, "log": dict(log.says)}
    return Analysis(
        heading=head,
        tables=tables,
        drawings=comparison.drawings(summaries),
        about=about,
        interrupted=interrupted,
        answer=sentences,
        profile=profile,
    )


EXPERIMENT = Experiment(
    "analyze.py",
    "Read the log of a server, fit a profile, compare schedulers, and say what to run on how many GPUs.",
    add_options,
    find,
    run_options_parser,
)
