"""The trained networks of one challenger: named one by one, by folders, or by a pattern."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from llmsched.policies import Bound, parse
from llmsched_env.config import SimConfig

_PATH = re.compile(r"(?P<head>.*?:path=)(?P<path>[^:]*)(?P<rest>.*)", re.DOTALL)
SUFFIXES = (".npz", ".json")
BEST = "best"
"""Name of the checkpoint that training leaves in its folder."""


def networks(text: str, config: SimConfig) -> list[Bound]:
    """The policies of a list separated by commas, all runs of one challenger: one policy, other weights.

    ``config`` is a system of the engine that they are to run in.

    ``network:path=FOLDER`` means FOLDER/best; ``network:path=runs/seed*`` stands for every checkpoint, and for the best
    of every folder, that fits the pattern.  ``ValueError`` in one line for a network that is missing, given twice, or
    of another policy.
    """
    found: list[str] = []
    for entry in text.split(","):
        if not entry.strip():
            raise ValueError(f"{text!r} has an empty entry: give policies separated by commas.")
        found += expand_entry(entry.strip())
    for entry in found:
        if found.count(entry) > 1:
            raise ValueError(f"{entry} is given {found.count(entry)} times: give it once.")
    bounds = [parse(entry) for entry in found]
    _check(bounds, config)
    return bounds


def challenger_title(bounds: Sequence[Bound]) -> str:
    """The title of the challenger: as typed, or its name and the number of its networks."""
    return bounds[0].label if len(bounds) == 1 else f"{bounds[0].name} ({len(bounds)} trained networks)"


def expand_entry(entry: str) -> list[str]:
    """``entry``, with the folder or the pattern in its path replaced by the checkpoints it stands for."""
    parts = _PATH.fullmatch(entry)
    if parts is None:
        return [entry]
    path = parts["path"].strip()
    if set("*?[") & set(path):
        matches = {checkpoint(Path(match)) for match in (*glob.glob(path), *glob.glob(path + SUFFIXES[0]))} - {None}
        if not matches:
            raise ValueError(
                f"{entry}: no checkpoint fits. Give a pattern of folders with {BEST}.npz, like runs/seed*."
            )
        stems = sorted((str(match) for match in matches), key=_numbers_in_order)
    else:
        stems = [str(Path(path) / BEST) if Path(path).is_dir() else path]
    return [f"{parts['head']}{stem}{parts['rest']}" for stem in stems]


def checkpoint(path: Path) -> Path | None:
    """The checkpoint, without its suffix, of a file or of a folder; None where ``path`` is neither."""
    stem = path / BEST if path.is_dir() else path.with_suffix("") if path.suffix in SUFFIXES else path
    whole = all(stem.with_name(stem.name + suffix).is_file() for suffix in SUFFIXES)
    return stem if whole else None


def _numbers_in_order(text: str) -> list[tuple[int, str]]:
    """A key that sorts seed2 before seed10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _check(bounds: Sequence[Bound], config: SimConfig) -> None:
    """Weights that cannot be read are refused here; several are networks of one policy, each with its own."""
    first = bounds[0]
    seen: dict[bytes, str] = {}
    for bound in bounds:
        if bound.policy is not first.policy:
            raise ValueError(
                f"{first.label} and {bound.label} are different policies: give networks of one challenger, and others "
                f"as --rivals or --also."
            )
        if bound.autos:
            if len(bounds) > 1:
                raise ValueError(f"{bound.label}: several networks of a challenger leave nothing to auto.")
            continue
        same = seen.setdefault(bound.ready(config).params.tobytes(), bound.label)
        if same != bound.label:
            raise ValueError(f"{same} and {bound.label} hold the same numbers: one network counts once.")
