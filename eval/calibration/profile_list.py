"""List the latency profiles with their errors: ``python eval/profiles.py [NAME|FILE ...] [--gpu G] [--plot DIR]``.

Says of each what was measured, the error of the fit on cells or points it has not seen, and what is not included.
``--plot`` draws measured against fitted where the raw rows lie beside the profile, or points in the atlas.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmsched.eval.calibration.rows import read_rows
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.figures import style
from llmsched.eval.figures.atlas import draw_points
from llmsched.eval.figures.calibration import draw_profile
from llmsched.eval.report.text import fold
from llmsched_env import atlas, datafiles
from llmsched_env.commands.terminal import say
from llmsched_env.files.writing import check_folder
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.profile_facts import PHASES
from llmsched_env.profiles import Profile, load_profile, shipped_profiles

FILTERS = ("gpu", "model", "engine", "precision")
"""What the list can be narrowed by."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("profiles", nargs="*", metavar="NAME|FILE", help="default: all that are shipped")
    for name in FILTERS:
        parser.add_argument(f"--{name}", metavar="TEXT", help=f"only profiles whose {name} contains this")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw measured against fitted, a PNG per profile")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def describe(profile: Profile) -> dict[str, Any]:
    """A profile for JSON: its system, form and source, and its errors as fractions, by phase."""
    meta = profile.meta
    errors = meta.get("errors") or {}
    return {
        "name": profile.name,
        "gpu": meta.get("gpu"),
        "model": meta.get("model"),
        "engine": meta.get("engine"),
        "version": meta.get("version"),
        "precision": meta.get("precision") or meta.get("dtype"),
        "tensor_parallel": profile.tensor_parallel,
        "form": profile.form,
        "kv_tokens": None if math.isinf(profile.kv_tokens) else profile.kv_tokens,
        "measured": bool(meta.get("measured", False)),
        "estimated": bool(meta.get("estimated", False)),
        "measured_from": meta.get("measured_from"),
        "measured_to": meta.get("measured_to"),
        "points": meta.get("points"),
        "measured_range": meta.get("measured_range"),
        "client_offset_ms": meta.get("client_offset_ms"),
        "engine_settings": meta.get("engine_settings"),
        "errors": {phase: errors[phase] for phase in PHASES if phase in errors},
        "errors_kind": errors.get("kind") or meta.get("errors_kind"),
        "source": meta.get("source"),
        "not_included": meta.get("not_included"),
        "caveats": meta.get("caveats") or [],
    }


def list_text(found: Sequence[dict[str, Any]]) -> str:
    """A row per profile; below the rows what each leaves out, unless they are many of the atlas, which all alike."""
    own, of_atlas = ([about for about in found if is_atlas(about) == wanted] for wanted in (False, True))
    parts = [own_text(own)] if own else []
    return "\n\n".join([*parts, atlas_text(of_atlas)] if of_atlas else parts)


def is_atlas(about: Mapping[str, Any]) -> bool:
    """Whether a description is of a profile whose errors are those of closed loops."""
    return "tpot" in about["errors"]


def own_text(found: Sequence[dict[str, Any]]) -> str:
    """Profiles of measured steps and prefills."""
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


def atlas_text(found: Sequence[dict[str, Any]]) -> str:
    """Profiles of measured closed loops: a row each, and once what they have in common."""
    width = max(len(about["name"]) for about in found)
    lines = [f"{'':{width}}  {'':4}  {'':10}  {'':6}  left-out |error|, median / p90, %"]
    lines.append(f"{'atlas':{width}}  {'GPUs':>4}  {'measured':10}  {'points':>6}{'TPOT':>13}{'TTFT':>13}")
    lines.append("-" * len(lines[-1]))
    for about in found:
        cells = "".join(f"{_error(about['errors'].get(name)):>13}" for name in ("tpot", "ttft"))
        lines.append(
            f"{about['name']:{width}}  {about['tensor_parallel']:>4}  {about['measured_to'] or '-':10}  "
            f"{about['points'] or '-':>6}{cells}"
        )
    first = found[0]
    lines += ["", fold(f"{len(found)} of the atlas (docs/results/atlas.md): {first['source']}")]
    lines += [fold(f"  not included: {first['not_included']}"), *(fold(f"  - {each}") for each in first["caveats"])]
    return "\n".join(lines)


def _measured(about: dict[str, Any]) -> str:
    if not about["measured"]:
        return "NO"
    return "GEMMs only" if "step" in about["errors"] else "yes"


def _error(error: dict[str, float] | None) -> str:
    if error is None:
        return "-"
    high = error["p95"] if "p95" in error else error["p90"]
    return f"{100 * error['median']:.1f} / {100 * high:.1f}"


def rows_path(name: str, profile: Profile) -> Path | None:
    """The raw rows of a profile; None where it has none, or where they are not there."""
    rows = profile.meta.get("rows")
    if not isinstance(rows, str):
        return None
    own = Path(name) if Path(name).is_file() else datafiles.data_dir("profiles") / f"{name}.json"
    return own.parent / rows if (own.parent / rows).is_file() else None


@dataclass(frozen=True, kw_only=True)
class ProfileList(Findings):
    """The profiles by the name or file that was given."""

    profiles: Mapping[str, Profile]

    def text(self, notes: Sequence[str]) -> str:
        """The list."""
        return "\n".join([list_text(self.summary("", (), notes)["profiles"]), *notes])

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> dict[str, Any]:
        """The descriptions."""
        return {"profiles": [describe(profile) for profile in self.profiles.values()]}

    def write_more(self, options: argparse.Namespace) -> None:
        """Draw every profile whose raw rows are there; standard error names the files, and the profiles without."""
        if options.plot is None:
            return
        without = []
        for name, profile in self.profiles.items():
            rows = rows_path(name, profile)
            path = options.plot / f"{profile.name.replace('/', '_')}.png"
            if profile.meta.get("measured_points"):
                style.draw_to(path, partial(draw_points, profile))
            elif rows is not None:
                style.draw_to(path, partial(draw_profile, profile, [row for _, row in read_rows(rows)]))
            else:
                without.append(profile.name)
                continue
            say(f"drawn: {path}")
        if without:
            say(fold(f"no raw rows here, not drawn: {', '.join(without)}"))


def find(session: Session) -> Findings:
    """Load the profiles that are named, or all, and keep those that the filters let through."""
    options = session.options
    names = [name for given in options.profiles for name in atlas.matching(given.lower()) or [given]]
    profiles = {name: load_profile(name) for name in names or shipped_profiles()}
    for name in FILTERS:
        wanted = getattr(options, name)
        if wanted is not None:
            profiles = filtered(profiles, name, wanted)
    if options.plot is not None:
        check_folder(options.plot, "--plot")
        if not style.available():
            raise ValueError(style.HINT)
    return ProfileList(heading="", profiles=profiles)


def filtered(profiles: Mapping[str, Profile], name: str, wanted: str) -> dict[str, Profile]:
    """The ``profiles`` whose description contains ``wanted`` under ``name``; ``ValueError`` where none does."""
    values = {key: str(describe(profile)[name] or "") for key, profile in profiles.items()}
    kept = {key: profiles[key] for key, value in values.items() if wanted.lower() in value.lower()}
    if not kept:
        known = sorted({value for value in values.values() if value})
        raise ValueError(
            f"--{name} {wanted!r} fits no profile.{did_you_mean(wanted, known)} Known: {', '.join(known)}."
        )
    return kept


EXPERIMENT = Experiment(
    "profiles.py",
    "List latency profiles with their errors.",
    add_options,
    find,
    plain_parser,
)
