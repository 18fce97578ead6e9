"""Binary heaps over arrays of any element type: the first element comes before all others."""

from __future__ import annotations

from collections.abc import Callable

from llmsched_env.compiler.parts import part


def binary_heap(before: Callable, swap: Callable) -> tuple[Callable, Callable]:
    """(rise, sink) of a heap, made of an order and a way to exchange two elements.

    ``before(items, requests, a, b)``: whether the element at place a of ``items`` comes before the one at b;
    ``requests`` are the REQUEST rows, for elements that are request numbers.  ``swap(items, a, b)`` exchanges two.
    """

    @part
    def rise(items, requests, at):
        """Move the element at place ``at`` up to where it belongs."""
        while at > 0:
            parent = (at - 1) >> 1
            if not before(items, requests, at, parent):
                break
            swap(items, at, parent)
            at = parent

    @part
    def sink(items, requests, at, size):
        """Move the element at place ``at`` of ``size`` down to where it belongs."""
        while 2 * at + 1 < size:
            child = 2 * at + 1
            if child + 1 < size and before(items, requests, child + 1, child):
                child += 1
            if not before(items, requests, child, at):
                break
            swap(items, at, child)
            at = child

    return rise, sink


@part
def sooner(entries, requests, a, b):
    """Order of entries with fields ``at`` and ``request``: by time, then by number."""
    return entries[a].at < entries[b].at or (entries[a].at == entries[b].at and entries[a].request < entries[b].request)


@part
def swap_entries(entries, a, b):
    """Exchange two such entries."""
    at, request = entries[a].at, entries[a].request
    entries[a].at, entries[a].request = entries[b].at, entries[b].request
    entries[b].at, entries[b].request = at, request
