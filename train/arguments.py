"""Flags of a training program from the fields of a dataclass: name, type, default and help stand in one place."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

TYPES = {"str": str, "int": int, "float": float}


def setting(default: Any, help_text: str) -> Any:
    """A dataclass field that is also a flag, with its help text."""
    return dataclasses.field(default=default, metadata={"help": help_text})


def flag(name: str) -> str:
    """The flag of a field: ``batch_size`` is ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add a flag for every field of the dataclass ``kind``; a flag that is not given reads None."""
    for field in dataclasses.fields(kind):
        about = f"{field.metadata['help']} (default {field.default})"
        parser.add_argument(flag(field.name), type=TYPES[str(field.type)], metavar="X", help=about)


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add ``--resume``."""
    text = "continue the run in the folder of --out, with the settings that it was started with"
    parser.add_argument("--resume", action="store_true", help=text)


def given_values(options: argparse.Namespace) -> dict[str, Any]:
    """The values that were given on the command line, by field."""
    return {name: value for name, value in vars(options).items() if value is not None}


def command_line(program: str, values: Any) -> str:
    """The command that repeats a run with the dataclass ``values``."""
    words = (f"{flag(field.name)} {getattr(values, field.name)}" for field in dataclasses.fields(values))
    return " ".join([f"python train/{program}", *words])


def first_line(text: str | None) -> str:
    """The first line of a docstring, as the description of a program."""
    return (text or "").splitlines()[0]
