"""Lists on the command line: values separated by commas."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def list_of(read: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """A reader of values separated by commas; ``read`` (llmsched.eval.cli.options) reads each.  No value twice."""

    def read_all(text: str) -> tuple[T, ...]:
        values = tuple(read(part.strip()) for part in text.split(","))
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give every value once")
        return values

    return read_all
