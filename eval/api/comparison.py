"""A comparison in Python: what ``compare`` does, as tables of pandas, Markdown, LaTeX and figures."""

from __future__ import annotations

import json
import math
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from llmsched.eval.api.scenario import Scenario, options_of
from llmsched.eval.cli.frame import ABSENT
from llmsched.eval.cli.options import MAX_SEED, cores
from llmsched.eval.experiments.compare import EXPERIMENT, ComparisonFindings
from llmsched.eval.figures import style
from llmsched.eval.report.artefacts import as_json, result_row
from llmsched.eval.report.markup import latex, markdown
from llmsched.eval.report.tables import Table
from llmsched.policies import Bound, Policy, parse
from llmsched.policies.parameters import declared
from llmsched.policies.registry import first_line
from llmsched.policies.selection import check_labels, parse_list
from llmsched_env.options.declaration import check
from llmsched_env.options.kinds import Number
from llmsched_env.options.suggest import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison found: runs, means with 95 % intervals, differences from the first policy, figures, notes.

    ``print(result)`` shows what ``compare`` prints.  Metrics and their units: docs/reference/metrics.md.
    """

    _findings: ComparisonFindings
    notes: tuple[str, ...]
    """What has to be known to read the result: warnings, choices that were made, policies that were overloaded."""

    def __str__(self) -> str:
        return self._findings.text(self.notes)

    def runs(self) -> pd.DataFrame:
        """A row per policy and seed, the columns of results.csv: ``policy``, ``seed``, every metric."""
        rows = [result_row(outcome) for outcome in self._findings.runs]
        return pd.DataFrame([{key: math.nan if value == "" else value for key, value in row.items()} for row in rows])

    def means(self) -> pd.DataFrame:
        """A row per policy, by its name: ``parameters``, then every metric (counts: sums over the seeds, all else:
        means) and, as ``KEY_ci95``, half of its 95 % interval (NaN with one seed)."""
        rows = {}
        for summary in self._findings.summaries:
            row: dict[str, Any] = {"parameters": summary["parameters"]}
            for key, value in summary.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    row[key] = value
                if key in summary["ci95"]:
                    half = summary["ci95"][key]
                    row[f"{key}_ci95"] = math.nan if half is None else half
            rows[summary["policy"]] = row
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("policy")

    def differences(self) -> pd.DataFrame:
        """A row per policy but the first, by its name: the mean difference of every metric from the first policy,
        paired by seed, and ``KEY_ci95``; a difference is significant where it is larger than its ``KEY_ci95``."""
        rows = {}
        for summary in self._findings.summaries[1:]:
            row: dict[str, float] = {}
            for key, gap in summary["paired"].items():
                row |= {key: gap["difference"], f"{key}_ci95": math.nan if gap["ci95"] is None else gap["ci95"]}
            rows[summary["policy"]] = row
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("policy")

    def summary(self) -> dict[str, Any]:
        """Everything as plain numbers and words: what ``compare --json`` prints, to the digit."""
        findings = self._findings
        found: dict[str, Any] = json.loads(as_json(findings.summary("compare", findings.seeds, self.notes)))
        return found

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, for `to_markdown` and `to_latex`."""
        return tuple(table.name for table in self._findings.tables)

    def to_markdown(self, table: str = "policies") -> str:
        """A table for a page; the best of a column in bold."""
        return markdown(self._table(table))

    def to_latex(self, table: str = "policies") -> str:
        r"""A table for a paper, a ``table`` environment with ``\label{tab:NAME}``; needs the package booktabs."""
        return latex(self._table(table))

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures, for `plot`."""
        return tuple(self._findings.drawings)

    def plot(self, figure: str = "slo_attainment") -> Figure:
        """A figure of matplotlib: a notebook shows it (after ``%matplotlib inline``), ``savefig`` writes it.

        ``ModuleNotFoundError`` without matplotlib; ``ValueError`` where there is no such figure or nothing to draw.
        """
        _check_name("figure", figure, self.figures)
        if not style.available():
            raise ModuleNotFoundError("figures need matplotlib: pip install matplotlib")
        drawn = style.draw_all({figure: self._findings.drawings[figure]})
        if figure not in drawn:
            raise ValueError(f"the runs have no data for the figure {figure!r}.")
        return drawn[figure]

    def _table(self, name: str) -> Table:
        _check_name("table", name, self.tables)
        return next(table for table in self._findings.tables if table.name == name)


def compare(
    policies: str | Sequence[str | Policy | Bound | Callable[..., Any]],
    scenario: Scenario | None = None,
    *,
    seeds: int = 5,
    seed: int = 0,
    jobs: int | None = None,
) -> ComparisonResult:
    """Compare policies on the same arrivals and servers, as the command ``compare`` does.

    ``policies``: texts like ``"static:batch=16"`` or ``"my.py:mine:label=ours"``, in one text separated by commas or in
    a list, which may also hold policies made with ``llmsched.policies.policy`` and plain functions ``(record, params,
    memory, rng) -> (bin, size)``.  ``seeds``: number of seeds, from ``seed`` on; all policies get the same arrivals
    under a seed.  ``jobs``: runs at a time (default: the cores), on which results do not depend.

    ``ValueError``, in one line, for what is not allowed.  What the command would say as a note is in the ``notes`` of
    the result, and a warning too.
    """
    check("seeds", seeds, Number(1, 10_000, whole=True))
    check("seed", seed, Number(0, MAX_SEED, whole=True))
    check("jobs", cores() if jobs is None else jobs, Number(1, 1024, whole=True))
    asked = Scenario() if scenario is None else scenario
    own = {"policies": _bound(policies), "seeds": int(seeds), "seed": int(seed), "jobs": jobs or cores()}
    more = {"against": None, "write_workload": None, "keep_timeline": True}
    session, found = EXPERIMENT.work(Namespace(**(ABSENT | vars(options_of(asked)) | own | more)))
    if found.interrupted:
        raise KeyboardInterrupt
    assert isinstance(found, ComparisonFindings)
    for note in session.notes:
        if note.startswith(WARNED):
            warnings.warn(note.removeprefix(WARNED), stacklevel=2)
    return ComparisonResult(found, tuple(session.notes))


WARNED = "Note: "
"""How a note begins that was a warning."""


def _bound(policies: str | Sequence[str | Policy | Bound | Callable[..., Any]]) -> list[Bound]:
    if isinstance(policies, str):
        return parse_list(policies)
    if not isinstance(policies, Sequence) or not policies:
        raise ValueError(
            f"policies={policies!r} is not allowed: give a text, or a list of texts, policies and functions."
        )
    found = [_bind(one) for one in policies]
    check_labels(found)
    return found


def _bind(given: str | Policy | Bound | Callable[..., Any]) -> Bound:
    if isinstance(given, str):
        return parse(given)
    if isinstance(given, Bound):
        return given
    if not isinstance(given, Policy) and not hasattr(given, "__code__"):
        raise ValueError(f"{given!r} is not a policy: give a text, a policy or a function.")
    made = given if isinstance(given, Policy) else Policy(given.__name__, given, first_line(given), declared({}))
    made.decide  # noqa: B018  (a function that cannot be compiled is refused here)
    return made.bind()


def _check_name(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"there is no {what} {name!r}.{did_you_mean(str(name), known)} There are {', '.join(known)}.")
