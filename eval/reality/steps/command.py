"""A latency profile from the steps of a running server: ``python eval/calibrate_steps.py steps.jsonl --out mine.json``.

The log is what LLMSCHED_VLLM_STEPS named, or that of a vLLM with ``--enable-logging-iteration-details``.
docs/howto/calibration.md says how it is made and what the fit knows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmsched.eval.calibration.document import write
from llmsched.eval.calibration.fit import ErrorStatistics
from llmsched.eval.cli.frame import plain_parser
from llmsched.eval.cli.readers import number, read_kv_tokens
from llmsched.eval.reality.steps.profile import StepFit, fit_steps, profile_document
from llmsched.eval.reality.steps.reading import LoggedServer, merge_logs, read_log
from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import run_guarded
from llmsched_env.commands.terminal import show
from llmsched_env.files.writing import CannotWriteError, check_file, check_folder
from llmsched_env.options.words import MAX_BATCH_LIMIT

PROGRAM = "calibrate_steps.py"


def parser() -> OneLineParser:
    """The options."""
    made = plain_parser(PROGRAM, "Fit a latency profile to the logged steps of a running server.")
    add = made.add_argument
    add("logs", nargs="+", type=Path, metavar="LOG", help="logs of steps of one server, or of several that are alike")
    add("--out", type=Path, required=True, metavar="FILE", help="profile to write, for --profile")
    seqs = number(1, MAX_BATCH_LIMIT, whole=True)
    add("--max-seqs", type=seqs, metavar="N", help="sequences at once, where the log does not say")
    add("--token-budget", type=number(1, 1e9), metavar="N", help="tokens of a step, where the log does not say")
    add("--kv-tokens", type=read_kv_tokens, metavar="N|inf", help="KV memory, where the log does not say")
    add("--model", metavar="NAME", help="name of the model, where the log does not say")
    add("--gpu", metavar="NAME", help="name of the device, where the log does not say")
    add("--json", action="store_true", help="print the profile and nothing else")
    return made


def given_facts(options: Any) -> dict[str, Any]:
    """What the options say of the server."""
    names = ("max_seqs", "token_budget", "kv_tokens", "model")
    found = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return found | ({} if options.gpu is None else {"device": options.gpu})


def read_logs(paths: Sequence[Path], given: dict[str, Any]) -> LoggedServer:
    """The logs as one; ``ValueError`` where an option says other than the log."""
    log = merge_logs([read_log(path, given.get("kv_tokens", math.inf)) for path in paths])
    for name, value in given.items():
        if name in log.server and log.server[name] != value:
            option = {"device": "gpu"}.get(name, name).replace("_", "-")
            raise ValueError(f"--{option} {value}: the log says {log.server[name]}: drop the option.")
    return log


def report(found: StepFit, document: dict[str, Any]) -> str:
    """What was fitted, in words and a table."""
    grouped, out = found.grouped, []
    phases = [phase for phase in ("decode", "mixed", "prefill") if phase in found.best.held_out]
    out.append(
        f"{grouped.steps:,} steps in {len(grouped.groups)} groups of like work; left out: {grouped.pauses} pauses "
        f"({100 * grouped.pause_share:.1f} % of the time), {grouped.rare} rare steps ({100 * grouped.rare_share:.1f} %)"
    )
    out += [
        "",
        f"{'form':10}" + "".join(f"{phase:>16}" for phase in phases) + "   held out, median / p95 of |error|, %",
    ]
    for fit in found.fits:
        out.append(f"{fit.form:10}" + "".join(f"{_shown(fit.held_out[phase]):>16}" for phase in phases))
    out.append(f"chosen: {found.best.form}  " + "  ".join(f"{k}={v:.4g}" for k, v in found.best.coefficients.items()))
    errors = document["errors"]
    out.append(f"time of all steps: predicted {100 * errors['time_of_all_steps']:+.1f} %")
    if "time_of_second_half_from_first" in errors:
        late = errors["time_of_second_half_from_first"]
        out.append(f"time of the second half, by a fit on the first: predicted {100 * late:+.1f} %")
    ranges = document["measured_range"]
    out.append("measured: " + ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items()))
    settings = {**document["engine_settings"], "kv_tokens": document["kv_tokens"]}
    out.append("server: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    return "\n".join([*out, *(f"caveat: {text}" for text in document["caveats"])])


def _shown(error: ErrorStatistics) -> str:
    return f"{100 * error.median:.1f} / {100 * error.p95:.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    return run_guarded(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> int:
    """Fit as the arguments ``argv`` say."""
    options = parser().read(argv)
    try:
        check_folder(options.out.parent, "--out")
        if os.path.lexists(options.out):
            check_file(options.out, "--out")
        given = given_facts(options)
        found = fit_steps(read_logs(options.logs, given))
        names = ", ".join(path.name for path in options.logs)
        source = f"eval/calibrate_steps.py on the steps of a running server ({names})"
        document = profile_document(options.out.stem, found, given, source)
        write(options.out, document)
    except (ValueError, CannotWriteError) as error:
        refuse(PROGRAM, str(error))
    if options.json:
        show(json.dumps(document, indent=1))
        return 0
    show(report(found, document))
    show(f"profile {options.out}; use it: python eval/compare.py --engine continuous --profile {options.out}")
    return 0
