"""Tables as Markdown and LaTeX: the same numbers as on the terminal, and nothing that either language would read."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from llmsched.eval import compare
from llmsched.eval.report.markup import best_rows, latex, markdown
from llmsched.eval.report.tables import Column, Table, text
from llmsched.eval.runs.intervals import Interval

NAMES = r"a_b|c*d \ 50 % & #1 {x} $ ~ ^ <y> [z]"
TABLE = Table(
    "t",
    "Title",
    [Column("policy", "policy"), Column("v", "value,", "s", 1, best=-1), Column("u", "", "rank", 0)],
    [
        {"policy": NAMES, "v": Interval(10.04, 1.0), "u": 1},
        {"policy": "second", "v": Interval(9.96, 2.0), "u": 2},
        {"policy": "third", "v": 11.0, "u": None},
        {"policy": "oracle-x", "v": 1.0, "u": math.nan},
    ],
    "A note.",
)


def unescaped_cells(line: str) -> list[str]:
    """The cells of a row of Markdown, read by its rules: a bar behind a backslash is text."""
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_reads_back() -> None:
    """Every row has as many cells as the head, names come back letter by letter, values as the terminal shows them."""
    title, body, note = markdown(TABLE).split("\n\n")
    head, rule, *rows = body.splitlines()
    assert (title, note, rule) == ("**Title**", "A note.", "|---|---|---|")
    assert unescaped_cells(head) == ["policy", "value, s", "rank"]
    cells = [unescaped_cells(row) for row in rows]
    assert [row[0] for row in cells] == [NAMES, "second", "third", "oracle-x"]
    assert [row[2] for row in cells] == ["1", "2", "-", "-"]
    for row in cells:
        assert row[1].strip("*") in text(TABLE)


def test_the_best_is_bold() -> None:
    """Values that are equal as shown are equally good; a clairvoyant policy is never the best."""
    assert best_rows(TABLE, TABLE.columns[1]) == {0, 1} and best_rows(TABLE, TABLE.columns[2]) == set()
    assert [row.count("**") for row in markdown(TABLE).splitlines()[4:8]] == [2, 2, 0, 0]


def test_latex_has_no_stray_commands() -> None:
    """Nothing that LaTeX would read as a command is left of a name; braces and environments close."""
    made = latex(TABLE)
    assert all(letter.isascii() for letter in made)
    row = next(line for line in made.splitlines() if r"a\_b" in line)
    assert len(re.findall(r"(?<!\\)&", row)) == 2 and not re.search(r"(?<!\\)[%#_]", row)
    bare = re.sub(r"\\[{}]", "", made)
    assert bare.count("{") == bare.count("}") and made.count(r"\begin{") == made.count(r"\end{") == 2
    assert r"\begin{tabular}{lrr}" in made and r"\label{tab:t}" in made and r"10.0 $\pm$ 1.0" in made


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_the_option_prints_the_tables(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers of the terminal's table, in the other form."""
    options: list[Any] = ["--policies", "static,multibin", "--requests", "200", "--seeds", "2"]
    assert compare.main(options) == 0
    plain = capsys.readouterr().out
    assert compare.main([*options, "--format", form]) == 0
    made = capsys.readouterr().out.replace(r"$\pm$", "±").replace(",", "")
    row = next(line for line in plain.splitlines() if line.startswith("multibin"))
    for number in re.findall(r"[\d.]+ ± [\d.]+", row):
        assert number in made, number
