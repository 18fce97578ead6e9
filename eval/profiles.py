"""List the latency profiles with their errors: ``python eval/profiles.py [NAME|FILE ...] [--plot DIR]``.

Says of each what was measured, how far off the fit is on cells it has not seen, and what is not included;
``--plot`` draws measured against fitted where the raw rows lie beside the profile.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python still imports: leave without a traceback
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

import math
from collections.abc import Sequence
from typing import Any

from llmsched.eval.calibration import figure
from llmsched.eval.calibration.rows import read_rows
from llmsched.eval.cli.parser import OneLineParser, refuse
from llmsched.eval.figures import comparison
from llmsched.eval.report import artefacts
from llmsched.eval.report.textual import folded
from llmsched_env import datafiles
from llmsched_env.profiles import Profile, load_profile, shipped_profiles

PROGRAM = "profiles.py"
PHASES = ("decode", "prefill", "e2e", "step")
"""What errors are known of; ``step``: the matrix products of a step alone."""


def parser() -> OneLineParser:
    """The options of the command."""
    made = OneLineParser(prog=PROGRAM, description="List latency profiles with their errors.", allow_abbrev=False)
    made.add_argument("profiles", nargs="*", metavar="NAME|FILE", help="default: all that are shipped")
    made.add_argument("--plot", type=Path, metavar="DIR", help="draw measured against fitted, a PNG per profile")
    made.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return made


def describe(profile: Profile) -> dict[str, Any]:
    """What is known of a profile: errors as fractions, by phase."""
    meta = profile.meta
    return {
        "name": profile.name,
        "gpu": meta.get("gpu"),
        "model": meta.get("model"),
        "tensor_parallel": profile.tensor_parallel,
        "form": profile.form,
        "kv_tokens": None if math.isinf(profile.kv_tokens) else profile.kv_tokens,
        "measured": bool(meta.get("measured", False)),
        "errors": {phase: meta["errors"][phase] for phase in PHASES if phase in meta.get("errors", {})},
        "errors_kind": meta.get("errors", {}).get("kind"),
        "source": meta.get("source"),
        "not_included": meta.get("not_included"),
        "caveats": meta.get("caveats", []),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """A row per profile, and below it what each leaves out."""
    width = max(len(about["name"]) for about in found)
    lines = [f"{'':{width}}  {'':10}  {'':12}  held-out |error|, median / p95, %"]
    heads = "".join(f"{head:>13}" for head in ("decode", "prefill", "end to end"))
    lines.append(f"{'profile':{width}}  {'measured':10}  {'form':12}{heads}{'KV tokens':>12}")
    lines.append("-" * len(lines[-1]))
    for about in found:
        cells = "".join(f"{_error(about['errors'].get(phase)):>13}" for phase in ("decode", "prefill", "e2e"))
        kv = "no limit" if about["kv_tokens"] is None else f"{about['kv_tokens']:,}"
        lines.append(f"{about['name']:{width}}  {_measured(about):10}  {about['form']:12}{cells}{kv:>12}")
    lines.append("")
    for about in found:
        lines.append(folded(f"{about['name']}: {about['source']}"))
        if "step" in about["errors"]:
            lines.append(folded(f"  errors of the GEMM step alone: {_error(about['errors']['step'])} %"))
        lines.append(folded(f"  not included: {about['not_included']}"))
        lines += [folded(f"  - {caveat}") for caveat in about["caveats"]]
    return "\n".join(lines)


def _measured(about: dict[str, Any]) -> str:
    if not about["measured"]:
        return "NO"
    return "GEMMs only" if "step" in about["errors"] else "yes"


def _error(error: dict[str, float] | None) -> str:
    return "-" if error is None else f"{100 * error['median']:.1f} / {100 * error['p95']:.1f}"


def plot(name: str, profile: Profile, folder: Path) -> Path | None:
    """Draw a profile whose raw rows are there; the file, or None."""
    rows = profile.meta.get("rows")
    own = Path(name) if Path(name).is_file() else datafiles.data_dir("profiles") / f"{name}.json"
    if rows is None or not (own.parent / rows).is_file():
        return None
    path = folder / f"{profile.name}.png"
    figure.draw(profile, [row for _, row in read_rows(own.parent / rows)], path)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    options = parser().read(argv)
    names = options.profiles or shipped_profiles()
    try:
        profiles = [load_profile(name) for name in names]
        if options.plot is not None:
            artefacts.prepare(options.plot)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    found = [describe(profile) for profile in profiles]
    print(artefacts.as_json(found) if options.json else table(found))
    if options.plot is None:
        return 0
    if not comparison.available():
        refuse(PROGRAM, comparison.HINT)
    drawn = [plot(name, profile, options.plot) for name, profile in zip(names, profiles, strict=True)]
    without = [profile.name for profile, path in zip(profiles, drawn, strict=True) if path is None]
    for path in filter(None, drawn):
        print(f"drawn: {path}", file=sys.stderr)
    if without:
        print(folded(f"no raw rows here, not drawn: {', '.join(without)}"), file=sys.stderr)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a long list is piped into head
    sys.exit(main())
