"""The search itself: the evolution strategy of train.evolution for some minutes, in a folder where it can go on."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.train.evolution import CURVE, MOST_BYTES, STATE, LossesOf, Search, SearchSettings, read_losses
from llmsched_env.commands.terminal import say
from llmsched_env.files.arrays import read_arrays
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.writing import make_folder, write_bytes, write_text

FACTS = "retuning.json"
"""File of everything that the losses of a folder depend on."""

SAY_EVERY_S = 10.0

HEAD = "generation,mean,best,sigma"


@dataclass(frozen=True)
class Budget:
    """When a search ends: after ``generations``, or at the end of the generation in which ``seconds`` have passed."""

    seconds: float
    generations: int

    def allows(self, number: int, kept: int, spent_s: float) -> bool:
        """Whether generation ``number`` is made: those that are kept always, and at least one."""
        return number <= self.generations and (number <= max(1, kept) or spent_s < self.seconds)


def claim(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make ``folder`` the place of the search that ``facts`` describe; ``ValueError`` where it holds another one."""
    file = folder / FACTS
    wanted = json.loads(json.dumps(facts))
    if file.exists():
        try:
            found = read_json(file)
        except CannotReadError as error:
            raise ValueError(f"{file}: {error}: give another --out.") from None
        found = found if isinstance(found, dict) else {}
        for name in wanted:
            if found.get(name) != wanted[name]:
                raise ValueError(f"{folder} holds a search with another {name}: give another --out.")
        return
    make_folder(folder)
    write_text(file, json.dumps(wanted, indent=1) + "\n")


def spent(file: Path) -> float:
    """Seconds that the kept generations took."""
    if not file.exists():
        return 0.0
    try:
        return float(read_arrays(file, MOST_BYTES)["seconds"].sum())
    except (CannotReadError, KeyError, TypeError):
        raise ValueError(f"{file}: it does not say how long it took: delete it to begin anew.") from None


def evolve(
    settings: SearchSettings, start: NDArray[np.float64], pool: int, losses_of: LossesOf, budget: Budget, folder: Path
) -> tuple[NDArray[np.float64], int]:
    """(centre (D,) of the search, generations): those that the folder holds, and as many more as the budget allows."""
    kept, before_s = read_losses(folder / STATE, settings), spent(folder / STATE)
    search, rows = Search(settings, start, pool), [HEAD]
    clock = said = time.monotonic()

    def spent_s() -> float:
        """Seconds so far, those of earlier starts included."""
        return before_s + time.monotonic() - clock

    def go_on(number: int) -> bool:
        """Whether to make another generation."""
        return budget.allows(number, len(kept), spent_s())

    number = 0
    for number, losses in search.generations(kept, losses_of, go_on):
        rows.append(search.curve)
        if number <= len(kept):
            continue
        content = io.BytesIO()
        np.savez(content, losses=np.array(search.losses), seconds=np.array([spent_s()]))
        write_bytes(folder / STATE, content.getvalue())
        write_text(folder / CURVE, "\n".join([*rows, ""]))
        if time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            line = f"generation {number}: log ratio {np.mean(losses):+.3f} to the generic weights"
            say(f"{line}, at most {max(0.0, budget.seconds - spent_s()):.0f} s left")
    return search.strategy.mean, number
