"""Policies for the oracle: those of the library that the parity tests compare, and a list of decisions."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles.batch.view import Decide, View


def static(batch: int = 8) -> Decide:
    """The oldest requests, in batches of a fixed size, at once."""
    return lambda view: (view.any, batch)


def dynamic() -> Decide:
    """The oldest requests, as many as the controllers of `any` allow."""
    return lambda view: (view.any, view.targets[view.any])


def multibin(select: str = "roundrobin") -> Decide:
    """A bin at a time, as many as its controllers allow."""
    pointer = -1

    def decide(view: View) -> tuple[int, int]:
        nonlocal pointer
        filled = [bin_ for bin_ in range(view.num_bins) if view.lengths[bin_]]
        if not filled:  # the overdue queue, behind the last bin
            pointer = -1
            return view.num_bins + 1, view.targets[view.num_bins + 1]
        if select == "roundrobin":
            bin_ = min(filled, key=lambda b: (b - pointer - 1) % view.num_bins)
            pointer = bin_
        elif select == "longest":
            bin_ = max(filled, key=lambda b: (view.lengths[b], -b))
        elif select == "oldest":
            bin_ = min(filled, key=lambda b: view.head_number[b])
        else:
            raise ValueError(f"unknown selection {select!r}")
        return bin_, view.targets[bin_]

    return decide


def multibin_fixed(batch: int) -> Decide:
    """Multi-Bin Batching as published: full batches only, in the order in which they became full."""

    def decide(view: View) -> tuple[int, int]:
        full = [bin_ for bin_ in range(view.num_bins) if view.lengths[bin_] >= batch]
        if full:
            return min(full, key=lambda b: view.queues[b][batch - 1]), batch
        filled = [bin_ for bin_ in range(view.num_bins) if view.lengths[bin_]]
        if not filled:
            return view.num_bins + 1, batch
        if view.can_wait:
            return view.any, 0
        return min(filled, key=lambda b: view.head_number[b]), batch

    return decide


def timeout(batch: int, seconds: float) -> Decide:
    """Wait for a full batch, but not longer than this (with ``hold_s`` = ``seconds``)."""

    def decide(view: View) -> tuple[int, int]:
        due = view.waiting >= batch or view.now >= view.oldest_arrival + seconds
        return view.any, batch if due else 0

    return decide


def window() -> Decide:
    """At every tick all that waits."""
    return lambda view: (view.any, view.max_batch if view.tick else 0)


def scripted(choices: Sequence[tuple[int, int]]) -> Decide:
    """These decisions, over and over."""
    asked = -1

    def decide(view: View) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return choices[asked % len(choices)]

    return decide
