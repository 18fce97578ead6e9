"""The KV cache of requests that come and go: left-padded, every row ends at the same column.  Needs torch.

A request that joins is copied in so that its last token lies in the last filled column; the columns before its first
token are padding, which no attention reads.  Positions do not depend on columns, so rows can be moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmsched.eval.calibration.device.engine import Slab

SPARE_ROWS = 4
"""Rows that a storage has beyond those it needs now, so that not every one that joins makes a new storage."""

SPARE_COLUMNS = 64
"""Columns beyond the longest row: what is held is moved to the left only every so many steps."""


class RowSlab(Slab):
    """A `Slab` whose rows are those in service; `starts` are their first columns."""

    def __init__(self, like: Slab) -> None:
        """Takes over a slab whose prompts are computed."""
        self._keys, self._values = like.keys, like.values
        self.prompts: list[int] = []  # not read after the prefill
        self.filled = self.longest = like.longest
        self.by_row = like.by_row
        self.one_by_one = True
        self.starts = list(like.starts)
        self._look()

    @property
    def columns(self) -> int:
        """Columns of the storage."""
        return self._keys.shape[3]

    def _look(self) -> None:
        """Set what attention sees to the rows in service."""
        rows = len(self.starts)
        self.keys, self.values = self._keys[:, :rows], self._values[:, :rows]
        self.mask = None
        if not self.by_row and any(self.starts):
            columns = torch.arange(self.columns, device=self._keys.device)
            self.mask = (columns >= torch.tensor(self.starts, device=columns.device)[:, None])[:, None, None]

    def join(self, other: Slab, reach: int) -> None:
        """Take the rows of a slab whose prompts are computed; ``reach``: most tokens that any row will hold."""
        rows, needed = len(self.starts) + len(other.starts), max(self.filled - min(self.starts), other.longest)
        if rows > self._keys.shape[1] or needed > self.columns:
            self._store(rows + SPARE_ROWS, needed, max(needed, reach + SPARE_COLUMNS))
        elif other.longest > self.filled:
            self._move(other.longest - self.filled)
        shift, begin = self.filled - other.longest, len(self.starts)
        for row, start in enumerate(other.starts):
            own, theirs = slice(start + shift, self.filled), slice(start, other.longest)
            self._keys[:, begin + row, :, own] = other.keys[:, row, :, theirs]
            self._values[:, begin + row, :, own] = other.values[:, row, :, theirs]
        self.starts += [start + shift for start in other.starts]
        self._look()

    def leave(self, rows: Sequence[int]) -> list[int]:
        """Drop rows; returns those that remain, by their earlier number, in their new order."""
        order, gone = list(range(len(self.starts))), set(rows)
        for row in sorted(gone, reverse=True):
            last = len(order) - 1
            if row != last:  # the last row takes its place
                span = slice(self.starts[last], self.filled)
                self._keys[:, row, :, span] = self._keys[:, last, :, span]
                self._values[:, row, :, span] = self._values[:, last, :, span]
                order[row], self.starts[row] = order[last], self.starts[last]
            order.pop()
            self.starts.pop()
        self._look()
        return order

    def make_room(self, reach: int) -> None:
        """Have a free column for the next step; ``reach``: most tokens that any row will hold."""
        if self.filled < self.columns:
            return
        empty = min(self.starts)
        if empty and self.columns >= reach:
            self._move(-empty)
        else:
            self._store(self._keys.shape[1], self.filled - empty, max(reach, self.filled + 1) + SPARE_COLUMNS)
        self._look()

    def _store(self, rows: int, filled: int, columns: int) -> None:
        """A new storage of so many rows and columns, in which what is held ends at column ``filled``."""
        shape = list(self._keys.shape)
        shape[1], shape[3] = rows, columns
        held, shift = len(self.starts), filled - self.filled
        begin = max(0, -shift)
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = torch.zeros(shape, dtype=old.dtype, device=old.device)
            new[:, :held, :, begin + shift : filled] = old[:, :held, :, begin : self.filled]
            setattr(self, name, new)
        self._moved(shift)

    def _move(self, shift: int) -> None:
        """Move what is held by ``shift`` columns in the storage; the columns that it leaves are padding."""
        begin, held = max(0, -shift), len(self.starts)
        for store in (self._keys, self._values):
            kept = store[:, :held, :, begin : self.filled].clone()
            store[:, :held, :, begin + shift : self.filled + shift] = kept
        self._moved(shift)

    def _moved(self, shift: int) -> None:
        self.starts = [start + shift for start in self.starts]
        self.filled += shift
