"""Which request of a trace waits for which: sessions, as far as a file says them (docs/reference/semantics.md, 15)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.showing import shortened

CLOCK_S = 1.0
"""Recorded times may be whole seconds, so an answer up to so much later may have come before a request."""


@dataclass(frozen=True, eq=False)
class Links:
    """Sessions of N rows: ``parent`` (N,) int64, the row whose end releases this one, or -1; ``think_s`` (N,) float64.

    ``followed``: a replay follows them unless it is told otherwise; else rows come by their own clock.  ``clocked``:
    the times of different sessions are on one clock.  ``problem``: why the sessions cannot be followed; empty: they
    can.
    """

    parent: NDArray[np.int64]
    think_s: NDArray[np.float64]
    followed: bool = False
    clocked: bool = True
    problem: str = ""

    def rows(self, order: NDArray[np.int64]) -> Links:
        """Those of some rows, in an order; what waited for a row that is left out waits for that row's parent."""
        place = np.full(len(self.parent), -1)
        place[order] = np.arange(len(order))
        parent, think = self.parent.copy(), self.think_s.copy()
        while not self.problem and (lost := (parent >= 0) & (place[parent] < 0)).any():
            above = parent[lost]
            think[lost] += think[above]
            parent[lost] = parent[above]
        found = np.where(parent >= 0, place[parent], -1)[order]
        return replace(self, parent=found, think_s=think[order])


def chat_links(chats: Sequence[Any], parents: Sequence[Any], time_s: NDArray[np.float64]) -> Links:
    """The trees of Bailian's chats: ``parent_chat_id`` names the request before, -1 none.

    The file has no times of answers, so the time between two requests counts as think time, answer and all.
    """
    n = len(chats)
    parent, think = np.full(n, -1), np.zeros(n)
    place: dict[Hashable, int] = {}
    problem = ""
    for row, chat in enumerate(chats):
        if not isinstance(chat, int | str) or chat in place:
            again = f"is that of row {place[chat] + 1} too" if isinstance(chat, int | str) else "is no id"
            problem = problem or f"row {row + 1}: chat_id={shortened(str(chat))} {again}"
            continue
        place[chat] = row
    for row, before in enumerate(parents):
        if before in (-1, None, "-1", "") or problem:
            continue
        if not isinstance(before, int | str) or before not in place:
            about = "is no chat_id of the file: its session has a gap"
            problem = f"row {row + 1}: parent_chat_id={shortened(str(before))} {about}"
            continue
        parent[row] = place[before]
        think[row] = time_s[row] - time_s[parent[row]]
        if think[row] < 0:
            problem = f"row {row + 1}: it comes {-think[row]:g} s before its parent_chat_id={shortened(str(before))}"
    problem = problem or _cycle(parent)
    return Links(parent, think, problem=problem)


def _cycle(parent: NDArray[np.int64]) -> str:
    """Says the first row that comes back to itself; empty: none does."""
    above, left = parent.copy(), (parent >= 0).sum() + 1
    while left and (above >= 0).any():  # as many steps as the longest chain has
        above = np.where(above >= 0, parent[above], -1)
        left -= 1
    if not (above >= 0).any():
        return ""
    row = int(np.argmax(above >= 0))
    return f"row {row + 1}: its chain of parent_chat_id is a cycle"


def named_links(sessions: Sequence[Any], time_s: NDArray[np.float64], took_s: NDArray[np.float64]) -> Links:
    """Chains of the rows that name the same session; ``took_s`` (N,): time to the answer, NaN where it is not known.

    A request waits for the latest one of its session that had been answered (times may be whole seconds, so a second
    more is granted); where none had, and without a name, it comes by the clock.
    """
    n = len(time_s)
    parent, think = np.full(n, -1), np.zeros(n)
    names = np.array([str(name).strip() if name == name and name is not None else "" for name in sessions])
    end = np.where(np.isnan(took_s), np.inf, time_s + took_s)
    _, number = np.unique(names, return_inverse=True)
    order = np.lexsort((np.arange(n), time_s, number))
    order = order[names[order] != ""]
    before, row = order[:-1], order[1:]
    same = number[before] == number[row]
    answered = end[before] <= time_s[row] + CLOCK_S
    parent[row[same & answered]] = before[same & answered]
    for place in np.flatnonzero(same & ~answered):  # it overlaps: look further back
        back = place
        while back >= 0 and number[order[back]] == number[row[place]]:
            if end[order[back]] <= time_s[row[place]] + CLOCK_S:
                parent[row[place]] = order[back]
                break
            back -= 1
    child = np.flatnonzero(parent >= 0)
    think[child] = np.maximum(0.0, time_s[child] - end[parent[child]])
    bad = np.isfinite(took_s) & (took_s < 0)
    first = int(np.argmax(bad))
    problem = f"row {first + 1}: a time to the answer of {took_s[first]:g} s is not allowed" if bad.any() else ""
    return Links(parent, think, problem=problem)
