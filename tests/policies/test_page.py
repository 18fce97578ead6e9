"""The page of the policies lists every policy and every field of the record."""

from __future__ import annotations

import re

import pytest

from llmsched.policies import get, names, number, registry
from llmsched.policies.parameters import Choice, Parameter, show
from llmsched_env.core.layout import RECORD
from tests.policies.page import PAGE
from tests.policies.tools import CONTINUOUS, EVERY


def test_the_page_explains_every_field() -> None:
    table = PAGE.split("## The record")[1].split("## The schedulers")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    explained = [name for text in first for name in re.findall(r"`(\w+)`", text)]
    assert explained == list(RECORD.names or ())


def cell(name: str, parameter: Parameter) -> str:
    """A parameter as the page shows it."""
    unit = f" {parameter.unit}" if isinstance(parameter, type(number(0))) and parameter.unit else ""
    if isinstance(parameter, Choice):
        unit = f" ({', '.join(parameter.words)})"
    return f"`{name}={show(parameter.default)}`{unit}{' *auto*' * bool(parameter.auto)}"


@pytest.mark.parametrize("name", [*EVERY, *CONTINUOUS])
def test_the_page_lists_every_policy(name: str) -> None:
    made = get(name)
    parameters = ", ".join(cell(key, parameter) for key, parameter in made.params.items())
    assert f"| `{name}` | {parameters} | {made.summary} |" in PAGE.splitlines()


def test_the_page_lists_nothing_else() -> None:
    table = PAGE.split("## The schedulers")[1].split("###")[0]
    listed = re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)
    ours = [name for name in names() if get(name).file.is_relative_to(registry.OURS)]
    assert listed == ours
