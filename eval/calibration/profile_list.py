"""List the latency profiles with their errors: ``python eval/profiles.py [NAME|FILE ...] [--plot DIR]``.

Says of each what was measured, the error of the fit on cells it has not seen, and what is not included.  ``--plot``
draws measured against fitted where the raw rows lie beside the profile.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmsched.eval.calibration.rows import read_rows
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.figures import style
from llmsched.eval.figures.calibration import draw_profile
from llmsched.eval.report.text import fold
from llmsched_env import datafiles
from llmsched_env.files.writing import check_folder
from llmsched_env.profiles import Profile, load_profile, shipped_profiles

PHASES = ("decode", "prefill", "e2e", "step")
"""What a profile may know errors of; ``step``: the matrix products of a step alone."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("profiles", nargs="*", metavar="NAME|FILE", help="default: all that are shipped")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw measured against fitted, a PNG per profile")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def describe(profile: Profile) -> dict[str, Any]:
    """A profile for JSON: its system, form and source, and its errors as fractions, by phase."""
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


def list_text(found: Sequence[dict[str, Any]]) -> str:
    """A row per profile, and below the rows what each leaves out."""
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
        lines.append(fold(f"{about['name']}: {about['source']}"))
        if "step" in about["errors"]:
            lines.append(fold(f"  errors of the GEMM step alone: {_error(about['errors']['step'])} %"))
        lines.append(fold(f"  not included: {about['not_included']}"))
        lines += [fold(f"  - {caveat}") for caveat in about["caveats"]]
    return "\n".join(lines)


def _measured(about: dict[str, Any]) -> str:
    if not about["measured"]:
        return "NO"
    return "GEMMs only" if "step" in about["errors"] else "yes"


def _error(error: dict[str, float] | None) -> str:
    return "-" if error is None else f"{100 * error['median']:.1f} / {100 * error['p95']:.1f}"


def rows_path(name: str, profile: Profile) -> Path | None:
    """The raw rows of a profile; None where it has none, or where they are not there."""
    rows = profile.meta.get("rows")
    own = Path(name) if Path(name).is_file() else datafiles.data_dir("profiles") / f"{name}.json"
    return own.parent / rows if rows is not None and (own.parent / rows).is_file() else None


@dataclass(frozen=True, kw_only=True)
class ProfileList(Findings):
    """The profiles by the name or file that was given."""

    profiles: Mapping[str, Profile]

    def text(self, notes: Sequence[str]) -> str:
        """The list."""
        return "\n".join([list_text(self.summary("", (), notes)), *notes])

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> list[dict[str, Any]]:
        """The descriptions."""
        return [describe(profile) for profile in self.profiles.values()]

    def write_more(self, options: argparse.Namespace) -> None:
        """Draw every profile whose raw rows are there; standard error names the files, and the profiles without."""
        if options.plot is None:
            return
        without = []
        for name, profile in self.profiles.items():
            rows = rows_path(name, profile)
            if rows is None:
                without.append(profile.name)
                continue
            path, samples = options.plot / f"{profile.name}.png", [row for _, row in read_rows(rows)]
            style.draw_to(path, partial(draw_profile, profile, samples))
            print(f"drawn: {path}", file=sys.stderr)
        if without:
            print(fold(f"no raw rows here, not drawn: {', '.join(without)}"), file=sys.stderr)


def find(session: Session) -> Findings:
    """Load the profiles."""
    options = session.options
    names = options.profiles or shipped_profiles()
    profiles = {name: load_profile(name) for name in names}
    if options.plot is not None:
        check_folder(options.plot, "--plot")
        if not style.available():
            raise ValueError(style.HINT)
    return ProfileList(heading="", profiles=profiles)


EXPERIMENT = Experiment(
    "profiles.py",
    "List latency profiles with their errors.",
    add_options,
    find,
    plain_parser,
)
