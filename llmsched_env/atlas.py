"""The atlas: profiles of GPUs, models and engines of today, in one file, found by name or by a part of it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from llmsched_env import datafiles

SCHEMA = "llmsched-atlas/v1"
FOLDER, FILE = "atlas", "silicon.json"
SHOWN = 6
"""Most names that a message lists."""


@lru_cache
def entries() -> Mapping[str, Mapping[str, Any]]:
    """The profiles of the atlas by name, each with the fields that all have in common; empty without the file."""
    path = datafiles.data_dir("profiles") / FOLDER / FILE
    if not path.is_file():
        return {}
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema={raw.get('schema')!r} is not supported: this version reads {SCHEMA!r}.")
    common = {name: value for name, value in raw.items() if name != "profiles"}
    return {each["name"]: common | each for each in raw["profiles"]}


@lru_cache
def groups() -> tuple[str, ...]:
    """The first parts of the names: GPU/model/engine, sorted."""
    return tuple(sorted({"/".join(name.split("/")[:3]) for name in entries()}))


def matching(text: str) -> list[str]:
    """Names that ``text`` is, or begins up to a / or a -; the last measured first, then those of most points."""
    known = entries()
    if text in known:
        return [text]
    found = [name for name in known if name.startswith((f"{text}/", f"{text}-"))]
    return sorted(found, key=lambda name: (known[name]["measured_to"], known[name]["points"]), reverse=True)


def nearest(text: str) -> list[str]:
    """The groups that have most of GPU, model and engine in common with ``text``, the most similar first; at most 3."""
    asked = text.lower().split("/")
    if len(asked) < 2:
        return []

    def likeness(group: str) -> float:
        parts = zip(asked, group.split("/"), strict=False)
        return sum(SequenceMatcher(None, one, other).ratio() ** 2 for one, other in parts)

    return sorted(groups(), key=likeness, reverse=True)[:3]


def find(text: str) -> Mapping[str, Any] | None:
    """The entry that ``text`` names, None where there is none.

    Where several begin with it, the last measured one is taken, and a warning names it and the others.
    """
    found = matching(text.lower())
    if not found:
        return None
    if len(found) > 1:
        rest = ", ".join(found[1 : 1 + SHOWN]) + (f", ... ({len(found) - 1} in all)" if len(found) - 1 > SHOWN else "")
        warnings.warn(f"profile {text} is {found[0]} here, the last measured; others: {rest}.", stacklevel=3)
    return entries()[found[0]]
